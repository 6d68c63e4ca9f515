"""Conversations in the request bodies of dialects; unknown fields of a turn are ignored."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from grm_service.api.schemas import Text, encodable
from grm_service.chat_templates import normalize_role
from grm_service.errors import BadTask
from grm_service.types import Message


class Part(BaseModel):
    """A part of a turn; parts without text count as empty."""

    model_config = ConfigDict(extra="allow")
    text: Text = ""


class Turn(BaseModel):
    """A turn of a conversation; the content is a text or a list of parts."""

    model_config = ConfigDict(extra="allow")
    role: Text = "user"
    content: Text | list[Part] | None = None

    def to_text(self) -> str:
        if isinstance(self.content, list):
            return "".join(part.text for part in self.content)
        return self.content or ""

    def to_message(self) -> Message:
        return Message(normalize_role(self.role), self.to_text())


Turns = Annotated[list[Turn], Field(min_length=1, max_length=1000)]


def label_reference(label: object) -> str | None:
    """Return a text label as the reference answer, None for other labels. Raises BadTask."""
    try:
        return encodable(label) if isinstance(label, str) else None
    except ValueError as error:
        raise BadTask(f"the label {error}") from None


def to_messages(turns: list[Turn]) -> tuple[Message, ...]:
    return tuple(turn.to_message() for turn in turns)
