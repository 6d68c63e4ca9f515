"""What a model's files say of it, read without loading it, and what OpenVINO would misread in them."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grm_service.engines.files.vocabulary import SPLITS
from grm_service.errors import ModelNotLoaded

logger = logging.getLogger(__name__)
_GGUF_CONTROL = 3  # gguf.TokenType.CONTROL
_COMPARED = {"F32", "F16", "Q8_0", "Q4_0"}
"""Encodings of which OpenVINO wrote the same text as of the same weights in F16 (2026.4)."""


@dataclass(frozen=True, slots=True)
class Facts:
    """Context length in tokens, numbers that a token keeps in the cache, and the control tokens' texts."""

    context: int
    kept_per_token: int
    control_tokens: tuple[str, ...]


def read(path: Path) -> Facts:
    """Of a GGUF, or of a folder with config.json and tokenizer_config.json.

    Raises ModelNotLoaded for a GGUF of which OpenVINO is known to make fluent, wrong text.
    """
    return _of_gguf(path) if path.suffix == ".gguf" else _of_folder(path)


def _of_folder(path: Path) -> Facts:
    config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    tokens = json.loads((path / "tokenizer_config.json").read_text(encoding="utf-8"))
    special = tuple(t["content"] for t in tokens.get("added_tokens_decoder", {}).values() if t.get("special"))
    return Facts(int(config["max_position_embeddings"]), kept_per_token(config), special)


def kept_per_token(config: Mapping[str, Any]) -> int:
    """Numbers that a token keeps in the cache, by a transformers configuration."""
    heads = config["num_attention_heads"]
    size = config.get("head_dim") or config["hidden_size"] // heads
    return int(2 * size * (config.get("num_key_value_heads") or heads) * config["num_hidden_layers"])


def _of_gguf(path: Path) -> Facts:
    from gguf import GGUFReader

    reader = GGUFReader(path)
    fields = reader.fields
    encodings = {tensor.tensor_type.name for tensor in reader.tensors}
    _check(path, fields, encodings, {tensor.name for tensor in reader.tensors})
    architecture = fields["general.architecture"].contents()

    def number(key: str, otherwise: Any = None) -> int:
        field = fields.get(f"{architecture}.{key}")
        return int(otherwise if field is None else field.contents())

    heads = number("attention.head_count")
    size = number("embedding_length") // heads
    keys, values = number("attention.key_length", size), number("attention.value_length", size)
    kept = (keys + values) * number("attention.head_count_kv", heads) * number("block_count")
    types, tokens = fields["tokenizer.ggml.token_type"], fields["tokenizer.ggml.tokens"]
    control = [i for i, part in enumerate(types.data) if types.parts[part][0] == _GGUF_CONTROL]
    texts = tuple(bytes(tokens.parts[tokens.data[i]]).decode() for i in control)
    return Facts(number("context_length"), kept, texts)


def _check(path: Path, fields: dict[str, Any], encodings: set[str], tensors: set[str]) -> None:
    split = fields["tokenizer.ggml.pre"].contents() if "tokenizer.ggml.pre" in fields else None
    scaling = [key for key in fields if ".rope.scaling." in key and key.endswith(("type", "factor"))]
    misread = {
        "weights in Q4_1": "Q4_1" in encodings,
        f"the tokenizer {split}": split not in SPLITS,
        "scaled rotary positions": bool(scaling) or "rope_freqs.weight" in tensors,
    }
    if odd := [what for what, there in misread.items() if there]:
        raise ModelNotLoaded(
            f"{path} has {', '.join(odd)}, which OpenVINO misreads: use an F16, Q8_0 or Q4_0 GGUF of a "
            "SmolLM or Qwen model, or the model's safetensors with the transformers engine"
        )
    if unknown := encodings - _COMPARED:
        logger.warning(
            "%s: nobody has compared what OpenVINO reads from %s", path, ", ".join(sorted(unknown))
        )
