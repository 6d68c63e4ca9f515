"""A transformers folder read without torch, with a LoRA adapter merged in where there is one.

Weights are read and merged one by one, so memory holds the largest of them and not the model.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grm_service.engines.files import adapter
from grm_service.engines.files.adapter import Adapter
from grm_service.errors import ModelNotLoaded

if TYPE_CHECKING:
    from grm_service.engines.files.adapter import Array

FAMILIES = {"LlamaForCausalLM": "llama", "Qwen2ForCausalLM": "qwen2", "Qwen3ForCausalLM": "qwen3"}
"""The architectures that OpenVINO's GGUF reader knows, and what a GGUF calls them."""

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
_WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"
_ELSE = "the transformers engine runs it as it is"


def family(path: Path) -> str | None:
    """Of the model in a folder; None where OpenVINO's GGUF reader does not know it."""
    config = path / "config.json"
    named = _json(config).get("architectures") if config.is_file() else None
    return FAMILIES.get(named[0]) if named else None


def has_weights(path: Path) -> bool:
    """Whether the folder holds a model's own weights."""
    return (path / _WEIGHTS).is_file() or (path / _INDEX).is_file()


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A base's configuration and tensors by name, and the adapter, which may be empty."""

    name: str
    tokenizer: Path
    config: dict[str, Any]
    tensors: dict[str, Any]
    adapter: Adapter

    @classmethod
    def of(cls, source: Path, base: Path | None) -> Checkpoint:
        """Of a model's folder, or of an adapter's and its base's. Raises ModelNotLoaded."""
        folder = _base_folder(source, base)
        config = _json(folder / "config.json")
        _check(folder, config)
        tensors, tied = _tensors(folder, config)
        merged = adapter.load(source, tensors) if adapter.is_adapter(source) else Adapter()
        if tied and not {HEAD, EMBEDDING} & merged.touched:
            del tensors[HEAD]
        # An adapter may have been trained with other tokens or another chat template.
        tokenizer = source if (source / "tokenizer.json").is_file() else folder
        return cls(source.resolve().name, tokenizer, config, tensors, merged)

    @property
    def family(self) -> str:
        return FAMILIES[self.config["architectures"][0]]

    @property
    def heads(self) -> tuple[int, int, int]:
        """Of queries, of keys, and the size of one, which not every configuration says."""
        queries, keys = (self.shape(f"model.layers.0.self_attn.{x}_proj.weight")[0] for x in "qk")
        size = queries // int(self.config["num_attention_heads"])
        return queries // size, keys // size, size

    @property
    def rope_theta(self) -> float:
        return float(_rope(self.config).get("rope_theta", 10000.0))

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self.adapter.whole.get(name, self.tensors[name]).shape)

    def base(self, name: str) -> Array:
        """A weight as the base has it."""
        return adapter.numbers(self.tensors[name])

    def merged(self, name: str) -> Array:
        """The same as the adapter has it."""
        return self.adapter.applied(name, self.base(name))


def _json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8")))


def _base_folder(source: Path, base: Path | None) -> Path:
    if not adapter.is_adapter(source):
        if base is not None:
            raise ModelNotLoaded(f"{source} has no adapter_config.json: it is no adapter and has no base")
        return source
    if base is None and has_weights(source):
        raise ModelNotLoaded(f"{source} holds a model and an adapter: name the adapter's base with --base")
    found = base or adapter.base_of(source)
    if found is None:
        raise ModelNotLoaded(f"the base of the adapter {source} is not here: name its folder with --base")
    return found


def _check(folder: Path, config: dict[str, Any]) -> None:
    """Raises ModelNotLoaded for what OpenVINO's GGUF reader refuses, or leaves out without a word."""
    named = (config.get("architectures") or ["an architecture that it does not name"])[0]
    if named not in FAMILIES:
        known = ", ".join(FAMILIES)
        raise ModelNotLoaded(f"{folder} is {named}, and OpenVINO reads {known} from a GGUF; {_ELSE}")
    if odd := list(_odd(config)):
        raise ModelNotLoaded(f"{folder} has {', '.join(odd)}: OpenVINO's GGUF reader leaves it out; {_ELSE}")


def _odd(config: dict[str, Any]) -> Iterator[str]:
    rope = _rope(config)
    kind = rope.get("rope_type") or rope.get("type") or "default"
    if kind != "default" or rope.get("partial_rotary_factor", 1) != 1:
        yield f"scaled or partial rotary positions ({kind})"
    if config.get("use_sliding_window") or set(config.get("layer_types") or ()) - {"full_attention"}:
        yield "sliding attention"
    if config.get("hidden_act", "silu") != "silu":
        yield f"the activation {config['hidden_act']}"
    # It brings a llama's queries and keys into another order, and not their biases.
    if config.get("attention_bias") and FAMILIES[config["architectures"][0]] == "llama":
        yield "biases of queries and keys"
    if config.get("quantization_config"):
        yield "quantised weights"


def _rope(config: dict[str, Any]) -> dict[str, Any]:
    """As transformers 4 writes it, and as 5 does."""
    return config | (config.get("rope_scaling") or {}) | (config.get("rope_parameters") or {})


def _tensors(folder: Path, config: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """All tensors by name, and whether the head is the embedding."""
    from gguf.utility import SafetensorsLocal

    index = folder / _INDEX
    files = sorted(set(_json(index)["weight_map"].values())) if index.is_file() else [_WEIGHTS]
    found = {n: t for file in files for n, t in SafetensorsLocal(folder / file).tensors.items()}
    # Old files keep what is computed anyway.
    tensors = {n: t for n, t in found.items() if not n.endswith("rotary_emb.inv_freq")}
    tied = bool(config.get("tie_word_embeddings", HEAD not in tensors))
    if tied:
        tensors[HEAD] = tensors[EMBEDDING]
    elif HEAD not in tensors:
        raise ModelNotLoaded(f"{folder} lacks the weight {HEAD}")
    return tensors, tied
