"""Our own, for reward functions that get one response of a group at a time (verl, AReaL, SkyRL): our client
sends it here, and it is judged with its siblings, which come by themselves.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field, model_validator

from grm_service.api.dialects.adapter import adapter
from grm_service.api.dialects.query_options import Wished
from grm_service.api.dialects.turns import Turns, messages
from grm_service.api.problems import JUDGING
from grm_service.api.schemas import Text
from grm_service.types import Message

router = APIRouter(tags=["dialects"])


class Single(BaseModel):
    """One response; `group_id` names its group where the prompt alone does not."""

    query: Text | None = None
    messages: Turns | None = None
    response: Text
    reference: Text | None = None
    group_id: Annotated[Text, Field(max_length=256)] | None = None

    @model_validator(mode="after")
    def _one_conversation(self) -> Single:
        if (self.query is None) == (self.messages is None):
            raise ValueError("give either 'query' or 'messages'")
        return self


class SingleReply(BaseModel):
    """`reward` as the options shape it. `judged` is 0 where the wished fallback stands for it; then, and for
    the `agreement` of a response that stayed alone, -1 is said of what there is not.
    """

    reward: float
    raw: float
    judged: float
    group_size: float
    agreement: float
    samples: float


@router.post("/v1/rewards/single", responses=JUDGING)
async def single(request: Request, wish: Wished, body: Single) -> SingleReply:
    """The reward of one response out of a group whose others come by themselves."""
    asked = (Message("user", body.query),) if body.query is not None else messages(body.messages or [])
    dialect = adapter(request, "single")
    reward = await dialect.single(request, wish, asked, body.response, body.reference, body.group_id)
    return SingleReply(reward=reward.value, **reward.numbers)
