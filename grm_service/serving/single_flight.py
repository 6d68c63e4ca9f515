"""Judge identical requests once, and replay the result for a while."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from grm_service.concurrency import SharedTask
from grm_service.errors import KeyReused

T = TypeVar("T")
Reuse = Literal["miss", "join", "hit"]
"""How a caller got its result: by new work, by joining work under way, or from the cache."""


@dataclass(slots=True)
class _Call(Generic[T]):
    work: SharedTask[T]
    body: str
    finished: float = 0.0


class SingleFlight(Generic[T]):
    """Runs work once per key and caches at most `size` results, each for `ttl_s` seconds; never a failure."""

    def __init__(self, ttl_s: float, size: int) -> None:
        self._ttl_s, self._size = ttl_s, size
        self._running: dict[str, _Call[T]] = {}
        self._cached: OrderedDict[str, _Call[T]] = OrderedDict()

    async def run(self, key: str, body: str, work: Callable[[], Coroutine[Any, Any, T]]) -> tuple[T, Reuse]:
        """Return the result of `work` for the key, and how it came about.

        Work that every caller has left is cancelled. Raises KeyReused where `body` is not that of the first
        call with the key, and what the work raises.
        """
        self._evict()
        call = self._running.get(key) or self._cached.get(key)
        reuse: Reuse = "hit" if key in self._cached else "join"
        if call is None:
            call, reuse = self._begin(key, body, work), "miss"
        elif call.body != body:
            raise KeyReused(
                "this Idempotency-Key was used for another request; use a new key for each request"
            )
        try:
            return await call.work.wait(), reuse
        finally:
            if call.work.abandoned and self._running.get(key) is call:
                del self._running[key]  # the next caller begins anew

    def _begin(self, key: str, body: str, work: Callable[[], Coroutine[Any, Any, T]]) -> _Call[T]:
        call = self._running[key] = _Call(SharedTask(work()), body)
        call.work.task.add_done_callback(lambda task: self._end(key, call))
        return call

    def _end(self, key: str, call: _Call[T]) -> None:
        if self._running.get(key) is call:
            del self._running[key]
            if not call.work.failed:
                call.finished = time.monotonic()
                self._cached[key] = call

    def _evict(self) -> None:
        oldest_valid = time.monotonic() - self._ttl_s
        while self._cached:
            oldest = next(iter(self._cached.values()))
            if oldest.finished > oldest_valid and len(self._cached) <= self._size:
                return
            self._cached.popitem(last=False)
