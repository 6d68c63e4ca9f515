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

from collections.abc import Mapping
from functools import partial
from typing import Any, get_args

from grm_service.content_parts import (
    REASONING,
    Piece,
    call_pieces,
    content_pieces,
    each,
    first,
    join,
    label_of,
    parsed,
    part_pieces,
    quote,
    reasoning_pieces,
    string,
    what_is,
)
from grm_service.content_parts import block as block
from grm_service.content_parts import result_text as result_text
from grm_service.plain_values import NotText as NotText
from grm_service.plain_values import encodable, is_missing, kind_of, plain
from grm_service.types import TOOL_ROLES, Message, Role

_CALL_OF_SHAREGPT = "function_call"
_ROLES: Mapping[str, Role] = {
    **{role: role for role in get_args(Role)},
    **{"model": "assistant", "ipython": "tool", "observation": "tool"},
    **{"human": "user", "gpt": "assistant", "ai": "assistant", _CALL_OF_SHAREGPT: "assistant"},
}
_TURN = ("role", "from", "content", "parts", "value", "tool_calls", "refusal", "reasoning_content", "audio")


def to_text(content: object, *, lenient: bool = False) -> str:
    """Return the text of a content: a string, parts, one part, or "" for null. Raises NotText."""
    return join(_visible(content_pieces(content, lenient)))


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
    return Message(_role(fields, lenient), join(pieces))


def to_messages(value: object, *, lenient: bool = False) -> tuple[Message, ...]:
    """Return a conversation, at least one turn; a text is a user's. Raises NotText."""
    turns = plain(value)
    if isinstance(turns, str):
        return (Message("user", encodable(turns)),)
    if not isinstance(turns, list) or not turns:
        raise NotText(f"a conversation must be a text or a list of turns, not {kind_of(turns)}")
    turns = [turn for turn in turns if not is_reasoning(turn)] or turns
    return tuple(each("turn", turns, lambda turn: [to_message(turn, lenient=lenient)]))


def to_response(value: object, *, lenient: bool = False) -> str:
    """Return the text of a response: a text, a turn, or the turns of a trajectory, tool results included.

    An empty text is "". Raises NotText for null, and for turns that have nothing.
    """
    response = plain(value)
    if isinstance(response, str):
        return encodable(quote(response) if lenient else response)
    if isinstance(response, dict):
        pieces = _response_pieces(response, lenient)
    elif isinstance(response, list):
        pieces = list(each("turn", response, partial(_response_pieces, lenient=lenient)))
    else:
        raise NotText(f"a response must be a text, a turn or a list of turns, not {kind_of(response)}")
    if not (pieces := _visible(pieces)):
        raise NotText("the response is null: it has no text and no tool call")
    return join(pieces, quoted=lenient or isinstance(response, list))


def normalize_role(name: object) -> Role:
    """Return the role for a name that templates and clients use; any other value counts as users'."""
    return _ROLES.get(name.lower(), "user") if isinstance(name, str) else "user"


def is_reasoning(turn: object) -> bool:
    """Return whether a turn is an item of OpenAI's Responses with the reasoning of the answer behind it."""
    fields = plain(turn)
    return isinstance(fields, dict) and fields.get("type") in REASONING and is_missing(fields.get("role"))


def _role(fields: Mapping[str, Any], lenient: bool) -> Role:
    """Return the role of a turn; items of OpenAI's Responses have a type instead."""
    name = first(fields, ("role", "from"))
    if name is None and (what := what_is(fields.get("type"))):
        return "tool" if what == "tool result" else "assistant"
    known = isinstance(name, str) and name.lower() in _ROLES
    if lenient or known:
        return normalize_role(name)
    what = repr(name[:40]) if isinstance(name, str) else kind_of(name)
    raise NotText(f"the role must be one of {', '.join(get_args(Role))}, not {what}")


def _response_pieces(turn: object, lenient: bool) -> list[Piece]:
    """Return the pieces of a turn in a response: only the assistant's texts stand without a label."""
    turn = plain(turn)
    if not isinstance(turn, dict):
        return part_pieces(turn, lenient)
    pieces = _pieces(turn, lenient)
    if first(turn, ("role", "from")) is None or (role := _role(turn, lenient)) == "assistant":
        return pieces
    is_result = role in TOOL_ROLES
    label = label_of("tool result", turn.get("name")) if is_result else f"{role} turn"
    return [Piece(piece.text, piece.label or label) for piece in pieces or [Piece("")]]


def _pieces(turn: Mapping[str, Any], lenient: bool) -> list[Piece]:
    """Return the pieces of a turn, or of an item of OpenAI's Responses, which is a part."""
    if what_is(turn.get("type")) or first(turn, _TURN) is None:
        return part_pieces(turn, lenient)
    content = first(turn, ("content", "parts", "value"))
    if turn.get("from") == _CALL_OF_SHAREGPT:
        return call_pieces(content)
    if content is not None and normalize_role(first(turn, ("role", "from"))) in TOOL_ROLES:
        content = result_text(content, lenient)
    pieces = [*reasoning_pieces(turn, REASONING), *content_pieces(content, lenient)]
    if isinstance(audio := plain(turn.get("audio")), dict):
        pieces += part_pieces({**audio, "type": "audio"}, lenient)
    if refusal := string(turn.get("refusal")):
        pieces.append(Piece(refusal, "refusal"))
    calls = parsed(turn.get("tool_calls"))
    for call in [*(calls if isinstance(calls, list) else [calls]), turn.get("function_call")]:
        pieces += call_pieces(call)
    return pieces


def _visible(pieces: list[Piece]) -> list[Piece]:
    """Return the pieces without reasoning, unless that is all there is."""
    answer = [piece for piece in pieces if piece.label != "reasoning"]
    return answer if any(piece.text or piece.label for piece in answer) else pieces
