"""What survives a kill: one line for every finished prompt, and how all of them were made.

The thresholds are no part of it: pairs are chosen anew out of what was judged, as often as one likes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any

from filelock import FileLock, Timeout
from pydantic import TypeAdapter, ValidationError

from grm_service.errors import BadTask
from grm_service.improving.prompts import Asked
from grm_service.types import PrincipleMode, Scores

PAIRS, COMPARED, SETUP = "pairs.jsonl", "compared.jsonl", "setup.json"


@dataclass(frozen=True, slots=True)
class Setup:
    """How drafts are written and judged; `k` None: as the profile says.

    `policy` is the address of a server and the model asked for there, or "judge": the judge's own engine.
    """

    policy: str
    engine: str
    profile: str
    fingerprint: str
    n: int
    k: int | None = None
    max_tokens: int = 512
    temperature: float = 0.8
    principles: PrincipleMode = "self"
    principle_set: str | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Compared:
    """A prompt's drafts, all different, and the verdict on them; `error`: the code of why there is none.

    `cut`: those that ended at their token limit. `policy` wrote them, None: they stood in the file. `scores`
    has one row a counted sample.
    """

    id: str
    digest: str
    drafts: tuple[str, ...]
    cut: tuple[int, ...] = ()
    policy: str | None = None
    rewards: tuple[float, ...] = ()
    scores: tuple[Scores, ...] = ()
    verdict: str | None = None
    judge: str | None = None
    profile: str | None = None
    fingerprint: str | None = None
    error: str | None = None


_COMPARED, _SETUP = TypeAdapter(Compared), TypeAdapter(Setup)


class Folder:
    """The finished prompts of one run. A context manager: one process at a time writes into it."""

    def __init__(self, path: Path, setup: Setup) -> None:
        self.path, self.setup = path, setup
        self.done: dict[str, Compared] = {}

    def __enter__(self) -> Folder:
        """Raises BadTask where it holds a run of another setup, or another process is writing."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(self.path / ".lock", timeout=0)
            self._lock.acquire()
        except Timeout:
            raise BadTask(f"another grm pairs is writing into {self.path}") from None
        except OSError as wrong:
            raise BadTask(f"{self.path} cannot be written: {wrong}") from None
        try:
            self._same_setup()
            self.done = {each.id: each for each in _whole(self.path / COMPARED)}
            self._file = (self.path / COMPARED).open("a", encoding="utf-8")
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._lock.release()

    def left(self, asked: Sequence[Asked]) -> list[Asked]:
        """Those that are not finished. Raises BadTask where a finished one had other texts."""
        for each in asked:
            if each.id in self.done and self.done[each.id].digest != each.digest:
                raise BadTask(
                    f"{each.id} had other texts when it was judged into {self.path}: take a new folder"
                )
        return [each for each in asked if each.id not in self.done]

    def add(self, compared: Compared) -> None:
        """Keeps a finished prompt."""
        self.done[compared.id] = compared
        self._file.write(_COMPARED.dump_json(compared).decode() + "\n")
        self._file.flush()

    def write(self, rows: Iterable[dict[str, Any]]) -> None:
        """Replaces the pairs."""
        _replace(self.path / PAIRS, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))

    def _same_setup(self) -> None:
        file = self.path / SETUP
        if not file.exists():
            _replace(file, json.dumps(asdict(self.setup), indent=2) + "\n")
        try:
            before = _SETUP.validate_json(file.read_bytes())
        except (OSError, ValidationError) as wrong:
            raise BadTask(f"{self.path} holds no run of grm pairs: {wrong}") from None
        differ = [
            f"{name} {was!r}, now {now!r}"
            for name in (field.name for field in fields(Setup))
            if (was := getattr(before, name)) != (now := getattr(self.setup, name))
        ]
        if differ:
            raise BadTask(f"{self.path} holds a run with {'; '.join(differ)}: take a new folder")


def _whole(file: Path) -> list[Compared]:
    """The lines of a file without the beginning of one that a kill left: that prompt is done again."""
    file.touch()
    *lines, torn = file.read_bytes().split(b"\n")
    if torn:
        os.truncate(file, file.stat().st_size - len(torn))
    found = list[Compared]()
    try:
        for line in lines:
            found.append(_COMPARED.validate_json(line))
    except ValidationError as wrong:
        raise BadTask(f"{file}, line {len(found) + 1} is no finished prompt: {wrong}") from None
    return found


def _replace(file: Path, text: str) -> None:
    """Whole or not at all, as a kill may come at any time."""
    torn = file.with_suffix(".tmp")
    torn.write_text(text, encoding="utf-8")
    torn.replace(file)
