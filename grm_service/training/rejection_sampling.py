"""Rejective sampling: which trajectories a judge learns from (paper, section 3.1)."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from grm_service.errors import BadTask
from grm_service.evaluation.dataset import Item
from grm_service.training.trajectories import ItemTrajectories, Trajectory, read

_HINT = "the best response is"


@dataclass(frozen=True, slots=True)
class Example:
    """What is learnt from: the item as it was shown, and what was written."""

    item: Item
    trajectory: Trajectory


@dataclass(frozen=True, slots=True)
class Choice:
    """The examples, and by source what became of the trajectories: `kept`, or why not."""

    examples: list[Example]
    rates: Mapping[str, Counter[str]]


def choose(
    items: Sequence[Item], tried: Iterable[ItemTrajectories], keep_easy: bool = False, seed: int = 0
) -> Choice:
    """Right trajectories of items that are not too easy, the best response in every place equally often.

    An item is too easy where all that was sampled is right (and there is more than one); with `keep_easy` it
    stays, for trajectories of a judge who is better than the one that learns. Of a source and a number of
    responses, places beyond the rarest's number are dropped by chance. Raises BadTask for other data.
    """
    rates, kept = defaultdict[str, Counter[str]](Counter), list[Example]()
    for item, each in known(items, tried):
        count = rates[item.source]
        if each.error is not None:
            count[each.error] += 1
        for trajectory in each.trajectories:
            why = _rejected(trajectory, not keep_easy and too_easy(each))
            count[why or "kept"] += 1
            if why is None:
                kept.append(Example(item, trajectory))
    balanced = _balanced(kept, random.Random(seed))
    left = Counter(example.item.source for example in balanced)
    for source, count in rates.items():
        count["unbalanced"] = count["kept"] - left[source]
        count["kept"] = left[source]
    return Choice(balanced, {source: +count for source, count in sorted(rates.items())})


def known(
    items: Sequence[Item], tried: Iterable[ItemTrajectories]
) -> Iterator[tuple[Item, ItemTrajectories]]:
    """What was tried of these items, each with its item. Raises BadTask where one had other texts then."""
    by_id = {item.id: item for item in items}
    for each in tried:
        if (item := by_id.get(each.item)) is None:
            continue
        if item.digest != each.digest:
            raise BadTask(f"{each.item} has other texts now than when it was sampled: sample it again")
        yield item, each


def read_all(files: Iterable[Path]) -> list[ItemTrajectories]:
    """What is in several files, one after the other. Raises BadTask."""
    return [tried for file in files for tried in read(file)[1]]


def too_easy(tried: ItemTrajectories) -> bool:
    """Whether the judge gets the item right every time."""
    sampled = [each.right for each in tried.trajectories if each.origin == "sampled"]
    return len(sampled) > 1 and all(sampled)


def _rejected(trajectory: Trajectory, easy: bool) -> str | None:
    if trajectory.error is not None:
        return trajectory.error
    if not trajectory.right:
        return "wrong"
    if trajectory.origin == "hinted" and _HINT in trajectory.text.casefold():
        return "tells_hint"
    return "too_easy" if easy and trajectory.origin == "sampled" else None


def _balanced(examples: Sequence[Example], drawing: random.Random) -> list[Example]:
    """In their order, with the best response in every place of the prompt equally often."""
    groups = defaultdict[tuple[str, int], dict[int, list[int]]](lambda: defaultdict(list))
    for index, example in enumerate(examples):
        item, order = example.item, example.trajectory.order
        groups[item.source, len(order)][order.index(item.correct[0])].append(index)
    chosen = list[int]()
    for (_, n), places in groups.items():
        fewest = min(len(places[place]) for place in range(n))
        for place in range(n):
            chosen += drawing.sample(places[place], fewest)
    return [examples[index] for index in sorted(chosen)]
