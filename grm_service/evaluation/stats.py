"""Intervals, areas under curves and calibration, each as defined by its source."""

from __future__ import annotations

import math
import random
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

_Z = 1.959964
"""The normal quantile of a two-sided 95 % interval."""
RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Interval:
    """A 95 % interval."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Bin:
    """A bin of predictions between `low` and `high`.

    `n` predictions with the mean `predicted`, of which the share `right` was right, with its Wilson interval.
    """

    low: float
    high: float
    n: int
    predicted: float
    right: float
    interval: Interval


@dataclass(frozen=True, slots=True)
class Area:
    """An area under the ROC curve, 0..1 (0.5: chance); no interval if there are too few groups for one."""

    value: float
    interval: Interval | None


def wilson(right: int, n: int) -> Interval:
    """Return the interval of a share of n >= 1 independent binary trials (Wilson 1927)."""
    share, square = right / n, _Z * _Z
    centre = (share + square / (2 * n)) / (1 + square / n)
    half = _Z * math.sqrt(share * (1 - share) / n + square / (4 * n * n)) / (1 + square / n)
    return Interval(max(0.0, centre - half), min(1.0, centre + half))


def mean_known(values: Iterable[float | None]) -> float | None:
    """Return the mean of at least one value, None if a value is unknown."""
    known = list(values)
    return None if None in known else fmean(value for value in known if value is not None)


def bootstrap(values: Sequence[float], groups: Sequence[Hashable], seed: int = 0) -> Interval:
    """Return the percentile interval of a mean, resampling whole groups (Efron 1979; cluster bootstrap).

    Values of one group are not independent, so they are resampled together. With differences as values this
    is the paired bootstrap.
    """
    sums, sizes = defaultdict[Hashable, float](float), defaultdict[Hashable, int](int)
    for value, group in zip(values, groups, strict=True):
        sums[group] += value
        sizes[group] += 1
    clusters = [(sums[group], sizes[group]) for group in sums]
    # A fixed seed: the same items must give the same report.
    rng = random.Random(seed)
    means = []
    for _ in range(RESAMPLES):
        drawn = rng.choices(clusters, k=len(clusters))
        means.append(sum(total for total, _ in drawn) / sum(size for _, size in drawn))
    means.sort()
    return Interval(_percentile(means, 0.025), _percentile(means, 0.975))


def auc(values: Sequence[float], right: Sequence[bool], groups: Sequence[Hashable]) -> Area | None:
    """Return how often a right value is higher than a wrong one; equal values count half.

    The interval is that of clustered data (Obuchowski 1997); with one value per group it is that of DeLong et
    al. 1988. None if all values are right, or all are wrong.
    """
    rows = list(zip(values, right, groups, strict=True))
    good, bad = sorted(v for v, is_right, _ in rows if is_right), sorted(v for v, r, _ in rows if not r)
    if not good or not bad:
        return None
    # Both classes are sorted, so a value is compared with a whole class by binary search.
    area = fmean(_share_below(bad, value) for value in good)
    # Obuchowski's structural components, summed by group, as deviations from the area.
    good_sums, bad_sums = defaultdict[Hashable, float](float), defaultdict[Hashable, float](float)
    for value, is_right, group in rows:
        if is_right:
            good_sums[group] += _share_below(bad, value) - area
        else:
            bad_sums[group] += 1 - _share_below(good, value) - area
    if min(len(good_sums), len(bad_sums)) < 2:
        return Area(area, None)
    covariance = sum(good_sums[group] * bad_sums[group] for group in good_sums.keys() & bad_sums.keys())
    variance = (
        sum(each**2 for each in good_sums.values()) * _unbiased(len(good_sums)) / len(good) ** 2
        + sum(each**2 for each in bad_sums.values()) * _unbiased(len(bad_sums)) / len(bad) ** 2
        + 2 * covariance * _unbiased(len({*good_sums, *bad_sums})) / (len(good) * len(bad))
    )
    half = _Z * math.sqrt(max(0.0, variance))
    return Area(area, Interval(max(0.0, area - half), min(1.0, area + half)))


def auc_within(values: Sequence[float], right: Sequence[bool], groups: Sequence[Hashable]) -> Area | None:
    """Return `auc` over pairs within a group only, with a bootstrap interval; None if there is no such pair.

    Differences in difficulty between groups have no effect here.
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
    """Return the non-empty bins, of equal width, of predictions (0..1) and their outcomes.

    A bin includes its upper end, the first bin also 0.
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
    """Return the expected calibration error, the mean gap weighted by items (Naeini et al. 2015)."""
    return sum(each.n * abs(each.predicted - each.right) for each in bins) / sum(each.n for each in bins)


def risk_coverage(predicted: Sequence[float], right: Sequence[float]) -> tuple[tuple[float, float], ...]:
    """Return (coverage, accuracy) from the most confident predictions to all (El-Yaniv and Wiener 2010).

    Equal predictions enter together, because nothing ranks them.
    """
    curve, covered, good = list[tuple[float, float]](), 0, 0.0
    for value in sorted(set(predicted), reverse=True):
        tied = [right[i] for i, each in enumerate(predicted) if each == value]
        covered, good = covered + len(tied), good + sum(tied)
        curve.append((covered / len(predicted), good / covered))
    return tuple(curve)


def area_under_risk(predicted: Sequence[float], right: Sequence[float]) -> float:
    """Return the mean share of errors over all coverages 1/n..1 (AURC), averaged over ties; lower is better.

    For uninformative predictions it is the overall share of errors.
    """
    risks, covered, wrong = list[float](), 0, 0.0
    for value in sorted(set(predicted), reverse=True):
        tied = [1 - right[i] for i, each in enumerate(predicted) if each == value]
        share = fmean(tied)
        risks += [(wrong + share * i) / (covered + i) for i in range(1, len(tied) + 1)]
        covered, wrong = covered + len(tied), wrong + sum(tied)
    return fmean(risks)


def _share_below(ordered: Sequence[float], value: float) -> float:
    """Return the share of values below `value`; equal values count half."""
    return (bisect_left(ordered, value) + bisect_right(ordered, value)) / (2 * len(ordered))


def _unbiased(n: int) -> float:
    return n / (n - 1)


def _percentile(ordered: Sequence[float], share: float) -> float:
    at = share * (len(ordered) - 1)
    below = math.floor(at)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (at - below) * (ordered[above] - ordered[below])
