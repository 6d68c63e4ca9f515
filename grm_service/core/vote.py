"""Voting: from the scores of the counted samples to rewards (paper, Eq. 14, divided by k)."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, pstdev

from grm_service.types import Vote


def vote(scores: Sequence[tuple[float, ...]]) -> Vote:
    """Hard vote over one row of scores a sample (at least one row), all of the same n >= 1 responses.

    Rewards are means, so verdicts of different k compare; the paper's sums are k times these. Ties stay
    ties: no response wins one by standing first.
    """
    columns = list(zip(*scores, strict=True))
    rewards = tuple(fmean(column) for column in columns)
    ranking = tuple(1 + sum(other > reward for other in rewards) for reward in rewards)
    top = _top(rewards)
    return Vote(
        rewards=rewards,
        std=tuple(pstdev(column) for column in columns),
        ranking=ranking,
        ties=_ties(ranking),
        best=top[0] if len(top) == 1 else None,
        agreement=_agreement(scores, top) if len(columns) > 1 else None,
    )


def _top(scores: tuple[float, ...]) -> tuple[int, ...]:
    return tuple(i for i, score in enumerate(scores) if score == max(scores))


def _ties(ranking: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    groups = [tuple(i for i, rank in enumerate(ranking) if rank == place) for place in sorted(set(ranking))]
    return tuple(group for group in groups if len(group) > 1)


def _agreement(scores: Sequence[tuple[float, ...]], best: tuple[int, ...]) -> float:
    """Support of the best: for tied ones that of the most supported, so a 50/50 split is 0.5, not 1."""
    tops = [_top(row) for row in scores]
    return max(fmean((i in top) / len(top) for top in tops) for i in best)
