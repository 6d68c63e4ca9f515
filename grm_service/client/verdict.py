"""Replies of the service as frozen dataclasses. Fields that a newer service adds are ignored."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Literal, TypeVar

from grm_service.types import Principle, Scores, Usage

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Sample:
    """One of the k critiques: the order of the responses in the prompt, the text, and the scores.

    `order[p]` is the request's index of the response at position p of the prompt. `scores` are in the
    request's order, with None for a response that is not in this sample's prompt (in large groups); the whole
    field is None if the sample could not be parsed, for the reason `error`. `expected`: soft scores, if
    requested; if there are none for the reason `soft_error`, `scores` are voted. `closed`: the service
    completed the text, because of `closed_reason`. `grade` (0..1) is the meta RM's, if it selected the
    samples that are `counted`. `thinking` is what the model wrote before its answer `text`; `thinking_cut`:
    it did not end.
    """

    index: int
    seed: int
    order: tuple[int, ...]
    principles: tuple[Principle, ...]
    analysis: str | None
    scores: Scores | None
    expected: Scores | None
    grade: float | None
    counted: bool
    closed: bool
    error: str | None
    finish_reason: str | None
    completion_tokens: int | None
    text: str
    thinking: str | None = None
    thinking_cut: bool = False
    closed_reason: str | None = None
    soft_error: str | None = None


@dataclass(frozen=True, slots=True)
class Vote:
    """The result of a vote, with the field names of a verdict."""

    rewards: tuple[float, ...]
    best: int | None
    ties: tuple[tuple[int, ...], ...]
    ranking: tuple[int, ...]
    agreement: float | None
    std: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Shaped:
    """Shaped rewards: `transformed` + `length_penalty` (0 or less), in the order of the request."""

    transformed: tuple[float, ...]
    length_penalty: tuple[float, ...]
    rewards: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The rewards of the responses to one query, with the samples behind them.

    `rewards` are mean scores on the profile's scale, `std` their standard deviations over the samples,
    `ranking` is 1 for the best, all in the order of the request. `best` is None if the top is tied,
    `agreement` the share of samples that rank the best first (None for a single response). `status` is
    "partial" if some samples could not be parsed. If the model `meta_rm` selected the `counted` samples,
    `unfiltered` is the vote over all. `samples` is None with `detail="rewards"`, `shaped` without `shaping`.
    `queue_s`, `judge_s`: seconds.
    """

    id: str
    status: Literal["ok", "partial"]
    profile: str
    fingerprint: str
    model: str
    created: datetime
    constitution: str | None
    rewards: tuple[float, ...]
    best: int | None
    ties: tuple[tuple[int, ...], ...]
    ranking: tuple[int, ...]
    agreement: float | None
    std: tuple[float, ...]
    response_ids: tuple[str, ...] | None
    k: int
    valid: int
    counted: int
    stopped: str | None
    unfiltered: Vote | None
    meta_rm: str | None
    shaped: Shaped | None
    principles: tuple[Principle, ...]
    samples: tuple[Sample, ...] | None
    usage: Usage
    queue_s: float
    judge_s: float


@dataclass(frozen=True, slots=True)
class Single:
    """The reward of one response in a group that the service gathered.

    `reward` is shaped by the options, `raw` on the profile's scale; `group_size` counts the responses judged
    together, `agreement` is the share of `samples` that rank the group's best first (-1 for a single
    response). `judged` is 0 if `reward` is the requested `fallback`, else 1.
    """

    reward: float
    raw: float
    judged: float
    group_size: float
    agreement: float
    samples: float


@dataclass(frozen=True, slots=True)
class WrittenPrinciples:
    """Principles that the model wrote for a query."""

    profile: str
    principles: tuple[Principle, ...]
    usage: Usage


def parse_verdict(reply: Mapping[str, Any], responses: int) -> Verdict:
    """Return the verdict in a reply. Raises ValueError, KeyError or TypeError if there is none.

    `responses` is the number of responses in the request, each of which needs a finite reward.
    """
    # These fields are missing if they do not apply.
    flat = {"samples": None, "shaped": None, "unfiltered": None, "meta_rm": None, **reply, **reply["timing"]}
    verdict = _build(
        Verdict,
        flat,
        created=datetime.fromisoformat(reply["created"]),
        principles=_principles(reply),
        shaped=None if flat["shaped"] is None else _build(Shaped, flat["shaped"]),
        unfiltered=None if flat["unfiltered"] is None else _build(Vote, flat["unfiltered"]),
        samples=None if flat["samples"] is None else tuple(map(_sample, flat["samples"])),
        usage=_build(Usage, reply["usage"]),
    )
    if len(verdict.rewards) != responses:
        raise ValueError(f"{len(verdict.rewards)} rewards for {responses} responses")
    if not all(map(math.isfinite, verdict.rewards)):
        raise ValueError("a reward is not a finite number")
    return verdict


def parse_single(reply: Mapping[str, Any]) -> Single:
    """Return the reward in a reply. Raises the same exceptions as `parse_verdict`."""
    single = _build(Single, reply)
    if not math.isfinite(single.reward):
        raise ValueError("the reward is not a finite number")
    return single


def parse_principles(reply: Mapping[str, Any]) -> WrittenPrinciples:
    """Return the principles in a reply. Raises the same exceptions as `parse_verdict`."""
    usage = _build(Usage, reply["usage"])
    return _build(WrittenPrinciples, reply, principles=_principles(reply), usage=usage)


def _sample(sample: Mapping[str, Any]) -> Sample:
    return _build(Sample, sample, principles=_principles(sample))


def _principles(reply: Mapping[str, Any]) -> tuple[Principle, ...]:
    return tuple(_build(Principle, principle) for principle in reply["principles"])


def _build(kind: type[Value], values: Mapping[str, Any], **parsed: Any) -> Value:
    """Return an instance of a dataclass, with `parsed` in place of the values of the same names.

    A field that an older service lacks has its default.
    """
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    received = {name: _freeze(values[name]) for name in names if name in values}
    return kind(**(received | parsed))


def _freeze(value: Any) -> Any:
    return tuple(_freeze(item) for item in value) if isinstance(value, list) else value
