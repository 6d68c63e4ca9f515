"""What fewer samples would have earned, out of the samples of the largest k: the mean over all smaller runs
that these samples could have been.

A run of j samples has balanced orders (core/order.py), so a subset counts only if it has them too. Of two
responses that are all subsets in which both orders stand equally often (for odd j up to one); of more, whole
rotations and the beginning of another one; of large groups, whole rounds (core/blocks.py). Samples that all
have one order are alike: any of them will do.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, combinations, pairwise
from statistics import fmean
from typing import Literal

from grm_service.evaluation import outcomes
from grm_service.evaluation.cost import tokens
from grm_service.evaluation.outcomes import WRONG, Credit
from grm_service.evaluation.run_folder import ItemResult, SampleResult
from grm_service.evaluation.stats import Interval, bootstrap
from grm_service.judging.block_design import balanced_blocks

Estimate = Literal["all", "counted", "listed", "drawn"]
"""All samples as they are; every subset, by counting sums; every subset, one by one; so many drawn."""
MOST_LISTED = 5_000
DRAWN = 2_000
_MOST_SUMS = 50_000
_Sums = list[tuple[float, int]]
"""Sums that subsets of one size can have, ascending, and how many subsets have each."""


@dataclass(frozen=True, slots=True)
class Step:
    """What k samples earn and write: means over the items, `tokens` completion tokens an item.

    `gain` is `half` less that of the smallest k, with a paired interval: what voting has earned. `subsets`
    counts the items by how the mean over the smaller runs was taken.
    """

    k: int
    strict: float
    strict_interval: Interval
    half: float
    half_interval: Interval
    gain: float
    gain_interval: Interval
    tokens: float
    subsets: Mapping[Estimate, int]


def steps(items: Sequence[ItemResult], ks: Sequence[int], k: int) -> tuple[Step, ...]:
    """Of at least one item with k planned samples; `ks` ascend to k at the most."""
    groups, least, found = [item.group for item in items], list[float](), list[Step]()
    for j in ks:
        means = [expect(item, j, k) for item in items]
        strict, half = [each.strict for each, _ in means], [each.half for each, _ in means]
        least = least or half
        gain = [more - less for more, less in zip(half, least, strict=True)]
        step = Step(
            k=j,
            strict=fmean(strict),
            strict_interval=bootstrap(strict, groups),
            half=fmean(half),
            half_interval=bootstrap(half, groups),
            gain=fmean(gain),
            gain_interval=bootstrap(gain, groups),
            tokens=fmean(tokens(item, j, k) for item in items),
            subsets=dict(Counter(how for _, how in means)),
        )
        found.append(step)
    return tuple(found)


def expect(judged: ItemResult, j: int, k: int) -> tuple[Credit, Estimate]:
    """What j of the k planned samples earn in the mean. Drawn subsets are the same ones every time."""
    if judged.error is not None:
        return WRONG, "all"
    if j == k:
        return outcomes.of(judged), "all"
    if len(judged.lengths) == 2:
        return _pair(judged, j)
    return _several(judged, j, k)


def _pair(judged: ItemResult, j: int) -> tuple[Credit, Estimate]:
    right = judged.correct[0]
    by_order = [
        [s for s in judged.samples if s.order[0] == right],
        [s for s in judged.samples if s.order[0] != right],
    ]
    if all(by_order):
        ways = [(a, j - a) for a in {j // 2, j - j // 2}]
        sizes = [(a, b) for a, b in ways if a <= len(by_order[0]) and b <= len(by_order[1])]
    else:
        sizes = [(j, 0) if by_order[0] else (0, j)]
    tables = [_sums([_lead(s, right) for s in some], max(map(max, sizes))) for some in by_order]
    unread = [sum(s.scores is None for s in some) for some in by_order]
    if tables[0] is None or tables[1] is None:
        return _mean(_drawn_pairs(judged.id, by_order, sizes), judged.correct), "drawn"
    won = tied = total = 0
    for a, b in sizes:
        # Both ways of an odd j are as likely: each is weighed by what the other one has subsets.
        weight = math.prod(_ways(by_order, other) for other in sizes if other != (a, b))
        more, even = _compared(tables[0][a], tables[1][b])
        nothing = math.comb(unread[0], a) * math.comb(unread[1], b)
        won += weight * more
        tied += weight * (even - nothing)
        total += weight * _ways(by_order, (a, b))
    return Credit(won / total, (won + tied / 2) / total), "counted"


def _lead(sample: SampleResult, right: int) -> float:
    """How far ahead the right one of two is; what cannot be read moves no vote."""
    if sample.scores is None:
        return 0.0
    ahead, behind = sample.scores[right], sample.scores[1 - right]
    assert ahead is not None
    assert behind is not None
    return ahead - behind


def _sums(leads: Sequence[float], most: int) -> list[_Sums] | None:
    """By size 0..most of the subset; None where they are too many to be counted."""
    found = [defaultdict[float, int](int) for _ in range(most + 1)]
    found[0][0.0] = 1
    for lead in leads:
        for size in range(most, 0, -1):
            for total, ways in found[size - 1].items():
                # Rounded, or a sum of soft scores would differ by the order in which it is taken.
                found[size][round(total + lead, 9)] += ways
        if sum(map(len, found)) > _MOST_SUMS:
            return None
    return [sorted(table.items()) for table in found]


def _compared(one: _Sums, other: _Sums) -> tuple[int, int]:
    """In how many pairs of subsets the sums together are above 0, and exactly 0."""
    sums = [total for total, _ in other]
    upto = [0, *accumulate(ways for _, ways in other)]
    more = even = 0
    for total, ways in one:
        low, high = bisect_left(sums, -total), bisect_right(sums, -total)
        even += ways * (upto[high] - upto[low])
        more += ways * (upto[-1] - upto[high])
    return more, even


def _ways(by_order: Sequence[Sequence[SampleResult]], sizes: tuple[int, int]) -> int:
    return math.prod(math.comb(len(some), size) for some, size in zip(by_order, sizes, strict=True))


def _drawn_pairs(
    name: str, by_order: Sequence[Sequence[SampleResult]], sizes: Sequence[tuple[int, int]]
) -> Iterator[list[SampleResult]]:
    drawing = random.Random(name)
    for i in range(DRAWN):
        a, b = sizes[i % len(sizes)]
        yield [*drawing.sample(by_order[0], a), *drawing.sample(by_order[1], b)]


def _several(judged: ItemResult, j: int, k: int) -> tuple[Credit, Estimate]:
    n = len(judged.lengths)
    whole, part = (j, 0) if judged.in_blocks else divmod(j, n)
    units = _units(judged, k)
    full = [i for i, unit in enumerate(units) if judged.in_blocks or len(unit) == n]
    # What is left over of j is a part of a rotation that is not taken whole: () where nothing is.
    parts = [(i, rest) for i, unit in enumerate(units) for rest in combinations(unit, part)] if part else []
    few = math.comb(len(full), whole) * max(1, len(parts)) <= MOST_LISTED
    chosen = combinations(full, whole) if few else _draws(judged.id, full, whole)
    drawing = random.Random(judged.id)

    def subsets() -> Iterator[list[SampleResult]]:
        for some in chosen:
            taken = [sample for i in some for sample in units[i]]
            free = [rest for i, rest in parts if i not in some] if part else [()]
            for rest in free if few else [drawing.choice(free)]:
                yield [*taken, *rest]

    return _mean(subsets(), judged.correct), "listed" if few else "drawn"


def _units(judged: ItemResult, k: int) -> list[tuple[SampleResult, ...]]:
    """The samples in what cannot be taken apart: rotations, or the rounds of a large group."""
    n, taken = len(judged.lengths), len(judged.samples)
    ends = (
        [len(balanced_blocks(n, r, 0)) for r in range(k + 1)]
        if judged.in_blocks
        else [*range(0, taken, n), taken]
    )
    return [judged.samples[start:end] for start, end in pairwise(ends)]


def _draws(name: str, full: list[int], whole: int) -> Iterator[tuple[int, ...]]:
    drawing = random.Random(name)
    for _ in range(DRAWN):
        yield tuple(drawing.sample(full, whole))


def _mean(subsets: Iterator[list[SampleResult]], correct: Sequence[int]) -> Credit:
    found = [outcomes.earned(subset, correct) for subset in subsets]
    return Credit(fmean(each.strict for each in found), fmean(each.half for each in found))
