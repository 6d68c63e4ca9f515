"""Run coroutines together: all at once, a bounded number at a time, or one for several callers."""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Generic, ParamSpec, TypeVar

T = TypeVar("T")
Item = TypeVar("Item")
P = ParamSpec("P")
_LONG_TEXT = 50_000
"""Characters; what takes time in proportion to a shorter text is done before a thread would begin it."""
# One thread: every further one that runs Python code makes the event loop wait longer for the interpreter.
_LONG_TEXTS = ThreadPoolExecutor(1, "long-texts")


async def gather(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Run coroutines concurrently and return their results in order.

    If one fails, the others are cancelled and awaited before its exception is raised.
    """
    running = [asyncio.create_task(each) for each in work]
    try:
        return await asyncio.gather(*running)
    finally:
        for each in running:
            if not each.cancelling():  # a second one would interrupt how it ends its work
                each.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def for_each(items: Iterable[Item], work: Callable[[Item], Awaitable[None]], limit: int) -> None:
    """Await `work` for every item, at most `limit` at once.

    Items are drawn lazily: the next one only when a worker is free. If one fails, the others are cancelled
    and awaited before its exception is raised.
    """
    remaining = iter(items)

    async def worker() -> None:
        for item in remaining:
            await work(item)

    await gather(worker() for _ in range(limit))


async def off_the_loop(chars: int, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return the result of work on a text of `chars` characters; that on long texts is done in one thread."""
    if chars < _LONG_TEXT:
        return work(*args, **kwargs)
    call = partial(contextvars.copy_context().run, work, *args, **kwargs)
    return await asyncio.get_running_loop().run_in_executor(_LONG_TEXTS, call)


class Room:
    """Room for `most` pieces of work at once with at most `size` units in all, first come, first served.

    A piece of work that is larger than `size` runs alone.
    """

    def __init__(self, most: int, size: int) -> None:
        self._most, self._size = most, size
        self._inside = self._used = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def hold(self, size: int) -> AsyncIterator[None]:
        """Wait for room, and hold it until the block ends."""
        entered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size, entered))
        self._admit()
        try:
            await entered
            yield
        finally:
            if entered.cancelled():
                self._admit()  # a smaller one behind may fit
            else:
                self._inside, self._used = self._inside - 1, self._used - size
                self._admit()

    def _admit(self) -> None:
        while self._waiting:
            size, entered = self._waiting[0]
            fits = self._inside < self._most and self._used + size <= self._size
            if not (entered.done() or fits or not self._inside):
                return
            self._waiting.popleft()
            if not entered.done():
                self._inside, self._used = self._inside + 1, self._used + size
                entered.set_result(None)


class SharedTask(Generic[T]):
    """A coroutine that runs once for several waiters; it is cancelled when the last of them leaves.

    That waiter leaves once the work has ended, so that whatever it holds for the work is in use until then.
    """

    def __init__(self, work: Coroutine[Any, Any, T]) -> None:
        self.task = asyncio.create_task(work)
        self._waiters = 0

    @property
    def abandoned(self) -> bool:
        """True if the work was cancelled because its last waiter left."""
        return not self._waiters and self.task.cancelling() > 0

    @property
    def failed(self) -> bool:
        """True if the work has ended without a result."""
        return self.task.done() and (self.task.cancelled() or self.task.exception() is not None)

    async def wait(self) -> T:
        """Return the result of the work, or raise its exception."""
        self._waiters += 1
        try:
            # Shielded: a caller that leaves must not cancel the work for the others.
            return await asyncio.shield(self.task)
        finally:
            self._waiters -= 1
            if not self._waiters and not self.task.done():
                self.task.cancel()
                await asyncio.wait([self.task])
