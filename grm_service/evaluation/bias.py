"""What else than the better content moves the judge: place, length, whose text it is."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from grm_service.evaluation import outcomes
from grm_service.evaluation.run_folder import ItemResult, SampleResult
from grm_service.evaluation.stats import Interval, bootstrap, wilson

_NEAR = 1e-9


@dataclass(frozen=True, slots=True)
class Share:
    """A share (0..1) of `n`, with its 95 % interval; None of nothing."""

    n: int
    value: float | None
    interval: Interval | None


@dataclass(frozen=True, slots=True)
class Position:
    """Of pairs. `first_wins`: of the samples that prefer one, those that prefer the one shown first (0.5:
    no bias). `right_when_first`, `right_when_last`: samples that put the right one on top, by its place.

    `order_consistency`: the items whose vote has the same winner in both orders, each order voted apart.
    `halves_consistency`: the same for two halves of the samples that have both orders alike: what chance
    alone leaves of it.
    """

    first_wins: Share
    right_when_first: Share
    right_when_last: Share
    order_consistency: Share
    halves_consistency: Share


@dataclass(frozen=True, slots=True)
class Length:
    """By characters. `longest_right`, `other_right`: strict accuracy where the right response is the longest
    one, and where it is not. `longest_wins`: how often the longest earns the most; `longest_is_right`: how
    often it should. Items in which two are the longest are left out.
    """

    longest_right: Share
    other_right: Share
    longest_wins: Share
    longest_is_right: float | None


@dataclass(frozen=True, slots=True)
class Author:
    """Items with a response of this model against others' only: how often it earns the most, how often it is
    right, and the difference of both: above 0 the judge favours it. `self`: it is the judge's own model.
    """

    author: str
    n: int
    wins: float
    right: float
    favour: float
    interval: Interval
    self: bool


def position(items: Sequence[ItemResult]) -> Position:
    """Of pairs with a right one."""
    pairs = [item for item in items if len(item.lengths) == 2 and len(item.correct) == 1]
    first, ahead, behind = _Groups(), _Groups(), _Groups()
    for item in pairs:
        for sample in item.samples:
            if sample.scores is None:
                continue
            shown = [sample.scores[i] or 0.0 for i in sample.order]
            if shown[0] != shown[1]:
                first.add(shown[0] > shown[1], item.group)
            right = item.correct[0]
            won = (sample.scores[right] or 0.0) > (sample.scores[1 - right] or 0.0)
            (ahead if sample.order[0] == right else behind).add(won, item.group)
    return Position(
        first_wins=first.share(),
        right_when_first=ahead.share(),
        right_when_last=behind.share(),
        order_consistency=_consistency(pairs, lambda a, b: (a, b)),
        halves_consistency=_consistency(pairs, _halves),
    )


def length(items: Sequence[ItemResult]) -> Length:
    """Of items with one right response."""
    longest, other, wins, should = list[bool](), list[bool](), list[bool](), list[bool]()
    for item in items:
        most = max(item.lengths)
        if len(item.correct) != 1 or item.lengths.count(most) > 1:
            continue
        at = item.lengths.index(most)
        is_right = item.correct[0] == at
        (longest if is_right else other).append(outcomes.of(item).strict == 1)
        should.append(is_right)
        if item.error is None:
            wins.append(outcomes.earned(item.samples, (at,)).strict == 1)
    return Length(_share(longest), _share(other), _share(wins), fmean(should) if should else None)


def authors(items: Sequence[ItemResult], model: str | None) -> tuple[Author, ...]:
    """Of every model with responses among those of others, the most frequent first; () where none is."""
    seen = defaultdict[str, list[ItemResult]](list)
    for item in items:
        if item.error is None and item.correct and len(set(item.authors)) > 1:
            for author in set(item.authors):
                seen[author].append(item)
    found = [_author(author, some, model) for author, some in seen.items()]
    return tuple(sorted(found, key=lambda each: (-each.n, each.author)))


def _author(author: str, items: Sequence[ItemResult], model: str | None) -> Author:
    own = [tuple(i for i, each in enumerate(item.authors) if each == author) for item in items]
    # Ties at the top are shared, on both sides alike.
    wins = [_part(item, its) for item, its in zip(items, own, strict=True)]
    right = [
        len(set(item.correct) & set(its)) / len(item.correct) for item, its in zip(items, own, strict=True)
    ]
    favour = [a - b for a, b in zip(wins, right, strict=True)]
    return Author(
        author=author,
        n=len(items),
        wins=fmean(wins),
        right=fmean(right),
        favour=fmean(favour),
        interval=bootstrap(favour, [item.group for item in items]),
        self=model is not None and _short(author) == _short(model),
    )


def _part(item: ItemResult, its: Sequence[int]) -> float:
    rewards = outcomes.rewards(item.samples) or ()
    top = [i for i, reward in enumerate(rewards) if reward == max(rewards)]
    return len(set(top) & set(its)) / len(top)


def _short(model: str) -> str:
    return model.rpartition("/")[2].lower()


class _Groups:
    """Yes or no of samples, of which those of one group are no independent evidence."""

    def __init__(self) -> None:
        self._values: list[float] = []
        self._groups: list[str] = []

    def add(self, value: bool, group: str) -> None:
        self._values.append(float(value))
        self._groups.append(group)

    def share(self) -> Share:
        if not self._values:
            return Share(0, None, None)
        return Share(len(self._values), fmean(self._values), bootstrap(self._values, self._groups))


def _share(values: Sequence[bool]) -> Share:
    if not values:
        return Share(0, None, None)
    return Share(len(values), fmean(values), wilson(sum(values), len(values)))


_Two = tuple[list[SampleResult], list[SampleResult]]


def _halves(one: list[SampleResult], other: list[SampleResult]) -> _Two:
    a, b = len(one) // 2, len(other) // 2
    return one[:a] + other[:b], one[a : 2 * a] + other[b : 2 * b]


def _consistency(
    pairs: Sequence[ItemResult], split: Callable[[list[SampleResult], list[SampleResult]], _Two]
) -> Share:
    same = list[bool]()
    for item in pairs:
        orders = [[s for s in item.samples if s.order[0] == i] for i in (0, 1)]
        votes = [outcomes.rewards(some) for some in split(orders[0], orders[1])]
        if votes[0] is None or votes[1] is None:
            continue
        leads = [vote[0] - vote[1] for vote in votes if vote is not None]
        same.append(_sign(leads[0]) == _sign(leads[1]))
    return _share(same)


def _sign(value: float) -> int:
    return (value > _NEAR) - (value < -_NEAR)
