"""Files that only their owner can read: created so, complete or absent, and corrected if they are not."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
from pathlib import Path
from typing import TextIO

logger = logging.getLogger(__name__)


def make_folder(folder: Path) -> None:
    """Create a folder that only its owner can enter; leave an existing one as it is. Raises OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def create_empty(path: Path) -> None:
    """Create an empty file if there is none, readable by its owner only. Raises OSError."""
    make_folder(path.parent)
    with contextlib.suppress(FileExistsError):
        open_new(path).close()


def open_new(path: Path) -> TextIO:
    """Create a file and open it to write, readable by its owner only. Raises OSError, also if it exists."""
    return os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w", encoding="utf-8")


def write_atomically(path: Path, text: str, replace: bool = True) -> None:
    """Write a file that is complete or absent after a crash, readable by its owner only.

    Without `replace`, an existing file stays. Raises OSError.
    """
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with open_new(partial) as file:
            file.write(text)
            sync(file)
        if replace:
            partial.replace(path)
        else:
            with contextlib.suppress(FileExistsError):
                os.link(partial, path)  # atomic: if several processes start at once, the first one wins
    finally:
        partial.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync(file: TextIO) -> None:
    """Write what was written to a file to disk. Raises OSError."""
    file.flush()
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Write a folder's entries to disk, or a power cut could bring an old file back. Raises OSError."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def read_regular(path: Path) -> bytes:
    """Return the content of a regular file. Raises OSError: a FIFO would wait for a writer for ever."""
    if path.exists() and not path.is_file():
        raise OSError(f"{path} is no regular file")
    return path.read_bytes()


def make_private(path: Path) -> None:
    """Remove the rights of other users from a file, if it exists and has any, and log that."""
    try:
        mode = path.stat().st_mode & 0o777
    except OSError:
        return
    if not mode & 0o077:
        return
    try:
        path.chmod(mode & 0o700)
        logger.warning("%s was open to other users (mode %o): now only to its owner", path, mode)
    except OSError as failed:  # such as a secret that is mounted read-only
        if mode & 0o007:
            logger.warning("%s is open to all users (mode %o) and stays so: %s", path, mode, failed)
