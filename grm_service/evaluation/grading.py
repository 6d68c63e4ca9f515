"""Whether a meta RM's grades tell right judgements from wrong ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from grm_service.evaluation import stats
from grm_service.evaluation.outcomes import credit
from grm_service.evaluation.run_folder import ItemResult
from grm_service.evaluation.stats import Area


@dataclass(frozen=True, slots=True)
class Graded:
    """One judgement of an item: its grade, and whether it was right; `group` is the item's."""

    grade: float
    right: bool
    item: str
    group: str


@dataclass(frozen=True, slots=True)
class Grading:
    """Of `n` judgements, a share `right` of which was right. `auc` is over all of them, `within` over pairs
    of one item, which is what choosing among samples needs. None where there is nothing to compare.
    """

    n: int
    right: float
    auc: Area | None
    within: Area | None


def grading(found: Sequence[Graded]) -> Grading | None:
    """None without a judgement."""
    if not found:
        return None
    grades, right = [each.grade for each in found], [each.right for each in found]
    return Grading(
        n=len(found),
        right=fmean(right),
        auc=stats.auc(grades, right, [each.group for each in found]),
        within=stats.auc_within(grades, right, [each.item for each in found]),
    )


def graded(items: Sequence[ItemResult]) -> list[Graded]:
    """The graded samples of a run; those that show some of the responses only are neither right nor wrong."""
    return [
        Graded(sample.grade, _right(sample.scores, item.correct), item.id, item.group)
        for item in items
        for sample in item.samples
        if sample.grade is not None and sample.scores is not None and None not in sample.scores
    ]


def _right(scores: Sequence[float | None], correct: Sequence[int]) -> bool:
    return credit([score for score in scores if score is not None], correct).strict == 1
