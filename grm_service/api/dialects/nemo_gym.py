"""A NeMo Gym 0.5 resources server: `/verify` for one rollout, `/compare` for a group.

NeMo RL, verifiers and prime-rl call it. Gym's clients read the reward of every reply and leave out masked
rows, so a failure is a reply with a mask. Verifiers does not know masks and would read the 0 beside it as a
reward, so a row without the indices that Gym adds to its rows gets an error.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations
from statistics import fmean
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from fastapi import Response as Reply
from pydantic import AfterValidator, ConfigDict, FailFast, Field, model_validator
from pydantic_core import from_json, to_json

from grm_service.api.base import Described
from grm_service.api.dialects.adapter import adapter
from grm_service.api.dialects.query_options import QueryOptionsParam
from grm_service.api.dialects.turns import Turn, Turns, to_messages, to_response
from grm_service.api.json_bodies import JSONRoute, in_proportion, json_reply
from grm_service.api.responses import BODY, JUDGING, documented, example
from grm_service.api.texts import Text, bound_turns
from grm_service.content import NotText
from grm_service.errors import BadTask, GRMError, PromptTooLong, TextTooLong, TooMuchText, UpstreamDenied
from grm_service.types import Message

HOLD_S = 600.0
_FAILED, _HUGE = "judge_failed", 1e300
router = APIRouter(tags=["dialects"], route_class=JSONRoute)


class Response(Described):
    """An OpenAI Responses object; its messages, tool calls and their results are judged."""

    model_config = ConfigDict(extra="allow")
    output: Annotated[list[Turn], Field(max_length=4096)]
    """Output items of the policy, oldest first; without any, the response is judged as empty."""

    def to_text(self) -> str:
        """Return the text of its items; empty, and judged as empty, if the policy did not answer."""
        return to_response([*map(dict, self.output), {"role": "assistant", "content": ""}])


class Params(Described):
    """The request to the policy."""

    model_config = ConfigDict(extra="allow")
    input: Text | Turns
    """The conversation before the response: a user's text, or turns, oldest first."""

    def to_messages(self) -> tuple[Message, ...]:
        return (Message("user", self.input),) if isinstance(self.input, str) else to_messages(self.input)


def _returnable(row: dict[str, Any], nan: bool = True) -> dict[str, Any]:
    """Return the row. Raises ValueError if it could not be returned as JSON."""
    try:
        from_json(to_json(row), allow_inf_nan=nan)
    except ValueError as error:
        raise ValueError(f"the row cannot be returned as JSON: {error}") from None
    return row


class Verify(Described):
    """A rollout; all other fields of the row are returned unchanged."""

    model_config = ConfigDict(extra="allow")
    responses_create_params: Params
    """The request that the policy answered."""
    response: Response
    """The policy's answer, which is judged."""

    @model_validator(mode="after")
    def _can_be_sent_back(self) -> Verify:
        _returnable(self.model_dump(), nan=False)
        return self

    def exchange(self) -> tuple[tuple[Message, ...], str]:
        return self.responses_create_params.to_messages(), self.response.to_text()


class Compare(Described):
    """A conversation and the responses to it, with an optional principle to judge them by."""

    conversation_history: Turns
    """The conversation before the responses, oldest turn first."""
    response_objs: Annotated[list[Response], Field(min_length=1, max_length=64)]
    """1 to 64 responses, judged together."""
    principle: Annotated[Text, Field(min_length=1, max_length=4000)] | None = None
    """The only principle to judge by, beside the set in the parameter `principles`; null: `mode` applies."""

    @model_validator(mode="after")
    def _few_turns(self) -> Compare:
        bound_turns(each.output for each in self.response_objs)
        return self

    def exchanges(self) -> tuple[tuple[Message, ...], tuple[str, ...]]:
        return to_messages(self.conversation_history), tuple(each.to_text() for each in self.response_objs)


class Comparison(Described):
    """Two responses of a group with their rewards."""

    response_i: int
    """Index (from 0) of the first response."""
    response_j: int
    """Index (from 0) of the second response; larger than `response_i`."""
    judge_idx: int = 0
    """Always 0: all samples are one judge."""
    score_1: float
    """Reward of the first response before shaping, on the profile's scale."""
    score_2: float
    """Reward of the second response before shaping, on the profile's scale."""
    ranking: None = None
    """Always null: Gym's preference in a pair (1 to 6), but the judge scores responses and ranks no pairs."""


class Compared(Described):
    """The rewards of a group."""

    rewards: list[float]
    """Reward of each response, in their order, shaped by the parameters."""
    comparison_results: list[Comparison] | None
    """Every pair of responses; null for a single response, and if the rewards are the fallback."""
    metrics: dict[str, float]
    """Numbers for the trainer's log: judged, raw (of the first response), group_size, agreement, samples."""


