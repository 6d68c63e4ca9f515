"""What the service answers, as frozen values. What a newer service says beside it is passed over."""

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
    """One of the k: what the model saw (`order`), wrote (`text`), and its scores or the reason why not.

    `order[p]` is your index of the response shown at position p. `scores` are in your order, with None for
    a response that this sample was not shown (of a large group it sees some only); None as a whole, and
    `error` says why, where the sample could not be read. `expected`: soft scores, where asked for.
    `grade` (0..1) is the meta RM's, where it chose which samples are `counted`.
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
    completion_tokens: int
    text: str


@dataclass(frozen=True, slots=True)
class Vote:
    """What samples vote together, by the names that a verdict has."""

    rewards: tuple[float, ...]
    best: int | None
    ties: tuple[tuple[int, ...], ...]
    ranking: tuple[int, ...]
    agreement: float | None
    std: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Shaped:
    """Shaped rewards: `transformed` + `length_penalty` (0 or less), in your response order."""

    transformed: tuple[float, ...]
    length_penalty: tuple[float, ...]
    rewards: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The rewards of the responses to one query, and all that is behind them.

    `rewards` are mean scores on the profile's scale, `std` their spread over the samples, `ranking` 1 for the
    best, all in your response order. `best` is None where the top is tied, `agreement` the share of samples
    that put the best on top (None for a single response). "partial": not every sample taken was read.
    Where the model `meta_rm` chose the `counted` ones, `unfiltered` is the vote of all that were read.
    `samples` is None where `detail="rewards"` left them out, `shaped` where no shaping was asked for.
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
    """The reward of one response out of a group that the service gathered.

    `reward` is as the options shape it, `raw` on the profile's scale, `group_size` how many were judged
    together, `agreement` the share of `samples` that put the group's best on top (-1 where it stayed alone).
    `judged` is 0 where the `fallback` that you asked for stands in for a reward, and 1 otherwise.
    """

    reward: float
    raw: float
    judged: float
    group_size: float
    agreement: float
    samples: float


@dataclass(frozen=True, slots=True)
class WrittenPrinciples:
    """Principles that were written for a query."""

    profile: str
    principles: tuple[Principle, ...]
    usage: Usage


def verdict(said: Mapping[str, Any], responses: int) -> Verdict:
    """A reply as a verdict on so many responses. Raises ValueError, KeyError, TypeError where it is none."""
    flat = {"samples": None, "shaped": None, "unfiltered": None, "meta_rm": None, **said, **said["timing"]}
    read = _read(
        Verdict,
        flat,
        created=datetime.fromisoformat(said["created"]),
        principles=_principles(said),
        shaped=None if flat["shaped"] is None else _read(Shaped, flat["shaped"]),
        unfiltered=None if flat["unfiltered"] is None else _read(Vote, flat["unfiltered"]),
        samples=None if flat["samples"] is None else tuple(map(_sample, flat["samples"])),
        usage=_read(Usage, said["usage"]),
    )
    if len(read.rewards) != responses:
        raise ValueError(f"{len(read.rewards)} rewards for {responses} responses")
    if not all(map(math.isfinite, read.rewards)):
        raise ValueError("a reward is not a finite number")
    return read


def single(said: Mapping[str, Any]) -> Single:
    """A reply as the reward of one response. Raises as `verdict` does."""
    read = _read(Single, said)
    if not math.isfinite(read.reward):
        raise ValueError("the reward is not a finite number")
    return read


def written(said: Mapping[str, Any]) -> WrittenPrinciples:
    """A reply as principles. Raises as `verdict` does."""
    return _read(WrittenPrinciples, said, principles=_principles(said), usage=_read(Usage, said["usage"]))


def _sample(said: Mapping[str, Any]) -> Sample:
    return _read(Sample, said, principles=_principles(said))


def _principles(said: Mapping[str, Any]) -> tuple[Principle, ...]:
    return tuple(_read(Principle, principle) for principle in said["principles"])


def _read(kind: type[Value], said: Mapping[str, Any], **read: Any) -> Value:
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    return kind(**{name: read[name] if name in read else _frozen(said[name]) for name in names})


def _frozen(value: Any) -> Any:
    return tuple(_frozen(each) for each in value) if isinstance(value, list) else value
