"""OpenRLHF's remote reward model: `--reward.remote_url http://HOST:PORT/get_reward?group=8`.

OpenRLHF sends one response per call and tries five times, 180 s each, after any error; a missing reward
crashes the trainer. So requests are held, for less than its timeout.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import Field

from grm_service import chat_templates
from grm_service.api.base import Described
from grm_service.api.dialects.adapter import adapter
from grm_service.api.dialects.query_options import QueryOptionsParam
from grm_service.api.dialects.turns import to_response
from grm_service.api.json_bodies import JSONRoute, in_proportion
from grm_service.api.responses import JUDGING, example
from grm_service.api.texts import Text
from grm_service.concurrency import gather
from grm_service.errors import BadTask
from grm_service.plain_values import to_reference
from grm_service.types import Message

HOLD_S = 170.0  # OpenRLHF's timeout is 180 s
router = APIRouter(tags=["dialects"], route_class=JSONRoute)
Texts = Annotated[list[Text], Field(min_length=1, max_length=64)]


class GetReward(Described):
    """1 to 64 samples of the policy; the lists have one entry for each."""

    query: Texts
    """Prompt and response of each sample, in the chat template."""
    prompts: Texts
    """The prompt alone, with which the text in `query` begins."""
    labels: Annotated[list[Any], Field(max_length=64)] | None = None
    """Reference answer of each sample, of any type; null, NaN and blank ones are none."""

    def exchanges(self) -> list[tuple[tuple[Message, ...], str, str | None]]:
        """Return the conversation, the response and the reference of each sample. Raises BadTask."""
        labels = self.labels or [None] * len(self.query)
        if not len(self.query) == len(self.prompts) == len(labels):
            raise BadTask("query, prompts and labels must have one entry for each response")
        try:
            return [
                (
                    chat_templates.parse_prompt(prompt),
                    to_response(chat_templates.extract_response(query, prompt)),
                    to_reference(label),
                )
                for query, prompt, label in zip(self.query, self.prompts, labels, strict=True)
            ]
        except ValueError as error:
            raise BadTask(str(error)) from None


class Rewards(Described):
    """The rewards of the samples, in their order."""

    rewards: list[float]
    """Rewards, shaped by the parameters."""
    scores: list[float]
    """Rewards before shaping, mapped from the profile's scale to 0..1, for dynamic filtering; a fallback is
    not mapped.
    """
    extra_logs: dict[str, list[float]]
    """Numbers for the trainer's log: judged, raw, group_size, agreement, samples; -1 for a missing one."""


@router.post("/get_reward", summary="Judge samples of OpenRLHF", responses=example("/get_reward") | JUDGING)
async def get_reward(request: Request, options: QueryOptionsParam, body: GetReward) -> Rewards:
    """Judge samples of OpenRLHF; responses to one prompt are gathered into a group (`group`, `window_s`)."""
    dialect = adapter(request, "openrlhf")
    exchanges = await in_proportion(request, body.exchanges)
    rewards = await gather(dialect.single(request, options, *exchange) for exchange in exchanges)
    return Rewards(
        rewards=[reward.value for reward in rewards],
        scores=[reward.value if reward.unit is None else reward.unit for reward in rewards],
        extra_logs={name: [r.metrics[name] for r in rewards] for name in rewards[0].metrics},
    )
