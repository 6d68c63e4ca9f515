"""Vote: from the scores of the counted samples to rewards (SPCT, Eq. 14, divided by k)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, pstdev

from grm_service.judging.block_design import remove_block_effects
from grm_service.types import Scores, Vote


def vote(scores: Sequence[Scores]) -> Vote:
    """Return the vote over one row of scores per sample (at least one row), all of the same n >= 1 responses.

    Rewards are means, so that verdicts with different k are comparable; the paper's sums are k times these.
    Equal rewards stay tied: being first does not break a tie. Rows that cover only some responses
    (block_design.py) are adjusted to one scale first. Raises ValueError if a response is in no row.
    """
    if any(score is None for row in scores for score in row):
        scores = remove_block_effects(scores)
    columns = [[score for score in column if score is not None] for column in zip(*scores, strict=True)]
    if not all(columns):
        raise ValueError("a response has no score")
    rewards = tuple(fmean(column) for column in columns)
    ranking = tuple(1 + sum(other > reward for other in rewards) for reward in rewards)
    best = top(rewards)
    return Vote(
        rewards=rewards,
        std=tuple(pstdev(column) for column in columns),
        ranking=ranking,
        ties=_ties(ranking),
        best=best[0] if len(best) == 1 else None,
        agreement=_agreement(scores, best) if len(columns) > 1 else None,
    )


def select_by_grade(
    grades: Mapping[int, float], orders: Sequence[Sequence[int]], limit: int
) -> frozenset[int]:
    """Return the indices of the `limit` samples with the highest grades; of equal ones the earlier.

    `orders` has the responses that each sample covers. In a large group (block_design.py) more samples are
    selected, best first, until every response that any graded sample covers is covered.
    """
    ranked = sorted(grades, key=lambda index: (-grades[index], index))
    selected, covered = ranked[:limit], {i for index in ranked[:limit] for i in orders[index]}
    for index in ranked[limit:]:
        if not covered.issuperset(orders[index]):
            selected.append(index)
            covered.update(orders[index])
    return frozenset(selected)


def top(scores: Scores) -> tuple[int, ...]:
    """Return the indices of the highest score; several if it is tied."""
    highest = max(score for score in scores if score is not None)
    return tuple(i for i, score in enumerate(scores) if score == highest)


def _ties(ranking: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    groups = [tuple(i for i, rank in enumerate(ranking) if rank == place) for place in sorted(set(ranking))]
    return tuple(group for group in groups if len(group) > 1)


def _agreement(scores: Sequence[Scores], best: tuple[int, ...]) -> float:
    """Return the share of samples that put the best response on top, of those that cover it.

    If several are tied, that of the one with the most support: a 50/50 split is 0.5, not 1.
    """
    tops = [(row, top(row)) for row in scores]
    return max(fmean((i in first) / len(first) for row, first in tops if row[i] is not None) for i in best)
