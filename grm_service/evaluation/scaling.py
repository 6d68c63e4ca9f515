"""Accuracy at smaller k, from the samples of the largest k.

The accuracy at j < k is the mean over all runs of j samples that the k samples contain. A run of j samples
has balanced orders (judging/orders.py), so only subsets with balanced orders count: for two responses, those
with both orders equally often (up to one for odd j); for more, whole rotations and the beginning of another
one; for large groups, whole rounds (judging/block_design.py). If all samples have the same order, any subset
counts.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, combinations, pairwise
from statistics import fmean
from typing import Literal

from grm_service.errors import DeadlineExceeded
from grm_service.evaluation import outcomes
from grm_service.evaluation.cost import completion_tokens
from grm_service.evaluation.outcomes import WRONG, Credit
from grm_service.evaluation.run_folder import ItemResult, SampleResult
from grm_service.evaluation.stats import Interval, bootstrap, mean_known
from grm_service.judging.block_design import balanced_blocks
from grm_service.types import StopRule

Estimate = Literal["all", "counted", "listed", "drawn"]
"""All samples; every subset, by counting sums; every subset, one by one; a random sample of subsets."""
MAX_LISTED = 5_000
DRAWN = 2_000
_MAX_SUMS = 50_000
_Sums = list[tuple[float, int]]
"""The sums of scores that subsets of one size can have, ascending, with the number of subsets of each."""


@dataclass(frozen=True, slots=True)
class Step:
    """Accuracy and completion tokens per item with k samples, as means over the items.

    `gain` is `half` minus that of the smallest k, with a paired interval. `subsets` counts the items by the
    way in which the mean over subsets was computed.
    """

    k: int
    strict: float
    strict_interval: Interval
    half: float
    half_interval: Interval
    gain: float
    gain_interval: Interval
    tokens: float | None
    subsets: Mapping[Estimate, int]


def subsampling_obstacle(stop: StopRule, errors: Collection[str]) -> str | None:
    """Return why subsets of a run's samples are not smaller runs, None if they are.

    `errors` are the error codes of the run's items and samples.
    """
    if stop != "none":
        return f"the stop rule `{stop}` ended items early, depending on their scores"
    if DeadlineExceeded.code in errors:
        return "the time limit cut off samples, and fewer of them would be cut off with a smaller k"
    return None


def error_codes(items: Sequence[ItemResult]) -> set[str]:
    """Return the error codes of the items and of their samples."""
    errors = {item.error for item in items} | {sample.error for item in items for sample in item.samples}
    return {error for error in errors if error is not None}


def scaling_curve(items: Sequence[ItemResult], ks: Sequence[int], k: int) -> tuple[Step, ...]:
    """Return accuracy at each of `ks`, ascending and at most k, of at least one item with k samples."""
    groups, smallest, steps = [item.group for item in items], list[float](), list[Step]()
    for j in ks:
        means = [expected_credit(item, j, k) for item in items]
        strict, half = [credit.strict for credit, _ in means], [credit.half for credit, _ in means]
        smallest = smallest or half
        gain = [a - b for a, b in zip(half, smallest, strict=True)]
        step = Step(
            k=j,
            strict=fmean(strict),
            strict_interval=bootstrap(strict, groups),
            half=fmean(half),
            half_interval=bootstrap(half, groups),
            gain=fmean(gain),
            gain_interval=bootstrap(gain, groups),
            tokens=mean_known(completion_tokens(item, j, k) for item in items),
            subsets=dict(Counter(estimate for _, estimate in means)),
        )
        steps.append(step)
    return tuple(steps)


def expected_credit(item: ItemResult, j: int, k: int) -> tuple[Credit, Estimate]:
    """Return the mean credit of j of the k samples. Random subsets are the same at every call."""
    if item.error is not None:
        return WRONG, "all"
    if j == k:
        return outcomes.item_credit(item), "all"
    if len(item.lengths) == 2:
        return _pair_credit(item, j)
    return _group_credit(item, j, k)


def _pair_credit(item: ItemResult, j: int) -> tuple[Credit, Estimate]:
    """Count the subsets of a pair's samples, by convolving the score differences of each order."""
    right = item.correct[0]
    by_order = [
        [s for s in item.samples if s.order[0] == right],
        [s for s in item.samples if s.order[0] != right],
    ]
    sizes = _balanced_sizes(by_order, j)
    tables = [_sums([_lead(s, right) for s in samples], max(map(max, sizes))) for samples in by_order]
    unread = [sum(s.scores is None for s in samples) for samples in by_order]
    if tables[0] is None or tables[1] is None:
        return _mean_credit(_random_pair_subsets(item.id, by_order, sizes), item.correct), "drawn"
    won = tied = total = 0
    for a, b in sizes:
        # For odd j, either order may have the extra sample, with equal probability: each case is weighted by
        # the number of subsets of the other one.
        weight = math.prod(_subset_count(by_order, other) for other in sizes if other != (a, b))
        positive, zero = _compare_sums(tables[0][a], tables[1][b])
        # Subsets without a readable sample have no vote: they are wrong, not tied.
        without_vote = math.comb(unread[0], a) * math.comb(unread[1], b)
        won += weight * positive
        tied += weight * (zero - without_vote)
        total += weight * _subset_count(by_order, (a, b))
    return Credit(won / total, (won + tied / 2) / total), "counted"


