"""Run coroutines together: all at once, a bounded number at a time, or one for several callers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, Generic, ParamSpec, TypeVar

T = TypeVar("T")
Item = TypeVar("Item")
P = ParamSpec("P")
_LONG_TEXT = 50_000
"""Characters; what takes time in proportion to a shorter text is done before a thread would begin it."""


async def gather(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Run coroutines concurrently and return their results in order.

    If one fails, the others are cancelled and awaited before its exception is raised.
    """
    running = [asyncio.create_task(each) for each in work]
    try:
        return await asyncio.gather(*running)
    finally:
        for each in running:
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
    """Return the result of work on a text of `chars` characters, in a thread if the text is long."""
    if chars < _LONG_TEXT:
        return work(*args, **kwargs)
    return await asyncio.to_thread(work, *args, **kwargs)


class SharedTask(Generic[T]):
    """A coroutine that runs once for several waiters; it is cancelled when the last of them leaves."""

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
