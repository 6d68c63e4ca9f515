"""What a long run has finished, a line each, in a file that survives a kill; and how it was asked for.

One process at a time writes. A line that a kill left half-written is dropped, so that its work is done again.
"""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

from filelock import FileLock, Timeout
from pydantic import TypeAdapter, ValidationError

from grm_service.errors import BadTask

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T")


class HasDigest(Protocol):
    """Something with the digest of its texts."""

    @property
    def digest(self) -> str: ...


class HasId(HasDigest, Protocol):
    @property
    def id(self) -> str: ...


A = TypeVar("A", bound=HasId)


class Journal(ABC):
    """A file to which whole lines are added. A context manager: entering finds what is there already.

    `writer` is what to call another process that has it. Entering raises BadTask where another one does,
    where it cannot be written, or where it is of another run.
    """

    def __init__(self, file: Path, lock: Path, writer: str) -> None:
        self._lines, self._lock, self._writer = file, lock, writer

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            self._open(opened)
            self._go_on()
            self._opened = opened.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    @abstractmethod
    def _go_on(self) -> None:
        """Reads what is there. Raises BadTask where it is of another run."""

    def _add_line(self, line: str) -> None:
        self._out.write(line + "\n")
        self._out.flush()

    def _open(self, opened: ExitStack) -> None:
        try:
            self._lock.parent.mkdir(parents=True, exist_ok=True)
            opened.enter_context(FileLock(self._lock, timeout=0))
            self._lines.touch()
            _drop_torn_line(self._lines)
            self._out = opened.enter_context(self._lines.open("a", encoding="utf-8"))
        except Timeout:
            raise BadTask(f"{self._writer} is writing {self._lines}") from None
        except OSError as wrong:
            raise BadTask(f"{self._lines} cannot be written: {wrong}") from None


def unfinished(asked: Sequence[A], done: Mapping[str, HasDigest], folder: Path) -> list[A]:
    """Those that are not done yet. Raises BadTask where one that is had other texts."""
    for each in asked:
        if each.id in done and done[each.id].digest != each.digest:
            raise BadTask(f"{each.id} had other texts when it was judged into {folder}: take a new folder")
    return [each for each in asked if each.id not in done]


def whole_lines(path: Path, read: Callable[[bytes], T], what: str) -> list[T]:
    """What is in a file, each line by `read`. Raises BadTask, with the line that is not `what`."""
    found = list[T]()
    try:
        # Without the last part: it is empty, or the beginning of a line that is being written.
        for line in path.read_bytes().split(b"\n")[:-1]:
            found.append(read(line))
    except (OSError, ValidationError) as wrong:
        raise BadTask(f"{path}, line {len(found) + 1} is no {what}: {wrong}") from None
    return found


def same_setup(file: Path, setup: DataclassInstance, writer: str) -> None:
    """Writes how a run is asked for, or raises BadTask where another one was begun there."""
    if not file.exists():
        replace_text(file, json.dumps(asdict(setup), indent=2) + "\n")
        return
    before = read_setup(file, type(setup), writer)
    differ = [
        f"{name} {was!r}, now {now!r}"
        for name in (field.name for field in fields(setup))
        if (was := getattr(before, name)) != (now := getattr(setup, name))
    ]
    if differ:
        raise BadTask(f"{file.parent} holds a run with {'; '.join(differ)}: take a new folder")


def read_setup(file: Path, kind: type[T], writer: str) -> T:
    """How a run was asked for. Raises BadTask where there is none."""
    adapter: TypeAdapter[Any] = TypeAdapter(kind)
    try:
        read: T = adapter.validate_json(file.read_bytes())
    except (OSError, ValidationError) as wrong:
        raise BadTask(f"{file.parent} holds no run of {writer}: {wrong}") from None
    return read


def replace_text(file: Path, text: str) -> None:
    """Whole or not at all, as a kill may come at any time."""
    torn = file.with_suffix(".tmp")
    torn.write_text(text, encoding="utf-8")
    torn.replace(file)


def _drop_torn_line(path: Path) -> None:
    written = path.read_bytes()
    whole = written.rfind(b"\n") + 1
    if whole < len(written):
        os.truncate(path, whole)
