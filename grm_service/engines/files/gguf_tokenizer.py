"""A transformers tokenizer written into a GGUF, if OpenVINO's GGUF reader tokenizes like it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from grm_service.errors import ModelNotLoaded

_QWEN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_PRE_TOKENIZER_NAMES = {(_QWEN, "bytes"): "qwen2", ("digits", "words"): "smollm"}
SUPPORTED_PRE_TOKENIZERS = frozenset(_PRE_TOKENIZER_NAMES.values())
"""The names that OpenVINO 2026.4 supports. For any other it falls back to a split that fits none."""
_SUPPORTED = "OpenVINO's GGUF reader supports the tokenizers of Qwen 2, Qwen 3 and SmolLM only"


def write_tokenizer(folder: Path, rows: int, writer: Any) -> None:
    """Write a folder's tokenizer and chat template to a GGUFWriter; `rows` is the number of embeddings.

    Raises ModelNotLoaded if OpenVINO would tokenize differently.
    """
    from gguf import SpecialVocab

    if not (folder / "tokenizer.json").is_file():
        raise ModelNotLoaded(f"{folder} has no tokenizer.json: {_SUPPORTED}")
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    special = SpecialVocab(folder, load_merges=True, n_vocab=rows)
    if not special.chat_template or "eos" not in special.special_token_ids:
        raise ModelNotLoaded(f"the tokenizer of {folder} has no chat template or no end-of-sequence token")
    tokens, types = _tokens(tokenizer, rows)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(_pre_tokenizer_name(tokenizer, folder))
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    special.add_to_gguf(writer, quiet=True)


def _pre_tokenizer_name(tokenizer: dict[str, Any], folder: Path) -> str:
    """Return the GGUF name of the pre-tokenizer, which splits a text before the merges."""
    model, normalizer = tokenizer["model"], tokenizer.get("normalizer") or {"type": "NFC"}
    no_affixes = not any(model.get(key) for key in ("continuing_subword_prefix", "end_of_word_suffix"))
    # GGUF readers skip NFC normalization. That is harmless: nearly all texts are in NFC already.
    is_nfc_bpe = model["type"] == "BPE" and normalizer["type"] == "NFC"
    if is_nfc_bpe and no_affixes and not model.get("ignore_merges"):
        steps = _steps(tokenizer.get("pre_tokenizer") or {"type": "none"})
        # transformers drops the digits step when it loads a tokenizer from a GGUF. A vocabulary without
        # any token that joins a digit to another character was trained with that step.
        if steps == ("words",) and not any(re.search(r"\d.|.\d", token) for token in model["vocab"]):
            steps = ("digits", "words")
        if steps in _PRE_TOKENIZER_NAMES:
            return _PRE_TOKENIZER_NAMES[steps]
    raise ModelNotLoaded(
        f"the tokenizer of {folder} is not supported: {_SUPPORTED}; use the transformers engine"
    )


def _steps(step: dict[str, Any]) -> tuple[str, ...]:
    match step:
        case {"type": "Sequence", "pretokenizers": list(steps)}:
            return tuple(name for each in steps for name in _steps(each))
        case {"type": "Split", "pattern": {"Regex": str(regex)}, "behavior": "Isolated", "invert": False}:
            return (regex,)
        case {"type": "Digits", "individual_digits": True}:
            return ("digits",)
        case {"type": "ByteLevel", "add_prefix_space": False}:
            return ("words" if step.get("use_regex", True) else "bytes",)
    return ("unknown",)


def _tokens(tokenizer: dict[str, Any], rows: int) -> tuple[list[str], list[int]]:
    """Return the text and the GGUF type of each token id."""
    from gguf import TokenType

    ids = [*tokenizer["model"]["vocab"].values(), *(added["id"] for added in tokenizer["added_tokens"])]
    if max(ids) >= rows:
        raise ModelNotLoaded(
            f"the tokenizer has the token id {max(ids)}, but the embedding has only {rows} rows"
        )
    # An embedding may have more rows than the tokenizer has tokens.
    tokens, types = [f"[PAD{i}]" for i in range(rows)], [TokenType.UNUSED] * rows
    for token, i in tokenizer["model"]["vocab"].items():
        tokens[i], types[i] = token, TokenType.NORMAL
    for added in tokenizer["added_tokens"]:
        kind = TokenType.CONTROL if added["special"] else TokenType.USER_DEFINED
        tokens[added["id"]], types[added["id"]] = added["content"], kind
    return tokens, [int(kind) for kind in types]
