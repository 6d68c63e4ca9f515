"""A LoRA adapter merged into the weights of a GGUF of the llama family, without torch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grm_service.engines.files import adapter
from grm_service.engines.files.adapter import Adapter
from grm_service.errors import ModelNotLoaded

if TYPE_CHECKING:
    from grm_service.engines.files.adapter import Array

_WEIGHT = ".weight"


def merges(reader: Any, folder: Path) -> dict[str, Callable[[Array], Array]]:
    """By a weight's name in the GGUF: what makes the adapter's out of the base's.

    Raises ModelNotLoaded for an adapter that is not this model's, is not understood or changes nothing.
    """
    import numpy as np

    names = _names(reader)
    loaded = adapter.load(folder, names)
    if not loaded.whole and not any(np.any(adapter.numbers(pair.up)) for pair in loaded.pairs.values()):
        raise ModelNotLoaded(f"the adapter {folder} changes nothing: has it been trained?")
    return {names[name]: partial(_merged, loaded, name, _heads(reader, name)) for name in loaded.touched}


def interleaved(weight: Array, heads: int) -> Array:
    """A GGUF keeps the rows of a llama's head in pairs that rotate together, not in two halves."""
    return _swapped(weight, heads, 2)


def _merged(loaded: Adapter, name: str, heads: int | None, weight: Array) -> Array:
    if heads is None:
        return loaded.applied(name, weight)
    halves = _swapped(weight, heads, weight.shape[0] // heads // 2)
    return interleaved(loaded.applied(name, halves), heads)


def _swapped(weight: Array, heads: int, outer: int) -> Array:
    rows, width = weight.shape
    return weight.reshape(heads, outer, rows // heads // outer, width).swapaxes(1, 2).reshape(rows, width)


def _names(reader: Any) -> dict[str, str]:
    """Of each weight in the GGUF, by what transformers calls it: the names that an adapter uses."""
    from gguf import MODEL_ARCH, get_tensor_name_map

    family = _field(reader, "general.architecture")
    if family != "llama":
        raise ModelNotLoaded(f"an adapter is merged into a GGUF of the llama family, and this is {family}")
    there = {tensor.name for tensor in reader.tensors}
    known = get_tensor_name_map(MODEL_ARCH.LLAMA, _field(reader, "llama.block_count")).mapping
    named = {f"{theirs}{_WEIGHT}": f"{ours}{_WEIGHT}" for theirs, (_, ours) in known.items()}
    return {theirs: ours for theirs, ours in named.items() if ours in there and theirs.startswith("model.")}


def _heads(reader: Any, name: str) -> int | None:
    """Of a weight whose rows a GGUF has in another order."""
    if name.endswith(f".q_proj{_WEIGHT}"):
        return int(_field(reader, "llama.attention.head_count"))
    if name.endswith(f".k_proj{_WEIGHT}"):
        return int(_field(reader, "llama.attention.head_count_kv"))
    return None


def _field(reader: Any, key: str) -> Any:
    return reader.fields[key].contents()
