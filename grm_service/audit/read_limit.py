"""A limit on reading the trail: a time limit, and a stop from another thread."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Event, Lock
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from grm_service.errors import ReadTooLong

T = TypeVar("T")
# Steps of SQLite's machine between two checks: below a millisecond, unless a step reads a long text
_STEPS = 10_000


class ReadLimit:
    """A limit on the reads of one thread, in seconds from the call of `run`. Thread-safe."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._deadline = float("inf")
        self._stopped = Event()
        self._cancel: Callable[[], None] | None = None
        self._cancelling = Lock()

    def run(self, work: Callable[[], T]) -> T:
        """Return the result of `work`, whose reads raise ReadTooLong once the limit is over."""
        self._deadline = time.monotonic() + self._seconds
        token = _limit.set(self)
        try:
            return work()
        finally:
            _limit.reset(token)

    def stop(self) -> None:
        """End the limit now; may wait for the database server."""
        self._stopped.set()
        with self._cancelling:
            if self._cancel is not None:
                self._cancel()

    def check(self) -> None:
        """Raise ReadTooLong if the limit is over."""
        if self._is_over():
            raise ReadTooLong(
                f"reading the audit trail for this request took over {self._seconds:g} s: narrow it with "
                "profile, status or before, or let it read fewer verdicts"
            )

    @contextmanager
    def on(self, connection: Connection) -> Iterator[None]:
        """Apply the limit to the statements of a transaction."""
        driver = connection.connection.driver_connection
        assert driver is not None
        self.check()
        if connection.dialect.name == "sqlite":
            driver.set_progress_handler(self._is_over, _STEPS)
        else:
            left_ms = max(1, math.ceil(1000 * (self._deadline - time.monotonic())))
            connection.exec_driver_sql(f"SET LOCAL statement_timeout = {left_ms}")
            self._cancel = driver.cancel
        try:
            yield
        except DBAPIError:
            self.check()
            raise
        finally:
            with self._cancelling:
                self._cancel = None
            if connection.dialect.name == "sqlite":
                driver.set_progress_handler(None, 0)

    def _is_over(self) -> bool:
        return self._stopped.is_set() or time.monotonic() > self._deadline


_limit: ContextVar[ReadLimit | None] = ContextVar("read_limit", default=None)


def check() -> None:
    """Raise ReadTooLong if this thread's limit, if it has one, is over."""
    if (limit := _limit.get()) is not None:
        limit.check()


@contextmanager
def limited(connection: Connection) -> Iterator[None]:
    """Apply this thread's limit, if it has one, to a transaction."""
    if (limit := _limit.get()) is None:
        yield
    else:
        with limit.on(connection):
            yield
