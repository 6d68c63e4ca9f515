"""The items of a preference data set: prompts with responses of which the best is known."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from grm_service.plain_values import encodable
from grm_service.row_values import comparable
from grm_service.types import Message

SAME_RESPONSES = "the responses are the same"
"""The reason to leave out a row of which nothing can be right or wrong."""


class SkippedRow(Exception):
    """A row without a preference to measure; the message is the reason."""


@dataclass(frozen=True, slots=True)
class Item:
    """A conversation, at least two responses, and the indices of the right ones.

    `correct` usually has one index; it is empty if human annotators call the item a tie. `authors` names the
    model behind each response, or is empty. Items of one `group` (several pairs from one prompt, say) are not
    independent and are resampled together. `probe` names the bias that an item tests, "" for most items.
    Raises ValueError.
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

        for name in (self.id, self.source, self.group, self.probe, *self.authors):
            encodable(name)

    @property
    def has_same_responses(self) -> bool:
        """Whether a right and a wrong response are the same text, apart from spaces around it."""
        right = {comparable(self.responses[i]) for i in self.correct}
        wrong = {comparable(text) for i, text in enumerate(self.responses) if i not in self.correct}
        return not right.isdisjoint(wrong)

    @property
    def digest(self) -> str:
        """The hash of the texts and the label, 16 hex digits."""
        return hashlib.sha256(repr((self.messages, self.responses, self.correct)).encode()).hexdigest()[:16]

    def seed(self, run: int) -> int:
        """Return the item's own seed, 0..2**31-1, for a run's seed."""
        # With the run's seed alone, all items would have their responses in the same orders.
        return int.from_bytes(hashlib.sha256(f"{run}:{self.id}".encode()).digest()[:4]) >> 1


def with_unique_ids(items: Iterable[Item]) -> list[Item]:
    """Return the items with repeated ids numbered, and with the id as the group of those that have none."""
    seen, result = Counter[str](), list[Item]()
    for item in items:
        seen[item.id] += 1
        name = item.id if seen[item.id] == 1 else f"{item.id}#{seen[item.id]}"
        result.append(replace(item, id=name, group=item.group or name))
    return result


def subset(items: Sequence[Item], limit: int) -> list[Item]:
    """Return up to `limit` items, stratified by source: always the same ones, in their order."""
    by_source = defaultdict[str, list[int]](list)
    for index, item in enumerate(items):
        by_source[item.source].append(index)
    # Every source is spread evenly over 0..1, so any prefix holds the sources in proportion.
    spread = sorted(
        (i / len(indices), index) for indices in by_source.values() for i, index in enumerate(indices)
    )
    return [items[index] for index in sorted(index for _, index in spread[:limit])]
