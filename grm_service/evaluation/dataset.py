"""What a judge is measured on: questions whose best response is known."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from grm_service.types import Message


@dataclass(frozen=True, slots=True)
class Item:
    """A question, its responses (at least two), and which of them are right.

    `correct` has the indices of the right responses, usually one, and is empty where people call it a tie.
    `authors` has the model behind each response, or is empty. Items that share a `group` are no independent
    evidence. `probe` names the weakness that an item was made to show, "" for most. Raises ValueError.
    """

    id: str
    source: str
    messages: tuple[Message, ...]
    responses: tuple[str, ...]
    correct: tuple[int, ...]
    authors: tuple[str, ...] = ()
    group: str = ""
    probe: str = ""

    def __post_init__(self) -> None:
        if len(self.responses) < 2:
            raise ValueError("an item needs two responses")
        if not set(self.correct) < set(range(len(self.responses))):
            raise ValueError(f"of {len(self.responses)} responses, {self.correct} cannot be the right ones")

    @property
    def digest(self) -> str:
        """Of all that the judge is shown and of what is right."""
        return hashlib.sha256(repr((self.messages, self.responses, self.correct)).encode()).hexdigest()[:16]

    def seed(self, run: int) -> int:
        """Of its own, 0..2**31-1: else every item of a run would be shown in the same orders."""
        return int.from_bytes(hashlib.sha256(f"{run}:{self.id}".encode()).digest()[:4]) >> 1


def unique(items: Iterable[Item]) -> list[Item]:
    """With ids that occur again numbered, and a group for each."""
    seen, found = Counter[str](), list[Item]()
    for item in items:
        seen[item.id] += 1
        name = item.id if seen[item.id] == 1 else f"{item.id}#{seen[item.id]}"
        found.append(replace(item, id=name, group=item.group or name))
    return found


def some(items: Sequence[Item], limit: int) -> list[Item]:
    """So many of them: of every source its share, the same ones each time, in their order."""
    by_source = defaultdict[str, list[int]](list)
    for place, item in enumerate(items):
        by_source[item.source].append(place)
    # Each source is spread evenly over 0..1, so that any beginning has it in proportion.
    spread = sorted(
        (i / len(places), place) for places in by_source.values() for i, place in enumerate(places)
    )
    return [items[place] for place in sorted(place for _, place in spread[:limit])]
