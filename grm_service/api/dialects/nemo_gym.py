"""A NeMo Gym resources server: `/verify` for one rollout, `/compare` for a group.

NeMo RL, verifiers and prime-rl ask it. Gym's clients take the reward of whatever comes and leave out what is
masked: a failure is an answer with a mask. Verifiers knows no mask, and would take its 0 for a reward: a row
without the indices that Gym gives its rows fails as an error.
"""

from __future__ import annotations

import json
from collections import defaultdict
from statistics import fmean
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, model_validator

from grm_service.api.dialects.adapter import adapter
from grm_service.api.dialects.query_options import Wished
from grm_service.api.dialects.turns import Turn, Turns, messages
from grm_service.api.problems import BODY, JUDGING, documented
from grm_service.api.schemas import Text
from grm_service.errors import BadTask, GRMError, PromptTooLong, TextTooLong
from grm_service.types import Message

HOLD_S = 600.0
_FAILED, _HUGE = "judge_failed", 1e300
router = APIRouter(tags=["dialects"])


class Output(Turn):
    """An item of a response's output."""

    type: Text = "message"


class Response(BaseModel):
    """An OpenAI Responses object; its messages are what is judged."""

    model_config = ConfigDict(extra="allow")
    output: list[Output]

    @property
    def said(self) -> str:
        """Empty where the policy never answered, and judged as such."""
        return "\n".join(item.said for item in self.output if item.type == "message")


class Params(BaseModel):
    """What the policy was asked."""

    model_config = ConfigDict(extra="allow")
    input: Text | Turns

    def to_messages(self) -> tuple[Message, ...]:
        return (Message("user", self.input),) if isinstance(self.input, str) else messages(self.input)


class Verify(BaseModel):
    """A rollout; what else stands in the row is sent back."""

    model_config = ConfigDict(extra="allow")
    responses_create_params: Params
    response: Response

    @model_validator(mode="after")
    def _can_be_sent_back(self) -> Verify:
        try:
            json.dumps(self.model_dump(), allow_nan=False, ensure_ascii=False).encode()
        except (ValueError, RecursionError) as wrong:
            raise ValueError(f"the row cannot be sent back as JSON: {wrong}") from None
        return self


class Compare(BaseModel):
    """A conversation and the responses to it; `principle` is what they are judged by, where it is given."""

    conversation_history: Turns
    response_objs: Annotated[list[Response], Field(min_length=1, max_length=64)]
    principle: Annotated[Text, Field(min_length=1, max_length=4000)] | None = None


class Compared(BaseModel):
    """Rewards in the order of the responses. Nothing was compared in pairs."""

    rewards: list[float]
    comparison_results: list[Any] = []
    metrics: dict[str, float]


class Aggregate(BaseModel):
    """Rows as `/verify` answered them."""

    verify_responses: list[dict[str, Any]]


class Aggregated(BaseModel):
    """Gym's AggregateMetrics."""

    group_level_metrics: list[dict[str, Any]]
    agent_metrics: dict[str, float]
    key_metrics: dict[str, float]


@router.post("/seed_session", responses=documented(401))
async def seed_session() -> dict[str, Any]:
    """There is no state to seed."""
    return {}


@router.post("/verify", responses=JUDGING)
async def verify(request: Request, wish: Wished, body: Verify) -> dict[str, Any]:
    """The rollout's reward, with the row as it came; a failure is masked and says why, it is not a 0.

    Masked where the row has `_ng_` indices, as NeMo Gym's have; else it is an error.
    """
    row = body.model_dump(mode="json", exclude_unset=True)
    group, attempt = row.get("_ng_group_id"), row.get("_ng_group_attempt")
    name = None if group is None else f"{group}:{attempt}"
    try:
        asked, answer = body.responses_create_params.to_messages(), body.response.said
        reward = await adapter(request, "nemo_gym").single(request, wish, asked, answer, group=name)
    except GRMError as failed:
        # A mistake in the options is every row's, and no mask may hide it.
        options = isinstance(failed, BadTask) and not isinstance(failed, (TextTooLong, PromptTooLong))
        if options or not any(name.startswith("_ng_") for name in row):
            raise
        return row | _masked(row, f"{failed.code}: {failed}")
    return row | {"reward": reward.value} | reward.numbers


def _masked(row: dict[str, Any], why: str) -> dict[str, Any]:
    """As NeMo RL, Gym's collector, and Gym since its failure kinds each tell a masked row."""
    config = row.get("instance_config")
    return {
        "reward": 0.0,
        "mask_sample": True,
        "failure_kind": _FAILED,
        "failure_reason": why,
        "_ng_failure_class": _FAILED,
        "_ng_failure_judge_error": why,
        "instance_config": (config if isinstance(config, dict) else {}) | {"mask_sample": True},
    }


@router.post("/aggregate_metrics", responses=documented(401, *BODY))
async def aggregate_metrics(body: Aggregate) -> Aggregated:
    """Means of all numbers in the rows that were judged, over all and for each task."""
    judged = [
        row for row in body.verify_responses if not (row.get("_ng_failure_class") or row.get("mask_sample"))
    ]
    tasks = defaultdict[str, list[dict[str, Any]]](list)
    for row in judged:
        tasks[json.dumps(row.get("_ng_task_index"))].append(row)
    metrics = _means(judged)
    return Aggregated(
        group_level_metrics=[
            {"_ng_task_index": rows[0].get("_ng_task_index"), **_means(rows)} for rows in tasks.values()
        ],
        agent_metrics=metrics,
        key_metrics={name: mean for name, mean in metrics.items() if name == "mean/reward"},
    )


def _means(rows: list[dict[str, Any]]) -> dict[str, float]:
    numbers = defaultdict[str, list[float]](list)
    for row in rows:
        for name, value in row.items():
            # Not the infinite, nor whole numbers that no float holds.
            if isinstance(value, int | float) and abs(value) < _HUGE and not name.startswith("_ng_"):
                numbers[f"mean/{name}"].append(float(value))
    return {name: fmean(values) for name, values in numbers.items()}


@router.post("/compare", responses=JUDGING)
async def compare(request: Request, wish: Wished, body: Compare) -> Compared:
    """The rewards of a group, judged together."""
    asked, answers = messages(body.conversation_history), tuple(each.said for each in body.response_objs)
    dialect = adapter(request, "nemo_gym")
    rewards = await dialect.together(request, wish, asked, answers, principle=body.principle)
    return Compared(rewards=[reward.value for reward in rewards], metrics=rewards[0].numbers)
