"""Our own route for one response of a group, which is judged together with the others of its group.

For reward functions that receive one response at a time (verl, AReaL, SkyRL): they call it with our client.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field, model_validator

from grm_service.api.dialects.adapter import adapter
from grm_service.api.dialects.query_options import QueryOptionsParam
from grm_service.api.dialects.turns import Turns, to_messages
from grm_service.api.json_bodies import JSONRoute, in_proportion
from grm_service.api.problems import JUDGING
from grm_service.api.texts import Reference, ResponseText, Text
from grm_service.types import Message

router = APIRouter(tags=["dialects"], route_class=JSONRoute)


class Single(BaseModel):
    """One response; `group_id` identifies its group if the prompt alone does not."""

    query: Text | None = None
    messages: Turns | None = None
    response: ResponseText
    reference: Reference = None
    group_id: Annotated[Text, Field(max_length=256)] | None = None

    @model_validator(mode="after")
    def _one_conversation(self) -> Single:
        if (self.query is None) == (self.messages is None):
            raise ValueError("pass either 'query' or 'messages'")
        return self


class SingleReply(BaseModel):
    """The reward, shaped by the options, and metrics.

    `judged` is 0 if `reward` is the fallback, else 1. Missing values are -1: with a fallback, and the
    `agreement` of a response that was judged alone.
    """

    reward: float
    raw: float
    judged: float
    group_size: float
    agreement: float
    samples: float


@router.post("/v1/rewards/single", responses=JUDGING)
async def single(request: Request, options: QueryOptionsParam, body: Single) -> SingleReply:
    """Return the reward of one response; the others of its group are requests of their own."""
    query: tuple[Message, ...] = (Message("user", body.query or ""),)
    if body.messages is not None:
        query = await in_proportion(request, to_messages, body.messages)
    dialect = adapter(request, "single")
    reward = await dialect.single(request, options, query, body.response, body.reference, body.group_id)
    return SingleReply(reward=reward.value, **reward.metrics)
