"""Texts of turns and responses: one boundary for all doors, integrations and data rows.

A turn's content may be a text, parts, or null beside tool calls. What is no plain text becomes a block, a
Markdown fence with a label:

    ```tool call: weather
    {"city": "Rome"}
    ```

The labels are `tool call`, `tool result`, `refusal` and `reasoning`; in a response of several turns also
`user turn`, `system turn` and `developer turn`. The fence is longer than any inside the block, and a text
beside blocks that imitates a label is marked as `quoted`. A plain string is taken as it is, because it may be
a text that this module wrote; only the doors of trainers (`lenient`) mark labels in it, too.

Reasoning that comes apart from the answer is left out, as the user does not see it, unless it is all that
the turn has. Reasoning inside the text, such as `<think>`, is part of what the policy wrote, and stays.
Images, audio and files are refused; trainers cannot be refused a reward, so `lenient` doors mask them as
`[image]`, and the judge sees that there was one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple, TypeVar, get_args

from grm_service.plain_values import NotText as NotText
from grm_service.plain_values import dump, encodable, is_missing, kind_of, plain, to_json
from grm_service.types import Message, Role

# Parts are paragraphs: no words run together, and a block begins on a line of its own.
_SEPARATOR = "\n\n"
_ROLES: Mapping[str, Role] = {
    **{role: role for role in get_args(Role)},
    **{"model": "assistant", "ipython": "tool", "observation": "tool"},
}
# Types of parts, which are the keys of parts without a type as well.
_MEDIA: Mapping[str, str] = {
    **dict.fromkeys(("image", "image_url", "input_image"), "image"),
    **dict.fromkeys(("audio", "audio_url", "input_audio"), "audio"),
    **dict.fromkeys(("video", "video_url", "input_video"), "video"),
    **dict.fromkeys(("file", "input_file", "document", "inline_data", "inlineData", "fileData"), "file"),
}
_TEXTS = (None, "text", "input_text", "output_text", "summary_text", "reasoning_text")
_REASONING = ("reasoning_content", "reasoning", "thinking", "redacted_thinking")
_CALLS = ("tool_use", "server_tool_use", "tool_call", "function_call", "functionCall", "custom_tool_call")
_RESULTS = ("tool_result", "function_call_output", "functionResponse", "custom_tool_call_output")
_TURN = ("role", "content", "parts", "tool_calls", "refusal", "reasoning_content")
_LABEL = re.compile(
    r"^([ \t]*`{3,}[ \t]*)(?=(?:tool (?:call|result)|refusal|reasoning|(?:user|system|developer) turn)\b)",
    re.IGNORECASE | re.MULTILINE,
)
Value = TypeVar("Value")


class _Piece(NamedTuple):
    """A piece of a turn: a text, or the body of a block with its label."""

    text: str
    label: str = ""


def to_text(content: object, *, lenient: bool = False) -> str:
    """Return the text of a content: a string, parts, one part, or "" for null. Raises NotText."""
    return _join(_visible(_content(content, lenient)))


def to_message(turn: Mapping[str, Any] | Message, *, lenient: bool = False) -> Message:
    """Return a turn with its content, tool calls and refusal as text.

    A turn that has none of these, and an unknown role, raise NotText; in a lenient door the text is "" and
    the role the user's.
    """
    fields = plain(turn)
    if not isinstance(fields, dict):
        raise NotText(f"a turn must be an object with role and content, not {kind_of(fields)}")
    pieces = _visible(_pieces(fields, lenient))
    if not pieces and not lenient:
        raise NotText("the content is null, and there is no tool call")
    return Message(_role(fields, lenient), _join(pieces))


def to_messages(value: object, *, lenient: bool = False) -> tuple[Message, ...]:
    """Return a conversation, at least one turn; a text is a user's. Raises NotText."""
    turns = plain(value)
    if isinstance(turns, str):
        return (Message("user", encodable(turns)),)
    if not isinstance(turns, list) or not turns:
        raise NotText(f"a conversation must be a text or a list of turns, not {kind_of(turns)}")
    return tuple(_each("turn", turns, lambda turn: [to_message(turn, lenient=lenient)]))


