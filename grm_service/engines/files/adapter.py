"""LoRA adapters in PEFT's format. An adapter is loaded completely or rejected; no part of it is ignored."""

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
# Keys that do not matter for a merge, or whose effect is visible in the tensors. Any other key with a value
# changes the arithmetic (use_dora, lora_bias, trainable_token_indices ...). PEFT keeps adding keys, so this
# lists the known ones.
_KNOWN_KEYS = {
    "alpha_pattern", "auto_mapping", "base_model_name_or_path", "bias", "eva_config", "exclude_modules",
    "fan_in_fan_out",  # PEFT ignores it for linear layers, and these models have no others
    "inference_mode", "init_lora_weights", "layers_pattern", "layers_to_transform", "lora_alpha",
    "lora_dropout", "megatron_core", "modules_to_save", "peft_type", "peft_version", "qalora_group_size", "r",
    "rank_pattern", "revision", "runtime_config", "target_modules", "task_type", "use_rslora",
}  # fmt: skip
_VALID_VALUES: dict[str, Callable[[Any], bool]] = {
    "peft_type": lambda value: value == "LORA",
    "target_modules": bool,
    # The other initializations subtract from the base's weights, so the adapter does not fit the original
    # base.
    "init_lora_weights": lambda value: value in (True, False, None, "gaussian", "orthogonal", "eva"),
}


@dataclass(frozen=True, slots=True)
class LoraPair:
    """The factors of a weight's update, `scale * up @ down`, as stored tensors.

    `down` is (rank, inputs), `up` is (outputs, rank).
    """

    down: Any
    up: Any
    scale: float


@dataclass(frozen=True, slots=True)
class Adapter:
    """The weights that an adapter replaces and those that it updates, by their names in the base model."""

    replaced: dict[str, Any] = field(default_factory=dict)
    pairs: dict[str, LoraPair] = field(default_factory=dict)

    @property
    def changed_names(self) -> set[str]:
        return {*self.replaced, *self.pairs}

    def apply(self, name: str, weight: Array) -> Array:
        """Return a weight of the base with the adapter merged in."""
        if name in self.replaced:
            weight = to_numpy(self.replaced[name])
        pair = self.pairs.get(name)
        return weight + pair.scale * (to_numpy(pair.up) @ to_numpy(pair.down)) if pair else weight


def is_adapter(path: Path) -> bool:
    """Return True if the folder holds a PEFT adapter, with or without a model beside it."""
    return (path / _CONFIG).is_file()


def base_folder(path: Path) -> Path | None:
    """Return the folder of the adapter's base model; None if its configuration names no local folder."""
    name = _read_config(path).get("base_model_name_or_path")
    base = Path(name).expanduser() if name else path
    return base if base != path and (base / "config.json").is_file() else None


def weights_file(path: Path) -> Path:
    """Return the file of an adapter's tensors. Raises ModelNotLoaded if it is missing."""
    if not (path / WEIGHTS).is_file():
        raise ModelNotLoaded(f"the adapter {path} has no {WEIGHTS}")
    return path / WEIGHTS


def check_plain_lora(path: Path) -> None:
    """Raise ModelNotLoaded if the adapter is not a plain LoRA.

    transformers cannot be trusted with others either: 5.24 loads a DoRA differently from PEFT, and an
    adapter without target_modules only in part, with a warning.
    """
    config = _read_config(path)
    unsupported = {key for key, value in config.items() if value and key not in _KNOWN_KEYS}
    unsupported |= {key for key, is_valid in _VALID_VALUES.items() if not is_valid(config.get(key))}
    if unsupported:
        values = ", ".join(f"{key}: {config.get(key)}" for key in sorted(unsupported))
        raise ModelNotLoaded(
            f"the adapter {path} is not a plain LoRA ({values}): merge it with PEFT (merge_and_unload), "
            "save the model and use that"
        )


def load_adapter(path: Path, base_names: Collection[str]) -> Adapter:
    """Load an adapter; `base_names` are the names of the base's weights.

    Raises ModelNotLoaded if it is not a plain LoRA, is empty, or has tensors that fit no weight of the base.
    """
    from gguf.utility import SafetensorsLocal

    check_plain_lora(path)
    config = _read_config(path)
    stored = SafetensorsLocal(weights_file(path)).tensors
    remaining = {name.removeprefix(_PREFIX): tensor for name, tensor in stored.items()}
    adapter = Adapter()
    for name in base_names:
        _move_tensors(name, remaining, adapter, config)
    if remaining:
        raise ModelNotLoaded(
            f"{len(remaining)} tensors of the adapter {path} belong to no weight of the base, "
            f"such as {min(remaining)}: is it the right base?"
        )
    if not adapter.changed_names:
        raise ModelNotLoaded(f"the adapter {path} holds no tensors")
    return adapter


def to_numpy(tensor: Any) -> Array:
    """Return a stored tensor's values as an array; bf16, which numpy lacks, becomes float32."""
    from gguf import GGMLQuantizationType
    from gguf.quants import dequantize

    if tensor.dtype not in ("F32", "F16", "BF16"):
        raise ValueError(f"weights stored as {tensor.dtype} cannot be read")
    values: Array = dequantize(tensor.mmap_bytes(), GGMLQuantizationType[tensor.dtype])
    return values.reshape(tensor.shape)


def _read_config(path: Path) -> dict[str, Any]:
    return dict(json.loads((path / _CONFIG).read_text(encoding="utf-8")))


def _move_tensors(name: str, remaining: dict[str, Any], adapter: Adapter, config: dict[str, Any]) -> None:
    """Move the tensors of one weight from `remaining` to the adapter."""
    module, _, kind = name.rpartition(".")
    for stored in (name, f"{module}.base_layer.{kind}"):
        if stored in remaining:
            adapter.replaced[name] = remaining.pop(stored)
    down, up = f"{module}.lora_A.{kind}", f"{module}.lora_B.{kind}"
    if kind == "weight" and down in remaining and up in remaining:
        rank = remaining[down].shape[0]
        adapter.pairs[name] = LoraPair(remaining.pop(down), remaining.pop(up), _scale(module, rank, config))


def _scale(module: str, rank: int, config: dict[str, Any]) -> float:
    """Return alpha / rank, or alpha / sqrt(rank) for rsLoRA, as PEFT computes it for a module."""
    patterns: dict[str, float] = config.get("alpha_pattern") or {}
    own = [alpha for key, alpha in patterns.items() if re.match(rf"(.*\.)?({key})$", module)]
    alpha = float(own[0] if own else config["lora_alpha"])
    return alpha / (rank**0.5 if config.get("use_rslora") else rank)
