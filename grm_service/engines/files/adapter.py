"""A LoRA adapter as PEFT saves it: read whole, or refused; nothing in it is passed over."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grm_service.errors import ModelNotLoaded

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]

_CONFIG, WEIGHTS, _PREFIX = "adapter_config.json", "adapter_model.safetensors", "base_model.model."
# What a merge needs not know, or sees in the tensors. Any other key that is set changes the arithmetic
# (use_dora, lora_bias, trainable_token_indices ...): PEFT grows new ones, so this list says what is known.
_UNDERSTOOD = {
    "alpha_pattern", "auto_mapping", "base_model_name_or_path", "bias", "eva_config", "exclude_modules",
    "fan_in_fan_out",  # PEFT ignores it for linear layers, and these models have no others
    "inference_mode", "init_lora_weights", "layers_pattern", "layers_to_transform", "lora_alpha",
    "lora_dropout", "megatron_core", "modules_to_save", "peft_type", "peft_version", "qalora_group_size", "r",
    "rank_pattern", "revision", "runtime_config", "target_modules", "task_type", "use_rslora",
}  # fmt: skip
_RIGHT: dict[str, Callable[[Any], bool]] = {
    "peft_type": lambda value: value == "LORA",
    "target_modules": bool,
    # The others take something out of the base's weights, so the adapter no longer fits them.
    "init_lora_weights": lambda value: value in (True, False, None, "gaussian", "orthogonal", "eva"),
}


@dataclass(frozen=True, slots=True)
class LoraPair:
    """Two thin factors, whose product times `scale` is added to a weight."""

    down: Any
    up: Any
    scale: float


@dataclass(frozen=True, slots=True)
class Adapter:
    """By the names of the base's weights: those that it replaces, and what it adds to others."""

    whole: dict[str, Any] = field(default_factory=dict)
    pairs: dict[str, LoraPair] = field(default_factory=dict)

    @property
    def touched(self) -> set[str]:
        return {*self.whole, *self.pairs}

    def applied(self, name: str, weight: Array) -> Array:
        """A weight of the base as the adapter replaces it, or with what it adds."""
        if name in self.whole:
            weight = numbers(self.whole[name])
        pair = self.pairs.get(name)
        return weight + pair.scale * (numbers(pair.up) @ numbers(pair.down)) if pair else weight


def is_adapter(path: Path) -> bool:
    """Whether the folder holds a PEFT adapter, alone or beside a model."""
    return (path / _CONFIG).is_file()


def base_of(path: Path) -> Path | None:
    """The folder of the adapter's base, where the adapter says it and it is here."""
    named = _config(path).get("base_model_name_or_path")
    base = Path(named).expanduser() if named else path
    return base if base != path and (base / "config.json").is_file() else None


def weights_of(path: Path) -> Path:
    """The file of an adapter's tensors. Raises ModelNotLoaded where there is none."""
    if not (path / WEIGHTS).is_file():
        raise ModelNotLoaded(f"the adapter {path} has no {WEIGHTS}")
    return path / WEIGHTS


def check(path: Path) -> None:
    """Raises ModelNotLoaded for what is more than a plain LoRA.

    Such an adapter is not for transformers either: 5.24 loads a DoRA otherwise than PEFT does, and one that
    names no target_modules in part, with a warning.
    """
    config = _config(path)
    odd = {key for key, value in config.items() if value and key not in _UNDERSTOOD}
    odd |= {key for key, right in _RIGHT.items() if not right(config.get(key))}
    if odd:
        told = ", ".join(f"{key}: {config.get(key)}" for key in sorted(odd))
        raise ModelNotLoaded(
            f"the adapter {path} is not a plain LoRA ({told}): merge it with PEFT (merge_and_unload), "
            "save the model and use that"
        )


def load(path: Path, known: Collection[str]) -> Adapter:
    """Of a folder; `known` are the base's weights. Raises ModelNotLoaded for what is not understood."""
    from gguf.utility import SafetensorsLocal

    check(path)
    config = _config(path)
    stored = SafetensorsLocal(weights_of(path)).tensors
    left = {name.removeprefix(_PREFIX): tensor for name, tensor in stored.items()}
    adapter = Adapter()
    for name in known:
        _take(name, left, adapter, config)
    if left:
        raise ModelNotLoaded(
            f"{len(left)} tensors of the adapter {path} belong to no weight of the base, "
            f"such as {min(left)}: is it the right base?"
        )
    if not adapter.touched:
        raise ModelNotLoaded(f"the adapter {path} holds no tensors")
    return adapter


def numbers(tensor: Any) -> Array:
    """A stored tensor's values; bf16 too, for which numpy has no type."""
    from gguf import GGMLQuantizationType
    from gguf.quants import dequantize

    if tensor.dtype not in ("F32", "F16", "BF16"):
        raise ValueError(f"weights stored as {tensor.dtype} cannot be read")
    values: Array = dequantize(tensor.mmap_bytes(), GGMLQuantizationType[tensor.dtype])
    return values.reshape(tensor.shape)


def _config(path: Path) -> dict[str, Any]:
    return dict(json.loads((path / _CONFIG).read_text(encoding="utf-8")))


def _take(name: str, left: dict[str, Any], adapter: Adapter, config: dict[str, Any]) -> None:
    """Moves out of `left` what belongs to the weight."""
    module, _, kind = name.rpartition(".")
    for stored in (name, f"{module}.base_layer.{kind}"):
        if stored in left:
            adapter.whole[name] = left.pop(stored)
    down, up = f"{module}.lora_A.{kind}", f"{module}.lora_B.{kind}"
    if kind == "weight" and down in left and up in left:
        rank = left[down].shape[0]
        adapter.pairs[name] = LoraPair(left.pop(down), left.pop(up), _scale(module, rank, config))


def _scale(module: str, rank: int, config: dict[str, Any]) -> float:
    patterns: dict[str, float] = config.get("alpha_pattern") or {}
    own = [alpha for key, alpha in patterns.items() if re.match(rf"(.*\.)?({key})$", module)]
    alpha = float(own[0] if own else config["lora_alpha"])
    return alpha / (rank**0.5 if config.get("use_rslora") else rank)
