"""What a model's files say of it, read without loading it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_GGUF_CONTROL = 3  # gguf.TokenType.CONTROL


@dataclass(frozen=True, slots=True)
class Facts:
    """Context length in tokens, numbers that a token keeps in the cache, and the control tokens' texts."""

    context: int
    kept_per_token: int
    control_tokens: tuple[str, ...]


def read(path: Path) -> Facts:
    """Of a GGUF, or of a folder with config.json and tokenizer_config.json."""
    return _of_gguf(path) if path.suffix == ".gguf" else _of_folder(path)


def _of_folder(path: Path) -> Facts:
    config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    tokens = json.loads((path / "tokenizer_config.json").read_text(encoding="utf-8"))
    special = tuple(t["content"] for t in tokens.get("added_tokens_decoder", {}).values() if t.get("special"))
    heads = config["num_attention_heads"]
    size = config.get("head_dim") or config["hidden_size"] // heads
    kept = 2 * size * config.get("num_key_value_heads", heads) * config["num_hidden_layers"]
    return Facts(int(config["max_position_embeddings"]), kept, special)


def _of_gguf(path: Path) -> Facts:
    from gguf import GGUFReader

    fields = GGUFReader(path).fields
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
