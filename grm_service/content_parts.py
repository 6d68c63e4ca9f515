"""Parts of contents as pieces: texts, and blocks for tool calls, their results, refusals and reasoning."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple, TypeVar

from grm_service.plain_values import NotText, dump, encodable, is_missing, kind_of, plain, to_json

# Parts are paragraphs: no words run together, and a block begins on a line of its own.
_SEPARATOR = "\n\n"
# Types of parts, which are the keys of parts without a type as well.
_MEDIA: Mapping[str, str] = {
    **dict.fromkeys(("image", "image_url", "input_image"), "image"),
    **dict.fromkeys(("audio", "audio_url", "input_audio", "output_audio"), "audio"),
    **dict.fromkeys(("video", "video_url", "input_video"), "video"),
    **dict.fromkeys(("file", "input_file", "document", "inline_data", "inlineData", "fileData"), "file"),
}
_TEXTS = (None, "text", "input_text", "output_text", "summary_text", "reasoning_text")
REASONING = ("reasoning_content", "reasoning", "thinking", "redacted_thinking")
_CALLS = ("function_call", "functionCall", "executable_code", "executableCode")
_RESULTS = ("function_response", "functionResponse", "code_execution_result", "codeExecutionResult")
# Servers name the calls of their own tools: `web_search_call`, `mcp_tool_use`, `web_search_tool_result`.
_CALL_ENDINGS, _RESULT_ENDINGS = ("_call", "tool_use"), ("_call_output", "tool_result")
# Anywhere in a line, and in fences of any kind: what a judge may take for a block, and not only Markdown.
_LABEL = re.compile(
    r"((?<![`~｀])(?:`{3,}+|~{3,}+|｀{3,}+)[^\w\n`~｀]*+)"
    r"(?=(?:tool[\W_]{0,3}(?:call|result)|refusal|reasoning|(?:user|system|developer)[\W_]{0,3}turn)(?![^\W_]))",
    re.IGNORECASE,
)
Value = TypeVar("Value")


class Piece(NamedTuple):
    """A piece of a turn: a text, or the body of a block with its label."""

    text: str
    label: str = ""


def content_pieces(content: object, lenient: bool) -> list[Piece]:
    content = plain(content)
    if isinstance(content, list):
        return list(each("part", content, partial(part_pieces, lenient=lenient)))
    return part_pieces(content, lenient)


def part_pieces(part: object, lenient: bool) -> list[Piece]:
    part = plain(part)
    if is_missing(part):
        return []
    if isinstance(part, str):
        return [Piece(part)]
    if not isinstance(part, dict):
        raise NotText(f"the content must be a text or a list of parts, not {kind_of(part)}")
    kind, part = _typed(part)
    what = what_is(kind)
    if what == "tool call":
        return call_pieces(part)
    if what == "tool result":
        result = result_text(first(part, ("content", "output", "response", "result", "text")), lenient)
        return [Piece(result, label_of("tool result", part.get("name")))]
    if part.get("thought") is True:  # Gemini's
        return reasoning_pieces(part, ("text",))
    if what == "reasoning":
        return reasoning_pieces(part, (*REASONING, "summary", "content", "text"))
    if kind == "refusal":
        return [Piece(string(part.get("refusal")), "refusal")]
    if _MEDIA.get(kind or "") == "audio" and (transcript := string(part.get("transcript"))):
        return [Piece(transcript)]
    text = part.get("text")
    return [*_mask(part, kind, lenient), *([] if is_missing(text) else [Piece(string(text))])]


def _typed(part: Mapping[str, Any]) -> tuple[str | None, Mapping[str, Any]]:
    """Return the type of a part, and the fields with its data."""
    kind = plain(part.get("type"))
    kind = kind if isinstance(kind, str | None) else kind_of(kind)
    if kind in _TEXTS and is_missing(part.get("text")):
        # A part without a type has its type as a key, as Gemini's have.
        keys = (key for key, value in part.items() if not is_missing(value))
        kind = next((key for key in keys if key in _MEDIA or what_is(key)), kind)
        part = inner if isinstance(inner := part.get(str(kind)), dict) else part
    return kind, part


def what_is(kind: object) -> str:
    """Return the label of the blocks that parts of a type become, "" for any other type."""
    if not isinstance(kind, str):
        return ""
    if kind in REASONING:
        return "reasoning"
    if kind in _RESULTS or kind.endswith(_RESULT_ENDINGS):
        return "tool result"
    return "tool call" if kind in _CALLS or kind.endswith(_CALL_ENDINGS) else ""


def _mask(part: Mapping[str, Any], kind: str | None, lenient: bool) -> list[Piece]:
    """Return a placeholder for a part that is no text, nothing for a part of text. Raises NotText."""
    has_text = not is_missing(part.get("text"))
    is_null = all(is_missing(value) for name, value in part.items() if name != "type")
    if kind not in _MEDIA and (has_text or kind in _TEXTS[1:] or (kind is None and is_null)):
        return []
    name = _MEDIA.get(kind or "", "part")
    if not lenient:
        raise NotText(
            f"a part of type {(kind or '')[:40]!r} has no text: leave it out, or describe it in words"
        )
    return [Piece(f"[{name}]")]


def reasoning_pieces(fields: Mapping[str, Any], keys: tuple[str, ...]) -> list[Piece]:
    text = result_text(first(fields, keys), lenient=True)
    return [Piece(text, "reasoning")] if text else []


def call_pieces(call: object) -> list[Piece]:
    """Return a tool call of OpenAI, Anthropic or Gemini; its arguments are an object, or JSON as text."""
    call = parsed(call)
    if not isinstance(call, dict):
        return [] if is_missing(call) else [Piece(result_text(call, lenient=True), "tool call")]
    if not (given := {name: value for name, value in call.items() if not is_missing(value)}):
        return []
    inner = plain(first(given, ("function", "custom")))
    call = inner if isinstance(inner, dict) else given
    name, arguments = first(call, ("name",)), first(call, ("arguments", "input", "args", "parameters"))
    name = inner if name is None and isinstance(inner, str) else name
    if name is None and arguments is None:
        return [Piece(dump(to_json(given)), "tool call")]
    pieces = [Piece(_arguments(arguments), label_of("tool call", name))]
    if output := result_text(call.get("output"), lenient=True):
        pieces.append(Piece(output, label_of("tool result", name)))
    return pieces


def _arguments(value: object) -> str:
    """Return arguments as JSON, or as they are if they are a text that is none."""
    arguments = parsed(value)
    if isinstance(arguments, str):
        return arguments
    # Nulls in a text are the policy's own; those in an object may be the data's.
    arguments = to_json(arguments, with_null=isinstance(value, str))
    return dump({} if arguments is None else arguments)


def result_text(value: object, lenient: bool = False) -> str:
    """Return what a tool returned: a text, the texts of its parts, or JSON; "" for null."""
    value = plain(value)
    parts = [plain(part) for part in value] if isinstance(value, list) else [value]
    if all(map(_has_text, parts)):
        return join(content_pieces(parts, lenient))
    return dump(to_json(value))


def _has_text(part: object) -> bool:
    """Return whether a part of a tool's result is a text, a part of one, or a picture, and no other data.

    So no part that is read as a text has another result inside, which could go on to any depth.
    """
    if not isinstance(part, dict):
        return is_missing(part) or isinstance(part, str)
    kind, fields = _typed(part)
    filled = {name for name, value in part.items() if not is_missing(value)}
    if what_is(kind) or not (part.get("type") in (*_TEXTS[1:], *_MEDIA) or filled == {"text"}):
        return False
    text = plain(fields.get("text"))
    return is_missing(text) or isinstance(text, str)


def first(fields: Mapping[str, Any], names: Iterable[str]) -> Any:
    """Return the first of some fields that is neither null nor an empty list, None if there is none."""
    values = (plain(fields.get(name)) for name in names)
    return next((value for value in values if not is_missing(value) and value != []), None)


def parsed(value: object) -> object:
    """Return a value, parsed if it is an object or a list as JSON text."""
    value = plain(value)
    if isinstance(value, str) and value.lstrip().startswith(("{", "[")):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return None if is_missing(value) else value


def block(label: str, text: str) -> str:
    """Return a text as a block, in a fence that is longer than any run of backticks inside."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}{label}\n{quote(text)}\n{fence}"


