"""Reads of the audit trail: in threads of their own, limited in time, ended when their client leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar
from weakref import WeakValueDictionary

from fastapi import Request
from fastapi.responses import Response
from pydantic import BaseModel

from grm_service.api.access import caller
from grm_service.api.disconnect import while_present
from grm_service.audit.read_limit import ReadLimit

T = TypeVar("T")
MAX_READ_S = 10.0
_THREADS = 4  # of either kind: with the writer's, fewer connections than the database's pool has


class Reader:
    """Runs reads in threads, each for at most MAX_READ_S seconds.

    Reads that may take long (`one_at_a_time`) have threads of their own and take turns within a caller, so
    that neither other reads nor other callers wait for them. None uses the threads of the event loop. A
    cancelled read leaves its line, or ends at the database's next step.
    """

    def __init__(self) -> None:
        self._short = ThreadPoolExecutor(_THREADS, "read")
        self._long = ThreadPoolExecutor(_THREADS, "read-long")
        self._ends = ThreadPoolExecutor(2 * _THREADS, "read-end")
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def run(self, work: Callable[[], T]) -> T:
        """Return the result of a short read. Raises what `work` raises, and ReadTooLong."""
        return await self._run(self._short, work)

    async def one_at_a_time(self, owner: str, work: Callable[[], T]) -> T:
        """Return the result of a read that may take long; those of one `owner` take turns."""
        async with self._turns.setdefault(owner, asyncio.Lock()):
            return await self._run(self._long, work)

    async def _run(self, threads: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        limit = ReadLimit(MAX_READ_S)
        reading = threads.submit(limit.run, work)
        try:
            return await asyncio.wrap_future(reading)
        except asyncio.CancelledError:
            if reading.running():
                await asyncio.wrap_future(self._ends.submit(_end, limit, reading))
            raise


def reader(request: Request) -> Reader:
    """Return the reader of the application."""
    reader: Reader = request.app.state.reader
    return reader


async def reply(request: Request, work: Callable[[], BaseModel], long: bool = False) -> Response:
    """Return the JSON of a read for a request, rendered in its thread; end the read if the client leaves."""

    def render() -> bytes:
        return work().model_dump_json(by_alias=True).encode()

    reading = (
        reader(request).one_at_a_time(caller(request).name, render) if long else reader(request).run(render)
    )
    return Response(await while_present(request, reading), media_type="application/json")


def _end(limit: ReadLimit, reading: Future[T]) -> None:
    """End a read, and wait for it: until then, its thread is not free for the next."""
    limit.stop()
    wait([reading])
