"""A transformers tokenizer written into a GGUF, where OpenVINO's reader splits texts as it does."""

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
_NAMES = {(_QWEN, "bytes"): "qwen2", ("digits", "words"): "smollm"}
SPLITS = frozenset(_NAMES.values())
"""What OpenVINO 2026.4 knows; any other name gets a way of splitting that no such tokenizer has."""
_ONLY = "OpenVINO's GGUF reader splits texts as the tokenizers of Qwen 2, Qwen 3 and SmolLM do"


def write(folder: Path, rows: int, writer: Any) -> None:
    """Writes the folder's tokenizer and chat template; `rows` is the size of the model's embedding.

    Raises ModelNotLoaded for a tokenizer that would be read otherwise than it is.
    """
    from gguf import SpecialVocab

    if not (folder / "tokenizer.json").is_file():
        raise ModelNotLoaded(f"{folder} has no tokenizer.json: {_ONLY}")
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    special = SpecialVocab(folder, load_merges=True, n_vocab=rows)
    if not special.chat_template or "eos" not in special.special_token_ids:
        raise ModelNotLoaded(f"the tokenizer of {folder} has no chat template or no end-of-sequence token")
    tokens, types = _tokens(tokenizer, rows)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(_split(tokenizer, folder))
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    special.add_to_gguf(writer, quiet=True)


def _split(tokenizer: dict[str, Any], folder: Path) -> str:
    """The name of the tokenizer's way of splitting a text before it is merged."""
    model, normalizer = tokenizer["model"], tokenizer.get("normalizer") or {"type": "NFC"}
    plain = not any(model.get(key) for key in ("continuing_subword_prefix", "end_of_word_suffix"))
    # NFC is left out by every reader of a GGUF: texts are nearly always in that form.
    if model["type"] == "BPE" and plain and not model.get("ignore_merges") and normalizer["type"] == "NFC":
        steps = _steps(tokenizer.get("pre_tokenizer") or {"type": "none"})
        # A vocabulary without longer digits was made with digits apart: transformers drops that step when
        # it reads a tokenizer from a GGUF.
        if steps == ("words",) and not any(re.search(r"\d.|.\d", token) for token in model["vocab"]):
            steps = ("digits", "words")
        if steps in _NAMES:
            return _NAMES[steps]
    raise ModelNotLoaded(
        f"the tokenizer of {folder} works otherwise: {_ONLY}; the transformers engine runs the model as it is"
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
    from gguf import TokenType

    known = [*tokenizer["model"]["vocab"].values(), *(added["id"] for added in tokenizer["added_tokens"])]
    if max(known) >= rows:
        raise ModelNotLoaded(f"the tokenizer has the token {max(known)}, but the embedding only {rows} rows")
    # An embedding may have more rows than there are tokens.
    tokens, types = [f"[PAD{i}]" for i in range(rows)], [TokenType.UNUSED] * rows
    for token, i in tokenizer["model"]["vocab"].items():
        tokens[i], types[i] = token, TokenType.NORMAL
    for added in tokenizer["added_tokens"]:
        kind = TokenType.CONTROL if added["special"] else TokenType.USER_DEFINED
        tokens[added["id"]], types[added["id"]] = added["content"], kind
    return tokens, [int(kind) for kind in types]
