"""Biases of the judge: response position, response length and the model that wrote a response."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from grm_service.evaluation import outcomes
from grm_service.evaluation.run_folder import ItemResult, SampleResult
from grm_service.evaluation.stats import Interval, bootstrap, wilson

_TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True)
class Share:
    """A share (0..1) of `n` with its 95 % interval, both None if n is 0."""

    n: int
    value: float | None
    interval: Interval | None


@dataclass(frozen=True, slots=True)
class PositionBias:
    """Position bias over pairs.

    `first_wins`: of the samples with a preference, those that prefer the response in first position (0.5: no
    bias). `right_when_first`, `right_when_last`: samples that score the right response higher, by its
    position. `order_consistency`: items with the same winner in both orders, if each order votes separately.
    `halves_consistency`: the same for two halves of the samples that both have the orders in equal numbers;
    it shows how much consistency sampling noise alone costs.
    """

    first_wins: Share
    right_when_first: Share
    right_when_last: Share
    order_consistency: Share
    halves_consistency: Share


@dataclass(frozen=True, slots=True)
class LengthBias:
    """Length bias, by characters, over items with a single longest response.

    `longest_right`, `other_right`: strict accuracy if the right response is the longest one, and if it is
    not. `longest_wins`: how often the longest response wins; `longest_is_right`: how often it should.
    """

    longest_right: Share
    other_right: Share
    longest_wins: Share
    longest_is_right: float | None


@dataclass(frozen=True, slots=True)
class AuthorBias:
    """Preference for one model's responses, over items that also have responses of other models.

    `wins` is how often its responses win, `right` how often they are right, `favour` the difference: above 0
    the judge favours the model. `self` marks the judge's own model.
    """

    author: str
    n: int
    wins: float
    right: float
    favour: float
    interval: Interval
    self: bool


def position_bias(items: Sequence[ItemResult]) -> PositionBias:
    """Return the position bias over the pairs with one right response."""
    pairs = [item for item in items if len(item.lengths) == 2 and len(item.correct) == 1]
    first_wins, right_first, right_last = _ClusteredShare(), _ClusteredShare(), _ClusteredShare()
    for item in pairs:
        right = item.correct[0]
        for sample in item.samples:
            if sample.scores is None:
                continue
            first, last = (sample.scores[i] or 0.0 for i in sample.order)
            # Ties show no preference, so they would only dilute the share.
            if first != last:
                first_wins.add(first > last, item.group)
            is_right = (sample.scores[right] or 0.0) > (sample.scores[1 - right] or 0.0)
            (right_first if sample.order[0] == right else right_last).add(is_right, item.group)
    return PositionBias(
        first_wins=first_wins.share(),
        right_when_first=right_first.share(),
        right_when_last=right_last.share(),
        order_consistency=_consistency(pairs, lambda a, b: (a, b)),
        halves_consistency=_consistency(pairs, _halves),
    )


def length_bias(items: Sequence[ItemResult]) -> LengthBias:
    """Return the length bias over the items with one right response."""
    longest_right, other_right, wins, should_win = list[bool](), list[bool](), list[bool](), list[bool]()
    for item in items:
        if len(item.correct) != 1 or item.lengths.count(max(item.lengths)) > 1:
            continue
        longest = item.lengths.index(max(item.lengths))
        is_right = item.correct[0] == longest
        (longest_right if is_right else other_right).append(outcomes.item_credit(item).strict == 1)
        should_win.append(is_right)
        if item.error is None:
            # Credit with the longest response as the "right" one: does it win outright?
            wins.append(outcomes.sample_credit(item.samples, (longest,)).strict == 1)
    return LengthBias(
        longest_right=_share(longest_right),
        other_right=_share(other_right),
        longest_wins=_share(wins),
        longest_is_right=fmean(should_win) if should_win else None,
    )


def author_bias(items: Sequence[ItemResult], model: str | None) -> tuple[AuthorBias, ...]:
    """Return the bias for each author, the most frequent first; `model` is the judge's own."""
    by_author = defaultdict[str, list[ItemResult]](list)
    for item in items:
        if item.error is None and item.correct and len(set(item.authors)) > 1:
            for author in set(item.authors):
                by_author[author].append(item)
    biases = [_one_author(author, its_items, model) for author, its_items in by_author.items()]
    return tuple(sorted(biases, key=lambda each: (-each.n, each.author)))


def _one_author(author: str, items: Sequence[ItemResult], model: str | None) -> AuthorBias:
    own = [tuple(i for i, each in enumerate(item.authors) if each == author) for item in items]
    # Ties are shared among the tied responses, in wins as in labels.
    wins = [_win_share(item, indices) for item, indices in zip(items, own, strict=True)]
    right = [
        len(set(item.correct) & set(indices)) / len(item.correct)
        for item, indices in zip(items, own, strict=True)
    ]
    favour = [a - b for a, b in zip(wins, right, strict=True)]
    return AuthorBias(
        author=author,
        n=len(items),
        wins=fmean(wins),
        right=fmean(right),
        favour=fmean(favour),
        interval=bootstrap(favour, [item.group for item in items]),
        self=model is not None and _base_name(author) == _base_name(model),
    )


def _win_share(item: ItemResult, indices: Sequence[int]) -> float:
    rewards = outcomes.vote_rewards(item.samples) or ()
    top = [i for i, reward in enumerate(rewards) if reward == max(rewards)]
    return len(set(top) & set(indices)) / len(top)


def _base_name(model: str) -> str:
    return model.rpartition("/")[2].lower()


class _ClusteredShare:
    """A share of samples; those of one group are not independent."""

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


_Split = tuple[list[SampleResult], list[SampleResult]]


def _halves(one: list[SampleResult], other: list[SampleResult]) -> _Split:
    """Split the samples of both orders into halves that have the orders in equal numbers."""
    a, b = len(one) // 2, len(other) // 2
    return one[:a] + other[:b], one[a : 2 * a] + other[b : 2 * b]


def _consistency(
    pairs: Sequence[ItemResult], split: Callable[[list[SampleResult], list[SampleResult]], _Split]
) -> Share:
    """Return the share of items for which both parts of the split vote for the same winner."""
    same = list[bool]()
    for item in pairs:
        by_order = [[s for s in item.samples if s.order[0] == i] for i in (0, 1)]
        votes = [outcomes.vote_rewards(part) for part in split(by_order[0], by_order[1])]
        if votes[0] is None or votes[1] is None:
            continue
        leads = [vote[0] - vote[1] for vote in votes if vote is not None]
        same.append(_sign(leads[0]) == _sign(leads[1]))
    return _share(same)


def _sign(value: float) -> int:
    return (value > _TOLERANCE) - (value < -_TOLERANCE)
