"""Journals of long runs: one line for each finished item, and the setup, so that a run can resume.

One process writes at a time. A line that was cut off by a kill is dropped, and its item is done again.
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
    """Something that has a digest of its texts."""

    @property
    def digest(self) -> str: ...


class HasId(HasDigest, Protocol):
    """Something that has an id, too."""

    @property
    def id(self) -> str: ...


Item = TypeVar("Item", bound=HasId)


class Journal(ABC):
    """A file to which whole lines are appended.

    A context manager: entering locks the file and reads what it has. Raises BadTask if another process has
    the lock (`writer` names it in the message), if the file cannot be written, or if it is of another run.
    """

    def __init__(self, file: Path, lock: Path, writer: str) -> None:
        self._lines, self._lock, self._writer = file, lock, writer

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._open(stack)
            self._resume()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @abstractmethod
    def _resume(self) -> None:
        """Read the lines of the file. Raises BadTask if they are of another run."""

    def _add_line(self, line: str) -> None:
        self._out.write(line + "\n")
        self._out.flush()

    def _open(self, stack: ExitStack) -> None:
        try:
            self._lock.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(FileLock(self._lock, timeout=0))
            self._lines.touch()
            _drop_torn_line(self._lines)
            self._out = stack.enter_context(self._lines.open("a", encoding="utf-8"))
        except Timeout:
            raise BadTask(f"{self._writer} is writing {self._lines}") from None
        except OSError as error:
            raise BadTask(f"{self._lines} cannot be written: {error}") from None


def unfinished(items: Sequence[Item], done: Mapping[str, HasDigest], folder: Path) -> list[Item]:
    """Return the items that are not done. Raises BadTask if a finished one had different texts."""
    for item in items:
        if item.id in done and done[item.id].digest != item.digest:
            raise BadTask(f"{item.id} had different texts when it was judged into {folder}: use a new folder")
    return [item for item in items if item.id not in done]


def read_lines(path: Path, parse: Callable[[bytes], T], what: str) -> list[T]:
    """Return the parsed lines of a file. Raises BadTask with the number of a line that is not a `what`."""
    parsed = list[T]()
    try:
        # Without the last part: it is empty, or a line that is still being written.
        for line in path.read_bytes().split(b"\n")[:-1]:
            parsed.append(parse(line))
    except (OSError, ValidationError) as error:
        raise BadTask(f"{path}, line {len(parsed) + 1} is not a {what}: {error}") from None
    return parsed


def check_setup(file: Path, setup: DataclassInstance, writer: str) -> None:
    """Write the setup of a new run. Raises BadTask if the file has the setup of a different run."""
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
        raise BadTask(f"{file.parent} holds a run with {'; '.join(differ)}: use a new folder")


def read_setup(file: Path, kind: type[T], writer: str) -> T:
    """Return the setup of a run. Raises BadTask if there is none."""
    adapter: TypeAdapter[Any] = TypeAdapter(kind)
    try:
        setup: T = adapter.validate_json(file.read_bytes())
    except (OSError, ValidationError) as error:
        raise BadTask(f"{file.parent} holds no run of {writer}: {error}") from None
    return setup


def replace_text(file: Path, text: str) -> None:
    """Replace the content of a file atomically: a kill leaves the old content or the new."""
    temporary = file.with_suffix(".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(file)


def _drop_torn_line(path: Path) -> None:
    content = path.read_bytes()
    end = content.rfind(b"\n") + 1
    if end < len(content):
        os.truncate(path, end)
