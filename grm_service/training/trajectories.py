"""Trajectories of a judge in a file that can be resumed after a kill and reused.

JSON Lines: the first line is the setup, every other line one item. Prompts are not stored: training renders
them from the item, the order and the profile, so that they hold neither a hint nor the control tokens of
another engine.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from grm_service.errors import BadTask
from grm_service.evaluation.dataset import Item
from grm_service.run_journal import Journal
from grm_service.types import JudgeOptions, PrincipleSpec, ScoreKind, Scores, Thinking

Origin = Literal["sampled", "hinted", "form"]
"""Written by a judge, by a judge that saw the best response, or filled in from the label (cold_start.py)."""


@dataclass(frozen=True, slots=True)
class TrajectorySetup:
    """The judge of a file and the options that it was sampled with.

    Every item has `samples` trajectories. `form` is the profile's format_fingerprint: files of one
    format can be trained on together. `principles` has the texts of its set in `items`.
    """

    profile: str
    form: str
    engine: str
    model: str
    samples: int
    hints: bool
    seed: int
    fingerprint: str = ""
    temperature: float | None = None
    max_tokens: int | None = None
    score: ScoreKind = "hard"
    principles: PrincipleSpec = PrincipleSpec()
    thinking_tokens: int | None = None

    def options(self, k: int, seed: int) -> JudgeOptions:
        """Return the options to judge one item with."""
        return JudgeOptions(
            k=k,
            seed=seed,
            temperature=self.temperature,
            max_tokens=self.max_tokens,
            thinking_tokens=self.thinking_tokens,
            score=self.score,
            principles=self.principles,
        )


@dataclass(frozen=True, slots=True)
class Trajectory:
    """One judgement: `order[p]` is the response at position p, `scores` are in the order of the data.

    `right` is true if every right response scores above every wrong one; ties and unreadable texts are wrong.
    `error` is the reason if there are no scores; `tokens` counts the completion. `thinking` is what the judge
    thought before `text`.
    """

    order: tuple[int, ...]
    text: str
    scores: Scores | None
    right: bool
    origin: Origin = "sampled"
    error: str | None = None
    closed: bool = False
    tokens: int | None = 0
    thinking: Thinking | None = None


@dataclass(frozen=True, slots=True)
class ItemTrajectories:
    """The trajectories of one item. `digest` is the item's; `error` is the reason if there are none."""

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


_SETUP, _ITEM = TypeAdapter(TrajectorySetup), TypeAdapter(ItemTrajectories)


class TrajectoryFile(Journal):
    """A file of trajectories, open for writing by one process. A context manager."""

    def __init__(self, path: Path, setup: TrajectorySetup) -> None:
        super().__init__(path, Path(f"{path}.lock"), "another process")
        self.path, self.setup = path, setup
        self.done: dict[str, ItemTrajectories] = {}

    def remaining(self, items: list[Item]) -> list[Item]:
        """Return the items that are not in the file yet."""
        return [item for item in items if item.id not in self.done]

    def add(self, trajectories: ItemTrajectories) -> None:
        self.done[trajectories.item] = trajectories
        self._add_line(_ITEM.dump_json(trajectories).decode())

    def _resume(self) -> None:
        if not self.path.stat().st_size:
            self._add_line(json.dumps(asdict(self.setup)))
            return
        before, items = read_trajectories(self.path)
        if before != self.setup:
            raise BadTask(
                f"{self.path} was sampled with other options ({_changes(before, self.setup)}): use a new file"
            )
        self.done = {each.item: each for each in items}


def read_trajectories(path: Path) -> tuple[TrajectorySetup, list[ItemTrajectories]]:
    """Return the setup and the items of a file. Raises BadTask if it is not a file of trajectories."""
    number = 1
    try:
        # The last part is empty, or a line that is still being written.
        first, *lines = path.read_bytes().split(b"\n")[:-1] or [b""]
        setup, items = _SETUP.validate_json(first), list[ItemTrajectories]()
        for number, line in enumerate(lines, 2):  # noqa: B007
            items.append(_ITEM.validate_json(line))
    except (OSError, ValidationError) as error:
        raise BadTask(f"{path}, line {number}, is not a trajectory of grm train: {error}") from None
    return setup, items


def read_all(files: Iterable[Path]) -> list[ItemTrajectories]:
    """Return the items of several files, one file after the other. Raises BadTask."""
    return [trajectories for file in files for trajectories in read_trajectories(file)[1]]


def _changes(before: TrajectorySetup, now: TrajectorySetup) -> str:
    """Return the fields that differ, as "samples 3, now 4"."""
    pairs = ((field.name, getattr(before, field.name), getattr(now, field.name)) for field in fields(now))
    return "; ".join(f"{name} {old!r}, now {new!r}" for name, old, new in pairs if old != new)
