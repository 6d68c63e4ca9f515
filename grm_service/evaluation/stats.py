"""Statistics, each as its source defines it; nothing here knows of judges."""

from __future__ import annotations

import math
import random
from bisect import bisect_left, bisect_right
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


@dataclass(frozen=True, slots=True)
class Area:
    """Under a ROC curve, 0..1 (0.5: chance); without an interval where too little is known of its spread."""

    value: float
    interval: Interval | None


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


def auc(values: Sequence[float], right: Sequence[bool], groups: Sequence[Hashable]) -> Area | None:
    """How often what is right has a higher value than what is wrong; equal ones count half.

    The interval is that of clustered data (Obuchowski 1997; DeLong et al. 1988 where every group has one
    value). None where all are right, or none.
    """
    found = list(zip(values, right, groups, strict=True))
    good, bad = sorted(v for v, is_right, _ in found if is_right), sorted(v for v, r, _ in found if not r)
    if not good or not bad:
        return None
    area = fmean(_below(bad, value) for value in good)
    # By group: what its right values and its wrong ones say more than the area.
    ours, theirs = defaultdict[Hashable, float](float), defaultdict[Hashable, float](float)
    for value, is_right, group in found:
        if is_right:
            ours[group] += _below(bad, value) - area
        else:
            theirs[group] += 1 - _below(good, value) - area
    if min(len(ours), len(theirs)) < 2:
        return Area(area, None)
    every = {*ours, *theirs}
    shared = sum(ours[group] * theirs[group] for group in ours.keys() & theirs.keys())
    variance = (
        sum(each**2 for each in ours.values()) * _unbiased(len(ours)) / len(good) ** 2
        + sum(each**2 for each in theirs.values()) * _unbiased(len(theirs)) / len(bad) ** 2
        + 2 * shared * _unbiased(len(every)) / (len(good) * len(bad))
    )
    half = _Z * math.sqrt(max(0.0, variance))
    return Area(area, Interval(max(0.0, area - half), min(1.0, area + half)))


def auc_within(values: Sequence[float], right: Sequence[bool], groups: Sequence[Hashable]) -> Area | None:
    """The same over pairs of one group only, with a bootstrapped interval; None where there is no pair.

    What is easy for one group and difficult for another makes no difference here.
    """
    members = defaultdict[Hashable, tuple[list[float], list[float]]](lambda: ([], []))
    for value, is_right, group in zip(values, right, groups, strict=True):
        members[group][0 if is_right else 1].append(value)
    pairs = [
        (float(one > other) + float(one == other) / 2, group)
        for group, (good, bad) in members.items()
        for one in good
        for other in bad
    ]
    if not pairs:
        return None
    won = [each for each, _ in pairs]
    return Area(fmean(won), bootstrap(won, [group for _, group in pairs]))


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


def _below(ordered: Sequence[float], value: float) -> float:
    """The share that is less than the value; equal ones count half."""
    return (bisect_left(ordered, value) + bisect_right(ordered, value)) / (2 * len(ordered))


def _unbiased(n: int) -> float:
    return n / (n - 1)


def _percentile(ordered: Sequence[float], share: float) -> float:
    at = share * (len(ordered) - 1)
    below = math.floor(at)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (at - below) * (ordered[above] - ordered[below])