def to_response(value: object, *, lenient: bool = False) -> str:
    """Return the text of a response: a text, a turn, or the turns of a trajectory, tool results included.

    An empty text is "". Raises NotText for null, and for turns that have nothing.
    """
    response = plain(value)
    if isinstance(response, str):
        return encodable(_quote(response) if lenient else response)
    if isinstance(response, dict):
        pieces = _response_pieces(response, lenient)
    elif isinstance(response, list):
        pieces = list(_each("turn", response, partial(_response_pieces, lenient=lenient)))
    else:
        raise NotText(f"a response must be a text, a turn or a list of turns, not {kind_of(response)}")
    if not (pieces := _visible(pieces)):
        raise NotText("the response is null: it has no text and no tool call")
    return _join(pieces, quoted=lenient or isinstance(response, list))


def normalize_role(name: str) -> Role:
    """Return the role for a name that templates and clients use; unknown names count as users'."""
    return _ROLES.get(name, "user")


def block(label: str, text: str) -> str:
    """Return a text as a block, in a fence that is longer than any run of backticks inside."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}{label}\n{_quote(text)}\n{fence}"


def _role(fields: Mapping[str, Any], lenient: bool) -> Role:
    """Return the role of a turn; items of OpenAI's Responses have a type instead."""
    name, kind = plain(fields.get("role")), fields.get("type")
    if name is None and kind in (*_CALLS, *_REASONING):
        return "assistant"
    if name is None and kind in _RESULTS:
        return "tool"
    if lenient or str(name) in _ROLES:
        return normalize_role(str(name))
    raise NotText(f"the role must be one of {', '.join(get_args(Role))}, not {str(name)[:40]!r}")


def _response_pieces(turn: object, lenient: bool) -> list[_Piece]:
    """Return the pieces of a turn in a response: only the assistant's texts stand without a label."""
    turn = plain(turn)
    if not isinstance(turn, dict):
        return _part(turn, lenient)
    pieces = _pieces(turn, lenient)
    if is_missing(turn.get("role")) or (role := _role(turn, lenient)) == "assistant":
        return pieces
    is_result = role in ("tool", "function")
    label = _label("tool result", turn.get("name")) if is_result else f"{role} turn"
    return [_Piece(piece.text, piece.label or label) for piece in pieces or [_Piece("")]]


def _pieces(turn: Mapping[str, Any], lenient: bool) -> list[_Piece]:
    """Return the pieces of a turn, or of an item of OpenAI's Responses, which is a part."""
    if turn.get("type") in (*_CALLS, *_RESULTS, *_REASONING) or _first(turn, _TURN) is None:
        return _part(turn, lenient)
    pieces = [*_reasoning(turn, _REASONING), *_content(_first(turn, ("content", "parts")), lenient)]
    if refusal := _string(turn.get("refusal")):
        pieces.append(_Piece(refusal, "refusal"))
    calls = _parsed(turn.get("tool_calls"))
    for call in [*(calls if isinstance(calls, list) else [calls]), turn.get("function_call")]:
        pieces += _call(call)
    return pieces


def _content(content: object, lenient: bool) -> list[_Piece]:
    content = plain(content)
    if isinstance(content, list):
        return list(_each("part", content, partial(_part, lenient=lenient)))
    return _part(content, lenient)


def _part(part: object, lenient: bool) -> list[_Piece]:
    part = plain(part)
    if is_missing(part):
        return []
    if isinstance(part, str):
        return [_Piece(part)]
    if not isinstance(part, dict):
        raise NotText(f"the content must be a text or a list of parts, not {kind_of(part)}")
    kind = plain(part.get("type"))
    kind = kind if isinstance(kind, str | None) else str(kind)
    if kind in _TEXTS and is_missing(part.get("text")):
        # A part without a type has its type as a key, as Gemini's have.
        kind = next((key for key in (*_CALLS, *_RESULTS, *_MEDIA) if not is_missing(part.get(key))), kind)
        part = inner if isinstance(inner := part.get(str(kind)), dict) else part
    if kind in _CALLS:
        return _call(part)
    if kind in _RESULTS:
        result = _result(_first(part, ("content", "output", "response", "result", "text")), lenient)
        return [_Piece(result, _label("tool result", part.get("name")))]
    if kind in _REASONING:
        return _reasoning(part, (*_REASONING, "summary", "content", "text"))
    if kind == "refusal":
        return [_Piece(_string(part.get("refusal")), "refusal")]
    text = part.get("text")
    return [*_mask(part, kind, lenient), *([] if is_missing(text) else [_Piece(_string(text))])]