def _balanced_sizes(by_order: Sequence[Sequence[SampleResult]], j: int) -> list[tuple[int, int]]:
    """Return how many of j samples may have each order."""
    if not all(by_order):
        return [(j, 0) if by_order[0] else (0, j)]
    splits = [(a, j - a) for a in {j // 2, j - j // 2}]
    return [(a, b) for a, b in splits if a <= len(by_order[0]) and b <= len(by_order[1])]


def _lead(sample: SampleResult, right: int) -> float:
    """Return the score of the right one of two minus the other's, 0 if the sample is unreadable."""
    if sample.scores is None:
        return 0.0
    ahead, behind = sample.scores[right], sample.scores[1 - right]
    assert ahead is not None
    assert behind is not None
    return ahead - behind


def _sums(leads: Sequence[float], max_size: int) -> list[_Sums] | None:
    """Return the sums by subset size, 0..max_size, or None if there are too many to count."""
    tables = [defaultdict[float, int](int) for _ in range(max_size + 1)]
    tables[0][0.0] = 1
    for lead in leads:
        for size in range(max_size, 0, -1):
            for total, count in tables[size - 1].items():
                # Rounded, because a sum of soft scores depends on the order of its terms.
                tables[size][round(total + lead, 9)] += count
        if sum(map(len, tables)) > _MAX_SUMS:
            return None
    return [sorted(table.items()) for table in tables]


def _compare_sums(one: _Sums, other: _Sums) -> tuple[int, int]:
    """Return the number of pairs of subsets whose total is above 0, and exactly 0."""
    sums = [total for total, _ in other]
    cumulative = [0, *accumulate(count for _, count in other)]
    positive = zero = 0
    for total, count in one:
        low, high = bisect_left(sums, -total), bisect_right(sums, -total)
        zero += count * (cumulative[high] - cumulative[low])
        positive += count * (cumulative[-1] - cumulative[high])
    return positive, zero


def _subset_count(by_order: Sequence[Sequence[SampleResult]], sizes: tuple[int, int]) -> int:
    return math.prod(math.comb(len(samples), size) for samples, size in zip(by_order, sizes, strict=True))


def _random_pair_subsets(
    seed: str, by_order: Sequence[Sequence[SampleResult]], sizes: Sequence[tuple[int, int]]
) -> Iterator[list[SampleResult]]:
    rng = random.Random(seed)
    for i in range(DRAWN):
        a, b = sizes[i % len(sizes)]
        yield [*rng.sample(by_order[0], a), *rng.sample(by_order[1], b)]


def _group_credit(item: ItemResult, j: int, k: int) -> tuple[Credit, Estimate]:
    """List or draw the subsets of the samples over more than two responses."""
    n = len(item.lengths)
    whole, rest = (j, 0) if item.in_blocks else divmod(j, n)
    units = _units(item, k)
    full = [i for i, unit in enumerate(units) if item.in_blocks or len(unit) == n]
    # The remaining samples are a part of a rotation that is not in the subset as a whole.
    parts = [(i, part) for i, unit in enumerate(units) for part in combinations(unit, rest)] if rest else []
    few = math.comb(len(full), whole) * max(1, len(parts)) <= MAX_LISTED
    choices = combinations(full, whole) if few else _random_choices(item.id, full, whole)
    rng = random.Random(item.id)  # reproducible, and independent of the other items

    def subsets() -> Iterator[list[SampleResult]]:
        for chosen in choices:
            samples = [sample for i in chosen for sample in units[i]]
            free = [part for i, part in parts if i not in chosen] if rest else [()]
            for part in free if few else [rng.choice(free)]:
                yield [*samples, *part]

    return _mean_credit(subsets(), item.correct), "listed" if few else "drawn"


def _units(item: ItemResult, k: int) -> list[tuple[SampleResult, ...]]:
    """Return the samples by rotation, or by round for a large group."""
    n, count = len(item.lengths), len(item.samples)
    ends = (
        [len(balanced_blocks(n, r, 0)) for r in range(k + 1)]
        if item.in_blocks
        else [*range(0, count, n), count]
    )
    return [item.samples[start:end] for start, end in pairwise(ends)]


def _random_choices(seed: str, full: list[int], whole: int) -> Iterator[tuple[int, ...]]:
    rng = random.Random(seed)
    for _ in range(DRAWN):
        yield tuple(rng.sample(full, whole))


def _mean_credit(subsets: Iterator[list[SampleResult]], correct: Sequence[int]) -> Credit:
    credits_ = [outcomes.sample_credit(subset, correct) for subset in subsets]
    return Credit(fmean(each.strict for each in credits_), fmean(each.half for each in credits_))
