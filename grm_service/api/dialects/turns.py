"""Conversations as these clients send them: whatever else a turn has is passed over."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from grm_service.api.schemas import Text, encodable
from grm_service.chat_templates import role_of
from grm_service.errors import BadTask
from grm_service.types import Message


class Part(BaseModel):
    """A part of a turn; what is no text says nothing here."""

    model_config = ConfigDict(extra="allow")
    text: Text = ""


class Turn(BaseModel):
    """One turn, its content a text or parts."""

    model_config = ConfigDict(extra="allow")
    role: Text = "user"
    content: Text | list[Part] | None = None

    @property
    def said(self) -> str:
        if isinstance(self.content, list):
            return "".join(part.text for part in self.content)
        return self.content or ""

    def to_message(self) -> Message:
        return Message(role_of(self.role), self.said)


Turns = Annotated[list[Turn], Field(min_length=1, max_length=1000)]


def reference(label: object) -> str | None:
    """A label, where it is a text, is the answer known to be right. Raises BadTask."""
    try:
        return encodable(label) if isinstance(label, str) else None
    except ValueError as wrong:
        raise BadTask(f"the label {wrong}") from None


def messages(turns: list[Turn]) -> tuple[Message, ...]:
    """As the judge takes them."""
    return tuple(turn.to_message() for turn in turns)