def _mask(part: Mapping[str, Any], kind: str | None, lenient: bool) -> list[_Piece]:
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
    return [_Piece(f"[{name}]")]


def _reasoning(fields: Mapping[str, Any], keys: tuple[str, ...]) -> list[_Piece]:
    text = _result(_first(fields, keys), lenient=True)
    return [_Piece(text, "reasoning")] if text else []


def _call(call: object) -> list[_Piece]:
    """Return a tool call of OpenAI, Anthropic or Gemini; its arguments are an object, or JSON as text."""
    call = _parsed(call)
    if not isinstance(call, dict):
        return [] if is_missing(call) else [_Piece(_result(call, lenient=True), "tool call")]
    if not (given := {name: value for name, value in call.items() if not is_missing(value)}):
        return []
    inner = plain(_first(given, ("function", "custom")))
    call = inner if isinstance(inner, dict) else given
    arguments = _parsed(_first(call, ("arguments", "input", "args", "parameters")))
    text = arguments if isinstance(arguments, str) else dump(to_json(arguments) or {})
    return [_Piece(text, _label("tool call", call.get("name")))]


def _result(value: object, lenient: bool) -> str:
    """Return what a tool returned: a text, the texts of its parts, or JSON; "" for null."""
    value = plain(value)
    parts = [plain(part) for part in value] if isinstance(value, list) else [value]
    kinds = (*_TEXTS[1:], *_MEDIA)
    if all(
        is_missing(p) or isinstance(p, str) or (isinstance(p, dict) and p.get("type") in kinds) for p in parts
    ):
        return _join(_content(parts, lenient))
    return dump(to_json(value))


def _first(fields: Mapping[str, Any], names: Iterable[str]) -> Any:
    """Return the first of some fields that is neither null nor an empty list, None if there is none."""
    values = (plain(fields.get(name)) for name in names)
    return next((value for value in values if not is_missing(value) and value != []), None)


def _parsed(value: object) -> object:
    """Return a value, parsed if it is an object or a list as JSON text."""
    value = plain(value)
    if isinstance(value, str) and value.lstrip().startswith(("{", "[")):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return None if is_missing(value) else value


def _visible(pieces: list[_Piece]) -> list[_Piece]:
    """Return the pieces without reasoning, unless that is all there is."""
    answer = [piece for piece in pieces if piece.label != "reasoning"]
    return answer if any(piece.text or piece.label for piece in answer) else pieces


def _join(pieces: list[_Piece], quoted: bool = False) -> str:
    """Return the text of pieces; labels that a text imitates are quoted, beside other pieces in any case."""
    quoted = quoted or len(pieces) > 1
    texts = (
        block(piece.label, piece.text) if piece.label else _quote(piece.text) if quoted else piece.text
        for piece in pieces
    )
    return encodable(_SEPARATOR.join(filter(None, texts)))


def _quote(text: str) -> str:
    return _LABEL.sub(r"\1quoted ", text)


def _label(kind: str, name: object) -> str:
    """Return the label of a block; a name cannot end the line or the fence."""
    words = "" if is_missing(name) else " ".join(str(name).replace("`", "'").split())[:200]
    return f"{kind}: {words}" if words else kind


def _each(what: str, items: Iterable[object], read: Callable[[Any], Iterable[Value]]) -> Iterator[Value]:
    """Yield what each item is read as. Raises NotText with the index of the item."""
    for i, item in enumerate(items):
        try:
            yield from read(item)
        except NotText as error:
            raise NotText(f"{what} {i}: {error}") from None


def _string(value: object) -> str:
    """Return a text, "" for null. Raises NotText."""
    value = plain(value)
    if isinstance(value, str) or is_missing(value):
        return value if isinstance(value, str) else ""
    raise NotText(f"the text must be a string, not {kind_of(value)}")
