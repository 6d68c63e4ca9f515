"""What a judge wrote about items, in a file that can be gone on with after a kill and used again.

JSON Lines: first how it was sampled, then an item a line, whole or not there. The prompts are not in it: they
are rendered from the item, the order and the profile when they are trained on, so that no hint and no other
engine's control tokens can be in them.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from grm_service.errors import BadTask
from grm_service.evaluation.dataset import Item
from grm_service.run_journal import Journal
from grm_service.types import Scores

Origin = Literal["sampled", "hinted", "form"]
"""Written by a judge, by a judge who was told the best response, or filled in from the label (forms.py)."""


@dataclass(frozen=True, slots=True)
class TrajectorySetup:
    """How a file of trajectories came to be: `samples` an item; `form` and `fingerprint` are the profile's
    (catalog): files of one form can be trained on together, one file is of one judge.
    """

    profile: str
    form: str
    engine: str
    model: str
    samples: int
    hints: bool
    seed: int
    fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class Trajectory:
    """One judgement: `order[p]` is the response shown at position p, `scores` are in the data's order.

    `right`: every right response scores above every wrong one; ties and what cannot be read are wrong.
    `error` says why there are no scores; `tokens` were written.
    """

    order: tuple[int, ...]
    text: str
    scores: Scores | None
    right: bool
    origin: Origin = "sampled"
    error: str | None = None
    closed: bool = False
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class ItemTrajectories:
    """An item's trajectories. `digest` is the item's; `error` says why there are none."""

    item: str
    digest: str
    source: str
    trajectories: tuple[Trajectory, ...] = ()
    error: str | None = None

    @classmethod
    def of(
        cls, item: Item, trajectories: tuple[Trajectory, ...] = (), error: str | None = None
    ) -> ItemTrajectories:
        return cls(item.id, item.digest, item.source, trajectories, error)


_SETUP, _TRIED = TypeAdapter(TrajectorySetup), TypeAdapter(ItemTrajectories)


class TrajectoryFile(Journal):
    """A file that is being written. A context manager: one process at a time."""

    def __init__(self, path: Path, setup: TrajectorySetup) -> None:
        super().__init__(path, Path(f"{path}.lock"), "another process")
        self.path, self.setup = path, setup
        self.done: dict[str, ItemTrajectories] = {}

    def left(self, items: list[Item]) -> list[Item]:
        """Those that are not in the file yet."""
        return [item for item in items if item.id not in self.done]

    def add(self, tried: ItemTrajectories) -> None:
        self.done[tried.item] = tried
        self._add_line(_TRIED.dump_json(tried).decode())

    def _go_on(self) -> None:
        if not self.path.stat().st_size:
            self._add_line(json.dumps(asdict(self.setup)))
            return
        before, tried = read(self.path)
        if before != self.setup:
            raise BadTask(f"{self.path} was sampled otherwise ({before}, now {self.setup}): take a new file")
        self.done = {each.item: each for each in tried}


def read(path: Path) -> tuple[TrajectorySetup, list[ItemTrajectories]]:
    """How a file was sampled, and what is in it. Raises BadTask."""
    line = 1
    try:
        # Without the last part: it is empty, or the beginning of a line that is being written.
        first, *others = path.read_bytes().split(b"\n")[:-1] or [b""]
        setup, found = _SETUP.validate_json(first), list[ItemTrajectories]()
        for line, other in enumerate(others, 2):  # noqa: B007
            found.append(_TRIED.validate_json(other))
    except (OSError, ValidationError) as wrong:
        raise BadTask(f"{path}, line {line}, is not what grm train writes: {wrong}") from None
    return setup, found