class Aggregate(Described):
    """Replies of `/verify`."""

    # Of many bad rows, the first is reported.
    verify_responses: Annotated[list[Annotated[dict[str, Any], AfterValidator(_returnable)]], FailFast()]
    """The replies; masked ones do not count."""


class Aggregated(Described):
    """Gym's AggregateMetrics."""

    group_level_metrics: list[dict[str, Any]]
    """For each task, its `_ng_task_index` and the means of the numeric fields of its rows."""
    agent_metrics: dict[str, float]
    """Means of the numeric fields over all rows, such as `mean/reward`."""
    key_metrics: dict[str, float]
    """The mean reward, `mean/reward`; empty without judged rows."""


@router.post(
    "/seed_session",
    summary="Start a session of NeMo Gym",
    responses=example("/seed_session") | documented(401),
)
async def seed_session() -> dict[str, Any]:
    """Return an empty object: sessions have no state."""
    return {}


@router.get(
    "/reverify_mode",
    summary="Get the reverify mode of NeMo Gym",
    responses=example("/reverify_mode") | documented(401),
)
async def reverify_mode() -> Literal["stateless"]:
    """Return Gym's name for a server that needs nothing but a row to judge it again."""
    return "stateless"


@router.post(
    "/verify",
    summary="Judge a rollout of NeMo Gym",
    responses=example("/verify") | JUDGING,
    response_model=dict[str, Any],
)
async def verify(request: Request, options: QueryOptionsParam, body: Verify) -> Reply:
    """Return the row with its reward.

    If judging fails, the row is masked and has the reason, provided that it has `_ng_` indices, as NeMo Gym's
    rows do; otherwise the reply is an error.
    """
    row = await in_proportion(request, body.model_dump, exclude_unset=True)
    group, attempt = row.get("_ng_group_id"), row.get("_ng_group_attempt")
    name = None if group is None else f"{group}:{attempt}"
    try:
        prompt, response = await in_proportion(request, body.exchange)
        reward = await adapter(request, "nemo_gym").single(request, options, prompt, response, group=name)
    except GRMError as error:
        # Wrong options, or a key that the model's server refuses, fail every row: masks would hide that.
        is_config_error = isinstance(error, (BadTask, UpstreamDenied))
        is_config_error &= not isinstance(error, (NotText, TextTooLong, TooMuchText, PromptTooLong))
        if is_config_error or not any(name.startswith("_ng_") for name in row):
            raise
        judged = _mask(row, f"{error.code}: {error}")
    else:
        judged = {"reward": reward.value} | reward.metrics
    return await in_proportion(request, json_reply, row | judged)


def _mask(row: dict[str, Any], why: str) -> dict[str, Any]:
    """Return the fields that mask a row for NeMo RL, for Gym's collector and for newer versions of Gym."""
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


@router.post(
    "/aggregate_metrics",
    summary="Aggregate rewards of NeMo Gym",
    responses=example("/aggregate_metrics") | documented(401, *BODY),
    response_model=Aggregated,
)
async def aggregate_metrics(request: Request, body: Aggregate) -> Reply:
    """Return the means of all numeric fields, over all judged rows and for each task."""
    return await in_proportion(request, lambda: json_reply(_aggregated(body)))


def _aggregated(body: Aggregate) -> Aggregated:
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
            # Not infinite numbers, nor integers that exceed a float.
            if isinstance(value, int | float) and abs(value) < _HUGE and not name.startswith("_ng_"):
                numbers[f"mean/{name}"].append(float(value))
    return {name: fmean(values) for name, values in numbers.items()}


@router.post("/compare", summary="Judge a group of NeMo Gym", responses=example("/compare") | JUDGING)
async def compare(request: Request, options: QueryOptionsParam, body: Compare) -> Compared:
    """Return the rewards of a group, judged together."""
    prompt, responses = await in_proportion(request, body.exchanges)
    dialect = adapter(request, "nemo_gym")
    rewards = await dialect.together(request, options, prompt, responses, principle=body.principle)
    return Compared(
        rewards=[reward.value for reward in rewards],
        comparison_results=_pairs([reward.raw for reward in rewards]),
        metrics=rewards[0].metrics,
    )


def _pairs(scores: Sequence[float | None]) -> list[Comparison] | None:
    """Return every pair of responses; None if there is one response only, or if they have fallbacks."""
    known = [(place, score) for place, score in enumerate(scores) if score is not None]
    return [
        Comparison(response_i=i, response_j=j, score_1=first, score_2=second)
        for (i, first), (j, second) in combinations(known, 2)
    ] or None
