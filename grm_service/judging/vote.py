"""Voting: from the scores of the counted samples to rewards (paper, Eq. 14, divided by k)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, pstdev

from grm_service.judging.block_design import settle
from grm_service.types import Scores, Vote


def vote(scores: Sequence[Scores]) -> Vote:
    """Hard vote over one row of scores a sample (at least one row), all of the same n >= 1 responses.

    Rewards are means, so verdicts of different k compare; the paper's sums are k times these. Ties stay
    ties: no response wins one by standing first. Rows that show some responses only (core/blocks.py) are
    brought onto one scale before. Raises ValueError where a response stands in no row.
    """
    if any(score is None for row in scores for score in row):
        scores = settle(scores)
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


def keep(graded: Mapping[int, float], orders: Sequence[Sequence[int]], most: int) -> frozenset[int]:
    """The samples that grades leave in the vote, by index: the `most` best, of equals the earlier.

    `orders` has for every index the responses that the sample shows. Of a large group (core/blocks.py)
    further samples stay, the best first, where they show a response that none of the others does.
    """
    best = sorted(graded, key=lambda index: (-graded[index], index))
    kept, seen = best[:most], {i for index in best[:most] for i in orders[index]}
    for index in best[most:]:
        if not seen.issuperset(orders[index]):
            kept.append(index)
            seen.update(orders[index])
    return frozenset(kept)


def top(scores: Scores) -> tuple[int, ...]:
    """Whatever has the highest score."""
    most = max(score for score in scores if score is not None)
    return tuple(i for i, score in enumerate(scores) if score == most)


def _ties(ranking: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    groups = [tuple(i for i, rank in enumerate(ranking) if rank == place) for place in sorted(set(ranking))]
    return tuple(group for group in groups if len(group) > 1)


def _agreement(scores: Sequence[Scores], best: tuple[int, ...]) -> float:
    """Support of the best, by the samples that saw it.

    For tied ones that of the most supported, so a 50/50 split is 0.5, not 1.
    """
    tops = [(row, top(row)) for row in scores]
    return max(fmean((i in first) / len(first) for row, first in tops if row[i] is not None) for i in best)
