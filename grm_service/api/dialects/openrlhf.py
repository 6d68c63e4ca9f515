"""OpenRLHF's remote reward model: `--reward.remote_url http://HOST:PORT/get_reward?group=8`.

One response a call, again after any error, five times, 180 s each; a reward that is missing in the end
crashes the trainer. So calls are held and answered in time.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from grm_service import chat_templates
from grm_service.api.dialects.adapter import adapter
from grm_service.api.dialects.query_options import Wished
from grm_service.api.dialects.turns import reference
from grm_service.api.problems import JUDGING
from grm_service.api.schemas import Text
from grm_service.concurrency import gather
from grm_service.errors import BadTask

HOLD_S = 170.0
router = APIRouter(tags=["dialects"])
Texts = Annotated[list[Text], Field(min_length=1, max_length=64)]


class GetReward(BaseModel):
    """`query` is prompt and response, `prompts` the prompt alone, both with their chat template; a label that
    is a text is the reference.
    """

    query: Texts
    prompts: Texts
    labels: Annotated[list[Any], Field(max_length=64)] | None = None


class Rewards(BaseModel):
    """`rewards` as shaped, `scores` the raw ones on 0..1 (for dynamic filtering), `extra_logs` numbers."""

    rewards: list[float]
    scores: list[float]
    extra_logs: dict[str, list[float]]


@router.post("/get_reward", responses=JUDGING)
async def get_reward(request: Request, wish: Wished, body: GetReward) -> Rewards:
    """OpenRLHF. Responses to one prompt are gathered and judged together (`group`, `window_s`)."""
    labels = body.labels or [None] * len(body.query)
    if not len(body.query) == len(body.prompts) == len(labels):
        raise BadTask("query, prompts and labels must have one entry for each response")

    try:
        responses = [chat_templates.response(*pair) for pair in zip(body.query, body.prompts, strict=True)]
    except ValueError as wrong:
        raise BadTask(str(wrong)) from None
    dialect = adapter(request, "openrlhf")
    rewards = await gather(
        dialect.single(request, wish, chat_templates.conversation(prompt), response, reference(label))
        for prompt, response, label in zip(body.prompts, responses, labels, strict=True)
    )
    return Rewards(
        rewards=[reward.value for reward in rewards],
        scores=[reward.value if reward.unit is None else reward.unit for reward in rewards],
        extra_logs={name: [r.numbers[name] for r in rewards] for name in rewards[0].numbers},
    )
