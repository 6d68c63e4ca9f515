"""Our own route for one response of a group, which is judged together with the others of its group.

For reward functions that receive one response at a time (verl, AReaL, SkyRL): they call it with our client.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import Field, model_validator

from grm_service.api.base import Described
from grm_service.api.dialects.adapter import adapter
from grm_service.api.dialects.query_options import QueryOptionsParam
from grm_service.api.dialects.turns import Turns, to_messages
from grm_service.api.json_bodies import JSONRoute, in_proportion
from grm_service.api.responses import JUDGING, example
from grm_service.api.texts import Reference, ResponseText, Text
from grm_service.types import Message

router = APIRouter(tags=["dialects"], route_class=JSONRoute)


class Single(Described):
    """One response of a group, after `query` or `messages`."""

    query: Text | None = None
    """Shorthand for a conversation of one user message."""
    messages: Turns | None = None
    """The conversation before the response, oldest turn first."""
    response: ResponseText
    """The response: a text, a turn, or the turns of a trajectory."""
    reference: Reference = None
    """A reference answer to judge by; numbers and booleans count as their JSON text. Null: none."""
    group_id: Annotated[Text, Field(max_length=256)] | None = None
    """Id of the response's group, if the prompt alone does not identify it; null: it does."""

    @model_validator(mode="after")
    def _one_conversation(self) -> Single:
        if (self.query is None) == (self.messages is None):
            raise ValueError("pass either 'query' or 'messages'")
        return self


class SingleReply(Described):
    """The reward, and numbers for the trainer's log."""

    reward: float
    """The reward, shaped by the parameters, or the fallback."""
    raw: float
    """The reward before shaping, on the profile's scale; -1 with a fallback."""
    judged: float
    """1, or 0 if `reward` is the fallback."""
    group_size: float
    """Number of different responses that were judged together; 0 with a fallback."""
    agreement: float
    """Share of the samples (0 to 1) that put the group's best response on top; -1 for a response that was
    judged alone, and with a fallback.
    """
    samples: float
    """Number of samples of the verdict; 0 with a fallback."""


@router.post(
    "/v1/rewards/single",
    summary="Judge one response of a group",
    responses=example("/v1/rewards/single") | JUDGING,
)
async def single(request: Request, options: QueryOptionsParam, body: Single) -> SingleReply:
    """Return the reward of one response; the others of its group are requests of their own."""
    query: tuple[Message, ...] = (Message("user", body.query or ""),)
    if body.messages is not None:
        query = await in_proportion(request, to_messages, body.messages)
    dialect = adapter(request, "single")
    reward = await dialect.single(request, options, query, body.response, body.reference, body.group_id)
    return SingleReply(reward=reward.value, **reward.metrics)
