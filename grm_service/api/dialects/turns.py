"""Turns in the request bodies of dialects, of any shape; their texts are read leniently (content.py)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated

from pydantic import ConfigDict, Field

from grm_service import content
from grm_service.api.base import Described
from grm_service.api.texts import Content, Text
from grm_service.types import Message

to_response = partial(content.to_response, lenient=True)


class Turn(Described):
    """A turn of a conversation, or an item of OpenAI's Responses; more fields, as in TurnIn, are read."""

    model_config = ConfigDict(extra="allow")
    role: Text | None = None
    """Author of the turn; an unknown one counts as the user."""
    content: Content = None
    """A text, a part or a list of parts; images, audio and files become `[image]` and the like."""


Turns = Annotated[list[Turn], Field(min_length=1, max_length=1000)]


def to_messages(turns: Sequence[Turn]) -> tuple[Message, ...]:
    """Return a conversation; images become `[image]`, unknown roles the user's. Raises NotText."""
    return content.to_messages([dict(turn) for turn in turns], lenient=True)
