"""Rejection sampling: the trajectories that rejective fine-tuning learns from (SPCT, section 3.1)."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from grm_service.errors import BadTask
from grm_service.evaluation.dataset import Item
from grm_service.training.trajectories import ItemTrajectories, Trajectory

_HINT = "the best response is"


@dataclass(frozen=True, slots=True)
class Example:
    """A training example: an item and one trajectory of it."""

    item: Item
    trajectory: Trajectory


@dataclass(frozen=True, slots=True)
class Selection:
    """The selected examples, and for every source the trajectories `kept` or rejected, by reason."""

    examples: list[Example]
    rates: Mapping[str, Counter[str]]


def select(
    items: Sequence[Item], trajectories: Iterable[ItemTrajectories], keep_easy: bool = False, seed: int = 0
) -> Selection:
    """Select the right trajectories of items that are not too easy, with balanced positions.

    An item is too easy if all of its sampled trajectories (at least two) are right; `keep_easy` keeps it, for
    trajectories of a stronger judge. For each source and number of responses, the best response is equally
    often at each position: the surplus is dropped at random. Raises BadTask if an item's texts have changed.
    """
    rates, examples = defaultdict[str, Counter[str]](Counter), list[Example]()
    for item, each in match_items(items, trajectories):
        count = rates[item.source]
        if each.error is not None:
            count[each.error] += 1
        for trajectory in each.trajectories:
            reason = _rejection(trajectory, not keep_easy and is_too_easy(each))
            count[reason or "kept"] += 1
            if reason is None:
                examples.append(Example(item, trajectory))
    # Balance last, because rejection itself can favour a position.
    balanced = _balance(examples, random.Random(seed))
    balanced_counts = Counter(example.item.source for example in balanced)
    for source, count in rates.items():
        count["unbalanced"] = count["kept"] - balanced_counts[source]
        count["kept"] = balanced_counts[source]
    return Selection(balanced, {source: +count for source, count in sorted(rates.items())})


def match_items(
    items: Sequence[Item], trajectories: Iterable[ItemTrajectories]
) -> Iterator[tuple[Item, ItemTrajectories]]:
    """Yield each item with its trajectories. Raises BadTask if the item had other texts when sampled."""
    by_id = {item.id: item for item in items}
    for each in trajectories:
        if (item := by_id.get(each.item)) is None:
            continue
        if item.digest != each.digest:
            raise BadTask(f"the texts of {each.item} have changed since it was sampled: sample it again")
        yield item, each


def is_too_easy(item: ItemTrajectories) -> bool:
    """Return whether the judge is right every time, over at least two samples."""
    sampled = [each.right for each in item.trajectories if each.origin == "sampled"]
    return len(sampled) > 1 and all(sampled)


def _rejection(trajectory: Trajectory, too_easy: bool) -> str | None:
    """Return the reason to reject a trajectory, None to keep it."""
    if trajectory.error is not None:
        return trajectory.error
    if not trajectory.right:
        return "wrong"
    if trajectory.origin == "hinted" and _HINT in trajectory.text.casefold():
        return "tells_hint"
    return "too_easy" if too_easy and trajectory.origin == "sampled" else None


def _balance(examples: Sequence[Example], rng: random.Random) -> list[Example]:
    """Return the examples, in their order, with the best response equally often at each position."""
    groups = defaultdict[tuple[str, int], dict[int, list[int]]](lambda: defaultdict(list))
    for index, example in enumerate(examples):
        item, order = example.item, example.trajectory.order
        groups[item.source, len(order)][order.index(item.correct[0])].append(index)
    selected = list[int]()
    for (_, n), by_position in groups.items():
        size = min(len(by_position[position]) for position in range(n))
        for position in range(n):
            selected += rng.sample(by_position[position], size)
    return [examples[index] for index in sorted(selected)]
