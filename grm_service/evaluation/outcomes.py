"""Whether a judge was right about an item."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from grm_service.errors import BadTask
from grm_service.evaluation.run_folder import ItemResult, SampleResult
from grm_service.evaluation.votes import GUIDED, SERVED, VOTES, VoteKind
from grm_service.judging.vote import select_by_grade, vote


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


def earned(samples: Sequence[SampleResult], correct: Sequence[int], kind: VoteKind = SERVED) -> Credit:
    """What the vote of some samples earns."""
    found = rewards(samples, kind)
    return WRONG if found is None else credit(found, correct)


def rewards(samples: Sequence[SampleResult], kind: VoteKind = SERVED) -> tuple[float, ...] | None:
    """What the samples vote, None where they show no reward for every response.

    Raises BadTask where a meta RM's choice is wanted of samples that none has graded.
    """
    if kind == GUIDED:
        samples = _chosen(samples)
    readable = [sample.scores for sample in samples if sample.scores is not None]
    if not readable or any(set(column) == {None} for column in zip(*readable, strict=True)):
        return None
    return VOTES[kind](readable)


def _chosen(samples: Sequence[SampleResult]) -> list[SampleResult]:
    """As the service does where nothing else is said: half of what was planned, the best by grade."""
    graded = {at: sample.grade for at, sample in enumerate(samples) if sample.grade is not None}
    if len(graded) < sum(sample.scores is not None for sample in samples):
        raise BadTask(
            "these samples were not graded: judge them with a meta RM (GRM_META_RM, GRM_META_RM_URL)"
        )
    kept = select_by_grade(graded, [sample.order for sample in samples], max(1, len(samples) // 2))
    return [sample for at, sample in enumerate(samples) if at in kept]


def of(judged: ItemResult, kind: VoteKind = SERVED) -> Credit:
    """Of an item with all its samples."""
    return WRONG if judged.error is not None else earned(judged.samples, judged.correct, kind)


def agreement(judged: ItemResult) -> float | None:
    """The share of samples behind the best response, None where nothing was voted."""
    if judged.error is not None or rewards(judged.samples) is None:
        return None
    return vote([sample.scores for sample in judged.samples if sample.scores is not None]).agreement
