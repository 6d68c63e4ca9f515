"""Correctness of a run's votes and of its meta RM's grades."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Literal

from grm_service.errors import BadTask
from grm_service.evaluation import stats
from grm_service.evaluation.run_folder import ItemResult, SampleResult
from grm_service.evaluation.stats import Area
from grm_service.judging.block_design import remove_block_effects
from grm_service.judging.vote import select_by_grade, top, vote
from grm_service.types import Scores

VoteKind = Literal["mean", "median", "majority", "meta"]
SERVED_VOTE: VoteKind = "mean"
"""The vote that the service returns; with a meta RM it returns this one as `unfiltered`."""
META_VOTE: VoteKind = "meta"
"""The mean over the samples that the meta RM grades highest."""


@dataclass(frozen=True, slots=True)
class Credit:
    """Credit of a vote, 0..1.

    `strict` is 1 if every right response has a higher reward than every wrong one. `half` also gives 1/m if m
    responses are tied at the top and a right one is among them. Both are 0 without a vote.
    """

    strict: float
    half: float


WRONG = Credit(0.0, 0.0)


@dataclass(frozen=True, slots=True)
class GradedSample:
    """The meta RM's grade of one sample, and whether the sample was right; `item` and `group` are ids."""

    grade: float
    right: bool
    item: str
    group: str


@dataclass(frozen=True, slots=True)
class Grading:
    """The quality of a meta RM's grades over `n` samples, of which the share `right` was right.

    `auc` is over all samples. `within` is over pairs of samples of one item, which is what choosing among
    samples depends on. Both are None if there are no right or no wrong samples to compare.
    """

    n: int
    right: float
    auc: Area | None
    within: Area | None


def credit(rewards: Sequence[float], correct: Sequence[int]) -> Credit:
    """Return the credit for these rewards; `correct` has at least one index, and not all of them."""
    lowest_right = min(rewards[i] for i in correct)
    wrong = [reward for i, reward in enumerate(rewards) if i not in correct]
    if lowest_right != max(wrong):
        return Credit(1.0, 1.0) if lowest_right > max(wrong) else WRONG
    return Credit(0.0, 1 / (1 + wrong.count(lowest_right)))


def item_credit(item: ItemResult, kind: VoteKind = SERVED_VOTE, meta_share: float | None = None) -> Credit:
    """Return the credit for the vote of all samples of an item; see `vote_rewards`."""
    return WRONG if item.error is not None else sample_credit(item.samples, item.correct, kind, meta_share)


def sample_credit(
    samples: Sequence[SampleResult],
    correct: Sequence[int],
    kind: VoteKind = SERVED_VOTE,
    meta_share: float | None = None,
) -> Credit:
    """Return the credit for the vote of some samples; see `vote_rewards`."""
    rewards = vote_rewards(samples, kind, meta_share)
    return WRONG if rewards is None else credit(rewards, correct)


def vote_rewards(
    samples: Sequence[SampleResult], kind: VoteKind = SERVED_VOTE, meta_share: float | None = None
) -> tuple[float, ...] | None:
    """Return the reward of each response, or None if some response has no score.

    `meta_share` is the share of the samples that the "meta" vote retains; None is half, the service's
    default. Raises BadTask if the "meta" vote is requested of samples without grades.
    """
    if kind == META_VOTE:
        samples = _highest_graded(samples, meta_share)
    readable = [sample.scores for sample in samples if sample.scores is not None]
    if not readable or any(set(column) == {None} for column in zip(*readable, strict=True)):
        return None
    return VOTES[kind](readable)


def _highest_graded(samples: Sequence[SampleResult], share: float | None) -> list[SampleResult]:
    grades = {index: sample.grade for index, sample in enumerate(samples) if sample.grade is not None}
    # Unreadable samples have no grade, but every readable one needs it.
    if len(grades) < sum(sample.scores is not None for sample in samples):
        raise BadTask(
            "these samples were not graded: judge them with a meta RM (GRM_META_RM, GRM_META_RM_URL)"
        )
    # Rounded up as in judging/plan.py, after float noise such as 3/8 * 8 > 3 is removed.
    count = len(samples) // 2 if share is None else math.ceil(round(share * len(samples), 9))
    retained = select_by_grade(grades, [sample.order for sample in samples], max(1, count))
    return [sample for index, sample in enumerate(samples) if index in retained]


def agreement(item: ItemResult) -> float | None:
    """Return the share of samples that rank the best response first, None if the item has no vote."""
    if item.error is not None or vote_rewards(item.samples) is None:
        return None
    return vote([sample.scores for sample in item.samples if sample.scores is not None]).agreement


def mean_vote(rows: Sequence[Scores]) -> tuple[float, ...]:
    """Return the mean scores, as the service does (judging/vote.py)."""
    return vote(rows).rewards


def median_vote(rows: Sequence[Scores]) -> tuple[float, ...]:
    """Return the median scores; those of large groups are brought to one scale first, as for the mean."""
    if any(score is None for row in rows for score in row):
        rows = remove_block_effects(rows)
    return tuple(median(score for score in column if score is not None) for column in zip(*rows, strict=True))


def majority_vote(rows: Sequence[Scores]) -> tuple[float, ...]:
    """Return the share of samples that rank each response first, of those that saw it.

    A first place shared by m responses counts 1/m for each.
    """
    tops = [(row, top(row)) for row in rows]
    return tuple(
        fmean((i in first) / len(first) for row, first in tops if row[i] is not None)
        for i in range(len(rows[0]))
    )


VOTES: Mapping[VoteKind, Callable[[Sequence[Scores]], tuple[float, ...]]] = {
    "mean": mean_vote,
    "median": median_vote,
    "majority": majority_vote,
    "meta": mean_vote,
}
"""From the scores of the readable samples (one row per sample) to rewards; every response has a score."""


def graded_samples(items: Sequence[ItemResult]) -> list[GradedSample]:
    """Return the graded samples of a run, without those that show only some of the responses."""
    return [
        GradedSample(sample.grade, _is_right(sample.scores, item.correct), item.id, item.group)
        for item in items
        for sample in item.samples
        if sample.grade is not None and sample.scores is not None and None not in sample.scores
    ]


def measure_grading(samples: Sequence[GradedSample]) -> Grading | None:
    """Return how well grades separate right samples from wrong ones, None without samples."""
    if not samples:
        return None
    grades, right = [sample.grade for sample in samples], [sample.right for sample in samples]
    return Grading(
        n=len(samples),
        right=fmean(right),
        auc=stats.auc(grades, right, [sample.group for sample in samples]),
        within=stats.auc_within(grades, right, [sample.item for sample in samples]),
    )


def _is_right(scores: Sequence[float | None], correct: Sequence[int]) -> bool:
    return credit([score for score in scores if score is not None], correct).strict == 1
