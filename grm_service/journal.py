"""What a long run has finished, a line each, in a file that survives a kill; and how it was asked for.

One process at a time writes. A line that a kill left half-written is dropped, so that its work is done again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from filelock import FileLock, Timeout
from pydantic import TypeAdapter, ValidationError

from grm_service.errors import BadTask

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T")


class Journal:
    """An open file to which whole lines are added; `writer` is what to call another process that has it.

    Raises BadTask where another one does, or where it cannot be written.
    """

    def __init__(self, path: Path, lock: Path, writer: str) -> None:
        try:
            lock.parent.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(lock, timeout=0)
            self._lock.acquire()
        except Timeout:
            raise BadTask(f"{writer} is writing {path}") from None
        except OSError as wrong:
            raise BadTask(f"{path} cannot be written: {wrong}") from None
        try:
            path.touch()
            _drop_torn_line(path)
            self._file = path.open("a", encoding="utf-8")
        except OSError as wrong:
            self._lock.release()
            raise BadTask(f"{path} cannot be written: {wrong}") from None

    def add(self, line: str) -> None:
        self._file.write(line + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()
        self._lock.release()


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