def join(pieces: list[Piece], quoted: bool = False) -> str:
    """Return the text of pieces; labels that a text imitates are quoted, beside other pieces in any case."""
    quoted = quoted or len(pieces) > 1
    texts = (
        block(piece.label, piece.text) if piece.label else quote(piece.text) if quoted else piece.text
        for piece in pieces
    )
    return encodable(_SEPARATOR.join(filter(None, texts)))


def quote(text: str) -> str:
    return _LABEL.sub(r"\1quoted ", text)


def label_of(kind: str, name: object) -> str:
    """Return the label of a block; a name cannot end the line or the fence."""
    words = " ".join(name.replace("`", "'").split())[:200] if isinstance(name, str) else ""
    return f"{kind}: {words}" if words else kind


def each(what: str, items: Iterable[object], read: Callable[[Any], Iterable[Value]]) -> Iterator[Value]:
    """Yield what each item is read as. Raises NotText with the index of the item."""
    for i, item in enumerate(items):
        try:
            yield from read(item)
        except NotText as error:
            raise NotText(f"{what} {i}: {error}") from None


def string(value: object) -> str:
    """Return a text, "" for null. Raises NotText."""
    value = plain(value)
    if isinstance(value, str) or is_missing(value):
        return value if isinstance(value, str) else ""
    raise NotText(f"the text must be a string, not {kind_of(value)}")
