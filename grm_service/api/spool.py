"""The bodies of batches in temporary files: checked while they arrive, bounded in bytes over all batches."""

from __future__ import annotations

import asyncio
import tempfile
from codecs import BOM_UTF8
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import ijson
from fastapi import HTTPException
from starlette.requests import ClientDisconnect

from grm_service.api.disconnect import client_gone
from grm_service.api.json_bodies import MAX_DEPTH, not_json, too_deep
from grm_service.errors import GRMError

LINES = "application/x-ndjson"
MAX_ITEMS = 10_000
_PIECE = 2**20
_FED = 2**16
_BATCHES = 4
_ADVICE = "send a smaller batch, or the same one when others are finished"


class TemporaryStorageFull(GRMError):
    """The temporary folder has no room for a batch."""

    code = "temporary_storage_full"
    retryable = True


class Spools:
    """The temporary files of all batches.

    A batch has at most MAX_ITEMS items, of at most `item_bytes` bytes and MAX_DEPTH levels each. Together the
    files have at most four times `batch_bytes`, the limit of one.
    """

    def __init__(self, batch_bytes: int, item_bytes: int) -> None:
        self._left, self._item_bytes = _BATCHES * batch_bytes, item_bytes

    async def receive(self, chunks: AsyncIterator[bytes], lines: bool) -> Spool:
        """Return the body once it is stored to its end, and could be parsed to its end.

        Raises HTTPException and RequestValidationError for a bad body, TemporaryStorageFull.
        """
        spool = Spool(self, _Lines(self._item_bytes) if lines else _Array(self._item_bytes))
        try:
            piece = bytearray()
            async for chunk in chunks:
                piece += chunk
                if len(piece) >= _PIECE:
                    await self._store(spool, piece)
                    piece = bytearray()
            await self._store(spool, piece, last=True)
        except ClientDisconnect:
            spool.close()
            raise client_gone() from None
        except BaseException:
            spool.close()
            raise
        return spool

    async def _store(self, spool: Spool, piece: bytearray, last: bool = False) -> None:
        if len(piece) > self._left:
            raise TemporaryStorageFull(f"the batches in progress fill the temporary storage: {_ADVICE}")
        self._left -= len(piece)
        spool.size += len(piece)
        await asyncio.to_thread(spool.add, bytes(piece), last)

    def free(self, size: int) -> None:
        self._left += size


class Spool:
    """A stored body; the methods block, and are for one thread at a time."""

    def __init__(self, spools: Spools, check: _Lines | _Array) -> None:
        self.size = 0
        self._spools, self._check, self._begun = spools, check, False
        self._file = tempfile.SpooledTemporaryFile(max_size=_PIECE)  # noqa: SIM115  closed with the reply

    def add(self, data: bytes, last: bool) -> None:
        """Store and check a part of the body; the first has its byte order mark, if there is one."""
        try:
            self._file.write(data)
            self._file.flush()
        except OSError as full:
            detail = f"the server cannot store the batch in its temporary folder: {full.strerror}"
            raise TemporaryStorageFull(f"{detail}; {_ADVICE}, or enlarge the folder (TMPDIR)") from full
        self._check.add(data if self._begun else data.removeprefix(BOM_UTF8))
        self._begun = True
        if last:
            self._check.finish()

    def items(self) -> Iterator[tuple[Any, int]]:
        """Yield each item, as a value or as a line of JSON, with the bytes read for it (to within 64 KiB)."""
        self._file.seek(0)
        before, lines = 0, isinstance(self._check, _Lines)
        for item in self._lines() if lines else self._values():
            yield item, len(item) if lines else self._file.tell() - before
            before = 0 if lines else self._file.tell()

    def _lines(self) -> Iterator[bytes]:
        # Files that were joined have a byte order mark before any of their lines.
        return (line for line in (raw.removeprefix(BOM_UTF8) for raw in self._file) if line.strip())

    def _values(self) -> Iterator[Any]:
        self._file.seek(len(BOM_UTF8) if self._file.read(len(BOM_UTF8)) == BOM_UTF8 else 0)
        return iter(ijson.items(self._file, "item", use_float=True, buf_size=_FED))

    def close(self) -> None:
        self._spools.free(self.size)
        self.size = 0
        with suppress(OSError):  # what could not be written is dropped
            self._file.close()


class _Counted:
    """The limits on items that are read piece by piece."""

    def __init__(self, item_bytes: int) -> None:
        self._count, self._item_bytes = 0, item_bytes

    def _add_item(self) -> None:
        self._count += 1
        if self._count > MAX_ITEMS:
            detail = f"the batch has {self._count} items or more, at most {MAX_ITEMS} are allowed: split it"
            raise HTTPException(422, detail)

    def _check_size(self, size: int) -> None:
        if size > self._item_bytes:
            detail = (
                f"item {self._count}, with the white space around it, is larger than {self._item_bytes} bytes"
            )
            raise HTTPException(413, f"{detail} (GRM_MAX_BODY_BYTES): shorten it, or leave it out")


class _Lines(_Counted):
    """The check of JSON Lines: their number and size; a line that is not JSON fails alone."""

    _rest = b""

    def add(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._check_line(line)
        self._check_size(len(self._rest))

    def finish(self) -> None:
        self._check_line(self._rest)
        self._rest = b""

    def _check_line(self, line: bytes) -> None:
        self._check_size(len(line))
        if line.removeprefix(BOM_UTF8).strip():
            self._add_item()


class _Array(_Counted):
    """The check of a JSON array, by the events of a parser that builds no values: these grow with depth."""

    def __init__(self, item_bytes: int) -> None:
        super().__init__(item_bytes)
        self._events = ijson.sendable_list()
        self._parser = ijson.basic_parse_coro(self._events, use_float=True)
        self._depth = self._since = 0
        self._begun = False

    def add(self, data: bytes) -> None:
        """Raises HTTPException, and RequestValidationError if the data is not JSON."""
        for start in range(0, len(data), _FED):
            fed = data[start : start + _FED]
            self._parse(partial(self._parser.send, fed))
            self._since += len(fed)
            self._check_size(self._since)

    def finish(self) -> None:
        self._parse(self._parser.close)

    def _parse(self, step: Callable[[], object]) -> None:
        wrong: Exception | None = None
        try:
            step()
        except (ijson.JSONError, ValueError) as error:
            wrong = error
        for event, _ in self._events:
            self._follow(event)
        self._events.clear()
        if wrong is not None:
            raise not_json(str(wrong)) if self._begun else _no_array()

    def _follow(self, event: str) -> None:
        if not self._begun and event != "start_array":
            raise _no_array()
        self._begun = True
        if event.startswith("start"):
            self._depth += 1
            if self._depth > MAX_DEPTH + 1:
                raise too_deep(f"item {self._count}")
            return
        self._depth -= event.startswith("end")
        if self._depth == 1:
            self._add_item()
            self._since = 0


def _no_array() -> HTTPException:
    return HTTPException(422, f"the body must be a JSON array, or JSON Lines with Content-Type: {LINES}")
