"""Whether a judge was right about an item."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from grm_service.core.vote import vote
from grm_service.evaluation.kept import Judged, Taken
from grm_service.evaluation.votes import SERVED, VOTES, VoteKind


@dataclass(frozen=True, slots=True)
class Credit:
    """`strict`: 1 where every right response is above every wrong one. `half`: a right one among m at the top
    counts 1/m as well. Both are 0 where nothing could be read, and lie between for means.
    """

    strict: float
    half: float


WRONG = Credit(0.0, 0.0)


def credit(rewards: Sequence[float], correct: Sequence[int]) -> Credit:
    """What these rewards earn; `correct` has at least one index, and not all."""
    least = min(rewards[i] for i in correct)
    others = [reward for i, reward in enumerate(rewards) if i not in correct]
    if least != max(others):
        return Credit(1.0, 1.0) if least > max(others) else WRONG
    return Credit(0.0, 1 / (1 + others.count(least)))


def earned(samples: Sequence[Taken], correct: Sequence[int], kind: VoteKind = SERVED) -> Credit:
    """What the vote of some samples earns."""
    found = rewards(samples, kind)
    return WRONG if found is None else credit(found, correct)


def rewards(samples: Sequence[Taken], kind: VoteKind = SERVED) -> tuple[float, ...] | None:
    """What the samples vote, None where they show no reward for every response."""
    readable = [sample.scores for sample in samples if sample.scores is not None]
    if not readable or any(set(column) == {None} for column in zip(*readable, strict=True)):
        return None
    return VOTES[kind](readable)


def of(judged: Judged, kind: VoteKind = SERVED) -> Credit:
    """Of an item with all its samples."""
    return WRONG if judged.error is not None else earned(judged.samples, judged.correct, kind)


def agreement(judged: Judged) -> float | None:
    """The share of samples behind the best response, None where nothing was voted."""
    if judged.error is not None or rewards(judged.samples) is None:
        return None
    return vote([sample.scores for sample in judged.samples if sample.scores is not None]).agreement
