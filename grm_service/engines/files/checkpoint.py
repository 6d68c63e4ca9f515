"""A transformers checkpoint read without torch, with a LoRA adapter merged in if there is one.

Weights are read and merged one at a time, so memory holds the largest weight, not the model.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grm_service.engines.files.adapter import Adapter, base_folder, is_adapter, load_adapter, to_numpy
from grm_service.errors import ModelNotLoaded

if TYPE_CHECKING:
    from grm_service.engines.files.adapter import Array

FAMILIES = {"LlamaForCausalLM": "llama", "Qwen2ForCausalLM": "qwen2", "Qwen3ForCausalLM": "qwen3"}
"""The architectures that OpenVINO's GGUF reader supports, with their names in a GGUF."""

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
_WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"
_USE_TRANSFORMERS = "use the transformers engine"


def family(path: Path) -> str | None:
    """Return the GGUF architecture of the model in a folder; None if OpenVINO's GGUF reader lacks it."""
    config = path / "config.json"
    architectures = _read_json(config).get("architectures") if config.is_file() else None
    return FAMILIES.get(architectures[0]) if architectures else None


def has_weights(path: Path) -> bool:
    """Return True if the folder holds a model's own weights."""
    return (path / _WEIGHTS).is_file() or (path / _INDEX).is_file()


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A base model's configuration and tensors by name, and an adapter, which may be empty."""

    name: str
    tokenizer: Path
    config: dict[str, Any]
    tensors: dict[str, Any]
    adapter: Adapter

    @classmethod
    def load(cls, source: Path, base: Path | None) -> Checkpoint:
        """Load the folder of a model, or of an adapter and its base. Raises ModelNotLoaded."""
        folder = _base_folder(source, base)
        config = _read_json(folder / "config.json")
        _check_config(folder, config)
        tensors, tied = _read_tensors(folder, config)
        adapter = load_adapter(source, tensors) if is_adapter(source) else Adapter()
        if tied and not {HEAD, EMBEDDING} & adapter.changed_names:
            del tensors[HEAD]
        # An adapter may have been trained with a different chat template or additional tokens.
        tokenizer = source if (source / "tokenizer.json").is_file() else folder
        return cls(source.resolve().name, tokenizer, config, tensors, adapter)

    @property
    def family(self) -> str:
        return FAMILIES[self.config["architectures"][0]]

    @property
    def heads(self) -> tuple[int, int, int]:
        """The number of query heads and of key heads, and the size of a head.

        Computed from the weights, because some configurations lack `head_dim`.
        """
        queries, keys = (self.shape(f"model.layers.0.self_attn.{x}_proj.weight")[0] for x in "qk")
        size = queries // int(self.config["num_attention_heads"])
        return queries // size, keys // size, size

    @property
    def rope_theta(self) -> float:
        return float(_rope(self.config).get("rope_theta", 10000.0))

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self.adapter.replaced.get(name, self.tensors[name]).shape)

    def base_weight(self, name: str) -> Array:
        """Return a weight of the base model."""
        return to_numpy(self.tensors[name])

    def merged_weight(self, name: str) -> Array:
        """Return a weight with the adapter merged in."""
        return self.adapter.apply(name, self.base_weight(name))


def _read_json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8")))


def _base_folder(source: Path, base: Path | None) -> Path:
    if not is_adapter(source):
        if base is not None:
            raise ModelNotLoaded(f"{source} has no adapter_config.json: it is no adapter and has no base")
        return source
    if base is None and has_weights(source):
        raise ModelNotLoaded(f"{source} holds a model and an adapter: name the adapter's base with --base")
    folder = base or base_folder(source)
    if folder is None:
        raise ModelNotLoaded(f"the base of the adapter {source} is missing: name its folder with --base")
    return folder


def _check_config(folder: Path, config: dict[str, Any]) -> None:
    """Raise ModelNotLoaded for a model that OpenVINO's GGUF reader rejects or would read only in part."""
    architecture = (config.get("architectures") or ["not named"])[0]
    if architecture not in FAMILIES:
        supported = ", ".join(FAMILIES)
        raise ModelNotLoaded(
            f"the architecture of {folder} is {architecture}, and OpenVINO reads only {supported} "
            f"from a GGUF; {_USE_TRANSFORMERS}"
        )
    if unsupported := list(_unsupported_features(config)):
        raise ModelNotLoaded(
            f"{folder} has {', '.join(unsupported)}: OpenVINO's GGUF reader ignores that; {_USE_TRANSFORMERS}"
        )


def _unsupported_features(config: dict[str, Any]) -> Iterator[str]:
    rope = _rope(config)
    kind = rope.get("rope_type") or rope.get("type") or "default"
    if kind != "default" or rope.get("partial_rotary_factor", 1) != 1:
        yield f"scaled or partial rotary positions ({kind})"
    if config.get("use_sliding_window") or set(config.get("layer_types") or ()) - {"full_attention"}:
        yield "sliding attention"
    if config.get("hidden_act", "silu") != "silu":
        yield f"the activation {config['hidden_act']}"
    # The reader permutes the rows of a Llama's query and key weights, but not those of their biases.
    if config.get("attention_bias") and FAMILIES[config["architectures"][0]] == "llama":
        yield "biases of queries and keys"
    if config.get("quantization_config"):
        yield "quantised weights"


def _rope(config: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration with the rotary settings of transformers 4 or 5 at the top level."""
    return config | (config.get("rope_scaling") or {}) | (config.get("rope_parameters") or {})


def _read_tensors(folder: Path, config: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """Return all tensors by name, and True if the head is tied to the embedding."""
    from gguf.utility import SafetensorsLocal

    index = folder / _INDEX
    files = sorted(set(_read_json(index)["weight_map"].values())) if index.is_file() else [_WEIGHTS]
    stored = {n: t for file in files for n, t in SafetensorsLocal(folder / file).tensors.items()}
    # Old checkpoints store these, although they are computed from the configuration.
    tensors = {n: t for n, t in stored.items() if not n.endswith("rotary_emb.inv_freq")}
    tied = bool(config.get("tie_word_embeddings", HEAD not in tensors))
    if tied:
        tensors[HEAD] = tensors[EMBEDDING]
    elif HEAD not in tensors:
        raise ModelNotLoaded(f"{folder} lacks the weight {HEAD}")
    return tensors, tied
