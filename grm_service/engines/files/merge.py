"""Merging of a LoRA adapter into the weights of a GGUF of the Llama or Qwen family, without torch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grm_service.engines.files.adapter import Adapter, load_adapter, to_numpy
from grm_service.engines.files.checkpoint import FAMILIES
from grm_service.errors import ModelNotLoaded

if TYPE_CHECKING:
    from grm_service.engines.files.adapter import Array

_WEIGHT = ".weight"


def merge_functions(reader: Any, folder: Path) -> dict[str, Callable[[Array], Array]]:
    """Return, for the GGUF name of each weight that the adapter changes, a function that merges the adapter.

    Raises ModelNotLoaded if the adapter belongs to another model, is not a plain LoRA or changes nothing.
    """
    import numpy as np

    names = _gguf_names(reader)
    adapter = load_adapter(folder, names)
    if not adapter.replaced and not any(np.any(to_numpy(pair.up)) for pair in adapter.pairs.values()):
        raise ModelNotLoaded(f"the adapter {folder} changes nothing: was it trained?")
    return {
        names[name]: partial(_merge, adapter, name, _permuted_heads(reader, name))
        for name in adapter.changed_names
    }


def interleave_halves(weight: Array, heads: int) -> Array:
    """Permute a Llama q_proj or k_proj weight (rows, width) to the row order of a GGUF.

    Rotary positions rotate two rows of a head together. transformers stores all first rows, then all second
    rows; a GGUF interleaves them.
    """
    return _permute(weight, heads, 2)


def _merge(adapter: Adapter, name: str, heads: int | None, weight: Array) -> Array:
    if heads is None:
        return adapter.apply(name, weight)
    halves = _permute(weight, heads, weight.shape[0] // heads // 2)
    return interleave_halves(adapter.apply(name, halves), heads)


def _permute(weight: Array, heads: int, outer: int) -> Array:
    rows, width = weight.shape
    return weight.reshape(heads, outer, rows // heads // outer, width).swapaxes(1, 2).reshape(rows, width)


def _gguf_names(reader: Any) -> dict[str, str]:
    """Return the GGUF name of each weight by its transformers name, which adapters use."""
    from gguf import MODEL_ARCH, get_tensor_name_map

    family = _family(reader)
    if family not in FAMILIES.values():
        known = ", ".join(FAMILIES.values())
        raise ModelNotLoaded(f"adapters can be merged into a GGUF of {known}, and this one is {family}")
    present = {tensor.name for tensor in reader.tensors}
    mapping = get_tensor_name_map(MODEL_ARCH[family.upper()], _field(reader, f"{family}.block_count")).mapping
    names = {f"{name}{_WEIGHT}": f"{gguf_name}{_WEIGHT}" for name, (_, gguf_name) in mapping.items()}
    return {name: gguf for name, gguf in names.items() if gguf in present and name.startswith("model.")}


def _permuted_heads(reader: Any, name: str) -> int | None:
    """Return the number of heads of a weight whose rows a Llama GGUF permutes, None for all other weights."""
    if _family(reader) != "llama":
        return None
    if name.endswith(f".q_proj{_WEIGHT}"):
        return int(_field(reader, "llama.attention.head_count"))
    if name.endswith(f".k_proj{_WEIGHT}"):
        return int(_field(reader, "llama.attention.head_count_kv"))
    return None


def _family(reader: Any) -> str:
    return str(_field(reader, "general.architecture"))


def _field(reader: Any, key: str) -> Any:
    return reader.fields[key].contents()
