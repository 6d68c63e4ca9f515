"""Metadata of a model, read from its files without loading it; rejects GGUFs that OpenVINO misreads."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from grm_service.engines.files.gguf_tokenizer import SUPPORTED_PRE_TOKENIZERS
from grm_service.errors import ModelNotLoaded

logger = logging.getLogger(__name__)
_GGUF_CONTROL = 3  # gguf.TokenType.CONTROL
_FILE = "metadata.json"
_TESTED_ENCODINGS = {"F32", "F16", "Q8_0", "Q4_0"}
"""Encodings with which OpenVINO 2026.4 generated the same text as with the same weights in F16."""


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """Context length in tokens, numbers in the KV cache for each token, texts of the control tokens."""

    context: int
    kv_values_per_token: int
    control_tokens: tuple[str, ...]


def read_metadata(path: Path) -> ModelMetadata:
    """Read the metadata of a GGUF, or of a folder: by `write_metadata`, or of transformers.

    Raises ModelNotLoaded for a GGUF from which OpenVINO is known to generate fluent but wrong text.
    """
    if path.suffix == ".gguf":
        return _read_gguf(path)
    if (path / _FILE).exists():
        return TypeAdapter(ModelMetadata).validate_json((path / _FILE).read_bytes())
    return _read_folder(path)


def write_metadata(metadata: ModelMetadata, folder: Path) -> None:
    """Write the metadata into a folder that has no configuration of transformers."""
    (folder / _FILE).write_bytes(TypeAdapter(ModelMetadata).dump_json(metadata))


def kv_values_per_token(config: Mapping[str, Any]) -> int:
    """Return the numbers stored in the KV cache for each token, from a transformers configuration."""
    heads = config["num_attention_heads"]
    size = config.get("head_dim") or config["hidden_size"] // heads
    return int(2 * size * (config.get("num_key_value_heads") or heads) * config["num_hidden_layers"])


def _read_folder(path: Path) -> ModelMetadata:
    config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    tokens = json.loads((path / "tokenizer_config.json").read_text(encoding="utf-8"))
    special = tuple(t["content"] for t in tokens.get("added_tokens_decoder", {}).values() if t.get("special"))
    return ModelMetadata(int(config["max_position_embeddings"]), kv_values_per_token(config), special)


def _read_gguf(path: Path) -> ModelMetadata:
    from gguf import GGUFReader

    reader = GGUFReader(path)
    fields = reader.fields
    encodings = {tensor.tensor_type.name for tensor in reader.tensors}
    _check_gguf(path, fields, encodings, {tensor.name for tensor in reader.tensors})
    architecture = fields["general.architecture"].contents()

    def number(key: str, default: Any = None) -> int:
        field = fields.get(f"{architecture}.{key}")
        return int(default if field is None else field.contents())

    heads = number("attention.head_count")
    size = number("embedding_length") // heads
    keys, values = number("attention.key_length", size), number("attention.value_length", size)
    kv_values = (keys + values) * number("attention.head_count_kv", heads) * number("block_count")
    return ModelMetadata(number("context_length"), kv_values, _gguf_control_tokens(fields))


def _gguf_control_tokens(fields: dict[str, Any]) -> tuple[str, ...]:
    types, tokens = fields["tokenizer.ggml.token_type"], fields["tokenizer.ggml.tokens"]
    control = [i for i, part in enumerate(types.data) if types.parts[part][0] == _GGUF_CONTROL]
    return tuple(bytes(tokens.parts[tokens.data[i]]).decode() for i in control)


def _check_gguf(path: Path, fields: dict[str, Any], encodings: set[str], tensors: set[str]) -> None:
    pre = fields["tokenizer.ggml.pre"].contents() if "tokenizer.ggml.pre" in fields else None
    scaling = [key for key in fields if ".rope.scaling." in key and key.endswith(("type", "factor"))]
    misread = {
        "weights in Q4_1": "Q4_1" in encodings,
        f"the tokenizer {pre}": pre not in SUPPORTED_PRE_TOKENIZERS,
        "scaled rotary positions": bool(scaling) or "rope_freqs.weight" in tensors,
    }
    if problems := [name for name, present in misread.items() if present]:
        raise ModelNotLoaded(
            f"{path} has {', '.join(problems)}, which OpenVINO misreads: use an F16, Q8_0 or Q4_0 GGUF of a "
            "SmolLM or Qwen model, or the model's safetensors with the transformers engine"
        )
    if untested := encodings - _TESTED_ENCODINGS:
        logger.warning("%s: OpenVINO is untested with its weights in %s", path, ", ".join(sorted(untested)))
