"""Statistics, each as its source defines it; nothing here knows of judges."""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import fmean

_Z = 1.959964
"""95 %, two-sided."""
RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Interval:
    """95 %."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Bin:
    """Predictions between `low` and `high`: how many, their mean, the share of them that was right, with its
    Wilson interval.
    """

    low: float
    high: float
    n: int
    predicted: float
    right: float
    interval: Interval


def wilson(right: int, n: int) -> Interval:
    """Of a share of independent yes-or-no trials (Wilson 1927), n >= 1."""
    share, square = right / n, _Z * _Z
    centre = (share + square / (2 * n)) / (1 + square / n)
    half = _Z * math.sqrt(share * (1 - share) / n + square / (4 * n * n)) / (1 + square / n)
    return Interval(max(0.0, centre - half), min(1.0, centre + half))


def bootstrap(values: Sequence[float], groups: Sequence[Hashable], seed: int = 0) -> Interval:
    """Of a mean, by the percentiles of means over whole groups drawn again (Efron 1979; cluster bootstrap).

    Values of one group are no independent evidence and are drawn together. With differences as values it is
    the paired bootstrap.
    """
    sums, sizes = defaultdict[Hashable, float](float), defaultdict[Hashable, int](int)
    for value, group in zip(values, groups, strict=True):
        sums[group] += value
        sizes[group] += 1
    clusters = [(sums[group], sizes[group]) for group in sums]
    drawing = random.Random(seed)
    means = []
    for _ in range(RESAMPLES):
        drawn = drawing.choices(clusters, k=len(clusters))
        means.append(sum(total for total, _ in drawn) / sum(size for _, size in drawn))
    means.sort()
    return Interval(_percentile(means, 0.025), _percentile(means, 0.975))


def reliability(predicted: Sequence[float], right: Sequence[float], bins: int = 10) -> tuple[Bin, ...]:
    """Predictions of being right (0..1) against what became of them, in bins of equal width; empty ones are
    left out. A bin holds its upper end, the first also 0.
    """
    members = defaultdict[int, list[int]](list)
    for i, value in enumerate(predicted):
        members[max(0, math.ceil(round(value * bins, 9)) - 1)].append(i)
    return tuple(
        Bin(
            low=number / bins,
            high=(number + 1) / bins,
            n=len(members[number]),
            predicted=fmean(predicted[i] for i in members[number]),
            right=fmean(right[i] for i in members[number]),
            interval=wilson(round(sum(right[i] for i in members[number])), len(members[number])),
        )
        for number in sorted(members)
    )


def calibration_error(bins: Sequence[Bin]) -> float:
    """Expected calibration error: the mean gap of prediction and truth, by items (Naeini et al. 2015)."""
    return sum(each.n * abs(each.predicted - each.right) for each in bins) / sum(each.n for each in bins)


def risk_coverage(predicted: Sequence[float], right: Sequence[float]) -> tuple[tuple[float, float], ...]:
    """(coverage, accuracy) as only the surest predictions are kept, from the surest to all (El-Yaniv and
    Wiener 2010). Equal predictions come in together: nothing tells which of them to keep.
    """
    curve, kept, good = list[tuple[float, float]](), 0, 0.0
    for value in sorted(set(predicted), reverse=True):
        among = [right[i] for i, each in enumerate(predicted) if each == value]
        kept, good = kept + len(among), good + sum(among)
        curve.append((kept / len(predicted), good / kept))
    return tuple(curve)


def area_under_risk(predicted: Sequence[float], right: Sequence[float]) -> float:
    """Mean share of errors over all coverages 1/n..1 (AURC); the order among equal predictions is averaged.

    Predictions that say nothing have the overall share of errors; less is better.
    """
    risks, kept, wrong = list[float](), 0, 0.0
    for value in sorted(set(predicted), reverse=True):
        among = [1 - right[i] for i, each in enumerate(predicted) if each == value]
        share = fmean(among)
        risks += [(wrong + share * i) / (kept + i) for i in range(1, len(among) + 1)]
        kept, wrong = kept + len(among), wrong + sum(among)
    return fmean(risks)


def _percentile(ordered: Sequence[float], share: float) -> float:
    at = share * (len(ordered) - 1)
    below = math.floor(at)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (at - below) * (ordered[above] - ordered[below])
