"""Other ways to vote the same samples, to be measured against the mean of all, which is what the service
serves without a meta RM.

Soft scores are what another run puts into the same votes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean, median
from typing import Literal

from grm_service.judging.block_design import remove_block_effects
from grm_service.judging.vote import top, vote
from grm_service.types import Scores

VoteKind = Literal["mean", "median", "majority", "meta"]
SERVED: VoteKind = "mean"
"""The vote that the service gives out, and as `unfiltered` where it has a meta RM."""
GUIDED: VoteKind = "meta"
"""The mean of the half that the meta RM grades best (outcomes.py chooses it)."""


def mean(rows: Sequence[Scores]) -> tuple[float, ...]:
    """As the service votes: core/vote.py."""
    return vote(rows).rewards


def medians(rows: Sequence[Scores]) -> tuple[float, ...]:
    """Of each response's scores, on one scale as for the mean (core/blocks.py)."""
    if any(score is None for row in rows for score in row):
        rows = remove_block_effects(rows)
    return tuple(median(score for score in column if score is not None) for column in zip(*rows, strict=True))


def majority(rows: Sequence[Scores]) -> tuple[float, ...]:
    """The share of the samples that saw a response and have it on top; a top shared by m counts 1/m."""
    tops = [(row, top(row)) for row in rows]
    return tuple(
        fmean((i in first) / len(first) for row, first in tops if row[i] is not None)
        for i in range(len(rows[0]))
    )


VOTES: Mapping[VoteKind, Callable[[Sequence[Scores]], tuple[float, ...]]] = {
    "mean": mean,
    "median": medians,
    "majority": majority,
    "meta": mean,
}
"""From rows of scores, one a readable sample, in which every response has a score, to rewards."""
