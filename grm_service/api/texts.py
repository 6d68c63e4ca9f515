"""Texts in request bodies: turns, responses and references of any shape become text as they are validated."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, PrivateAttr, model_validator

from grm_service import content
from grm_service.api.base import Described
from grm_service.plain_values import encodable, to_reference
from grm_service.types import TOOL_ROLES, Message, Role

Text = Annotated[str, AfterValidator(encodable)]
MAX_TURNS = 2**14
"""Of all responses in a request; each takes 0.1 ms to read."""


class Strict(Described):
    """Strict validation: no type conversion, no unknown fields."""

    model_config = ConfigDict(extra="forbid", strict=True)


class ContentPart(Described):
    """A part of a content: a text, a refusal, a tool call or its result; others are refused."""

    model_config = ConfigDict(extra="allow")
    type: Any = None
    """Type of the part, such as `text`, `output_text`, `refusal`, `tool_use` or `tool_result`."""
    text: str | None = None
    """Text of the part; parts that are no text have fields of their own."""


class ToolCall(Described):
    """A tool call in OpenAI's format; calls of Anthropic and Gemini are read too."""

    model_config = ConfigDict(extra="allow")
    function: dict[str, Any] | None = None
    """The called function: its `name`, and its `arguments` as an object or as JSON text."""


def _readable(value: object) -> object:
    content.to_text(value)  # refuses, with the field and the part, what has no text
    return value


def _any(value: object) -> object:
    return value


# What a tool returned may have any shape (Any).
Content = Annotated[
    Any,
    BeforeValidator(_any, json_schema_input_type=str | list[str | ContentPart] | ContentPart | Any | None),
]
Calls = Annotated[Any, BeforeValidator(_any, json_schema_input_type=list[ToolCall | Any] | Any)]
Reference = Annotated[
    str | None,
    BeforeValidator(to_reference, json_schema_input_type=str | int | float | bool | list[Any] | None),
]


class _Turn(Strict):
    content: Annotated[Content, AfterValidator(_readable)] = None
    """A text, a part or a list of parts; may be null beside tool calls. Images and files are refused."""
    tool_calls: Calls = None
    """Tool calls of the assistant; each becomes a block of the judged text."""
    function_call: dict[str, Any] | None = None
    """A single tool call in OpenAI's older format, read like one of `tool_calls`."""
    refusal: Text | None = None
    """The assistant's refusal; it becomes a block of the judged text."""
    reasoning_content: Text | None = None
    """The assistant's reasoning; it is left out, unless the turn has nothing else."""
    reasoning: Text | None = None
    """Another name of `reasoning_content`; read if that is null."""
    audio: dict[str, Any] | None = None
    """Audio of the turn: its `transcript` is read; audio without one is refused."""
    annotations: list[Any] | None = None
    """Ignored; OpenAI's replies have it."""
    name: Text | None = None
    """Name of a tool whose result the turn is; it labels that result in a response."""
    tool_call_id: Text | None = None
    """Ignored; OpenAI's tool turns have it."""

    @model_validator(mode="before")
    @classmethod
    def _filled(cls, turn: Any) -> Any:
        if not isinstance(turn, dict):
            return turn
        # Arrow tables have every key in every turn.
        fields = {name: value for name, value in turn.items() if value is not None}
        if fields.get("role") in TOOL_ROLES and "content" in fields:
            fields["content"] = content.result_text(fields["content"])
        return fields


class TurnIn(_Turn):
    """One turn of a conversation: a text, parts, or null beside tool calls."""

    role: Role
    """Author of the turn."""
    _message: Message = PrivateAttr()

    @model_validator(mode="after")
    def _has_text(self) -> TurnIn:
        self._message = content.to_message(dict(self))
        return self

    def to_message(self) -> Message:
        return self._message


class ResponseIn(_Turn):
    """A response with an optional id of yours: a turn, or `messages`, the turns of a trajectory.

    An empty text is judged as such; null is refused.
    """

    role: Role = "assistant"
    """Author of the turn; the text of any other author than the assistant is labelled."""
    messages: Annotated[list[TurnIn] | None, Field(min_length=1, max_length=1000)] = None
    """Turns of a trajectory, oldest first, in place of the fields of one turn."""
    id: Annotated[Text, Field(max_length=256)] | None = None
    """Your id of the response; `response_ids` of the reply has the ids if every response has one."""
    _text: str = PrivateAttr()

    @model_validator(mode="after")
    def _has_text(self) -> ResponseIn:
        if self.messages is None:
            self._text = content.to_response(dict(self))
            return self
        if self.model_fields_set - {"messages", "id"}:
            raise ValueError("give either 'messages', or the fields of one turn")
        self._text = content.to_response([dict(turn) for turn in self.messages])
        return self

    def to_text(self) -> str:
        return self._text


ResponseText = Annotated[
    str, BeforeValidator(content.to_response, json_schema_input_type=str | TurnIn | list[TurnIn])
]


def _as_object(response: object) -> object:
    if isinstance(response, str):
        return {"content": response}
    if isinstance(response, list):
        return {"messages": response}
    if not isinstance(response, (dict, ResponseIn)):
        raise ValueError("must be a string, a turn or a list of turns")
    return response


def bound_turns(groups: Iterable[Sequence[object]]) -> None:
    """Raises ValueError if the responses of a request have more than MAX_TURNS turns together."""
    if (turns := sum(map(len, groups))) > MAX_TURNS:
        raise ValueError(f"the responses have {turns} turns, at most {MAX_TURNS} are allowed: send fewer")


def _few_turns(responses: object) -> object:
    if isinstance(responses, list):
        lists = (each.get("messages") if isinstance(each, dict) else each for each in responses)
        bound_turns(turns for turns in lists if isinstance(turns, list))
    return responses


FewTurns = BeforeValidator(_few_turns)
AnyResponse = Annotated[
    ResponseIn, BeforeValidator(_as_object, json_schema_input_type=str | ResponseIn | list[TurnIn])
]
