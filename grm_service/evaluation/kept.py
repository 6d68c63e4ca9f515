"""What a run keeps on disk, so that it can go on after a kill and be compared with others."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Literal

from filelock import FileLock, Timeout
from pydantic import TypeAdapter, ValidationError

from grm_service.errors import BadTask
from grm_service.evaluation.items import Item
from grm_service.types import PrincipleMode, ScoreKind

ITEMS, SETUP = "items.jsonl", "setup.json"
JudgeKind = Literal["grm", "pairwise", "swapped", "absolute", "logprob"]
"""The service's judge, or one of the baselines (baselines.py)."""


@dataclass(frozen=True, slots=True)
class Setup:
    """How the items of a folder are judged; `k` is the most samples, None means as the profile says.

    `fingerprint` is that of profile and prompts, `principle_set_fingerprint` that of the set; None where only
    a running service knows it.
    """

    profile: str
    engine: str
    k: int
    score: ScoreKind = "hard"
    principles: PrincipleMode = "self"
    principle_set: str | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    seed: int = 0
    judge: JudgeKind = "grm"
    fingerprint: str | None = None
    principle_set_fingerprint: str | None = None


@dataclass(frozen=True, slots=True)
class Taken:
    """One sample without its texts, which are in the audit trail: see types.Sample. `scores` are what it put
    into the vote (soft ones where they were asked for), `tokens` what it wrote, `grade` the meta RM's.
    """

    order: tuple[int, ...]
    scores: tuple[float | None, ...] | None
    error: str | None
    closed: bool
    tokens: int
    grade: float | None = None


@dataclass(frozen=True, slots=True)
class Judged:
    """What became of an item, without texts; `lengths` are the responses' characters.

    `error` is the code of why there is no vote, None where there is one. `verdict` is its name in the audit
    trail. Tokens and `seconds` are the whole verdict's, 0 where a running service did not tell.
    """

    id: str
    digest: str
    source: str
    correct: tuple[int, ...]
    lengths: tuple[int, ...]
    authors: tuple[str, ...]
    group: str
    probe: str
    error: str | None
    samples: tuple[Taken, ...] = ()
    verdict: str | None = None
    fingerprint: str | None = None
    model: str | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0

    @property
    def in_blocks(self) -> bool:
        """Whether samples showed some of the responses only."""
        return any(len(sample.order) < len(self.lengths) for sample in self.samples)


_JUDGED, _SETUP = TypeAdapter(Judged), TypeAdapter(Setup)


class Folder:
    """The finished items of one run. A context manager: one process at a time writes into it."""

    def __init__(self, path: Path, setup: Setup) -> None:
        self.path, self.setup = path, setup
        self.done: dict[str, Judged] = {}

    def __enter__(self) -> Folder:
        """Raises BadTask where it holds a run of another setup, or another process is writing."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(self.path / ".lock", timeout=0)
            self._lock.acquire()
        except Timeout:
            raise BadTask(f"another grm eval is writing into {self.path}") from None
        except OSError as wrong:
            raise BadTask(f"{self.path} cannot be written: {wrong}") from None
        try:
            self._same_setup()
            items = self.path / ITEMS
            items.touch()
            _drop_torn_line(items)
            self.done = {judged.id: judged for judged in _items(items)}
            self._file = items.open("a", encoding="utf-8")
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._lock.release()

    def left(self, items: list[Item]) -> list[Item]:
        """Those not judged yet. Raises BadTask where a judged one had other texts."""
        for item in items:
            if item.id in self.done and self.done[item.id].digest != item.digest:
                raise BadTask(
                    f"{item.id} had other texts when it was judged into {self.path}: take a new folder"
                )
        return [item for item in items if item.id not in self.done]

    def add(self, judged: Judged) -> None:
        """Keeps a finished item. Raises BadTask where another model or profile judged it than the others."""
        for before in self.done.values():
            if {None} & {before.fingerprint, judged.fingerprint}:
                continue  # failed, so nobody told
            if (before.fingerprint, before.model) != (judged.fingerprint, judged.model):
                raise BadTask(
                    f"{self.path} holds verdicts of {before.model} ({before.fingerprint}), but {judged.id} "
                    f"was judged by {judged.model} ({judged.fingerprint}): take a new folder"
                )
            break
        self.done[judged.id] = judged
        self._file.write(_JUDGED.dump_json(judged).decode() + "\n")
        self._file.flush()

    def _same_setup(self) -> None:
        file = self.path / SETUP
        if not file.exists():
            # Whole or not at all, as a kill may come at any time.
            torn = file.with_suffix(".tmp")
            torn.write_text(json.dumps(asdict(self.setup), indent=2) + "\n", encoding="utf-8")
            torn.replace(file)
            return
        before = read_setup(self.path)
        differ = [
            f"{name} {getattr(before, name)!r}, now {getattr(self.setup, name)!r}"
            for name in (field.name for field in fields(Setup))
            if getattr(before, name) != getattr(self.setup, name)
        ]
        if differ:
            raise BadTask(f"{self.path} holds a run with {'; '.join(differ)}: take a new folder")


def read_setup(folder: Path) -> Setup:
    """How the items of a folder were judged. Raises BadTask where it holds no run."""
    try:
        return _SETUP.validate_json((folder / SETUP).read_bytes())
    except (OSError, ValidationError) as wrong:
        raise BadTask(f"{folder} holds no run of grm eval: {wrong}") from None


def read_items(folder: Path) -> list[Judged]:
    """The finished items of a folder. Raises BadTask where it holds none."""
    read_setup(folder)
    return _items(folder / ITEMS)


def _items(file: Path) -> list[Judged]:
    found = list[Judged]()
    try:
        # Without the last part: it is empty, or the beginning of a line that is being written.
        for line in file.read_bytes().split(b"\n")[:-1]:
            found.append(_JUDGED.validate_json(line))
    except (OSError, ValidationError) as wrong:
        raise BadTask(f"{file}, line {len(found) + 1} is no finished item: {wrong}") from None
    return found


def _drop_torn_line(file: Path) -> None:
    """A kill in the middle of a line leaves its beginning: that item is judged again."""
    written = file.read_bytes()
    whole = written.rfind(b"\n") + 1
    if whole < len(written):
        os.truncate(file, whole)
