"""Judge identical requests once, and replay the result for a while."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from grm_service.cache import ByteCache, memory_size
from grm_service.concurrency import SharedTask
from grm_service.errors import DeadlineExceeded, KeyReused

T = TypeVar("T")
Reuse = Literal["miss", "join", "hit"]
"""How a caller got its result: by new work, by joining work under way, or from the cache."""


@dataclass(slots=True)
class _Call(Generic[T]):
    work: SharedTask[T]
    body: str


class SingleFlight(Generic[T]):
    """Runs work once per key and caches results, with the bodies of their calls; never a failure."""

    def __init__(self, cache: ByteCache[tuple[str, T]]) -> None:
        self._running: dict[str, _Call[T]] = {}
        self._cache = cache

    async def run(self, key: str, body: str, work: Callable[[], Coroutine[Any, Any, T]]) -> tuple[T, Reuse]:
        """Return the result of `work` for the key, and how it came about.

        Work that every caller has left is cancelled, and the next caller begins anew; so does one who joined
        work whose time ran out, since its own ends later. Raises KeyReused where `body` is not that of the
        first call with the key, and what the work raises.
        """
        while (
            True
        ):  # ends, because one of those who joined begins, and its time ends before that of the others
            if (cached := self._cache.get(key)) is not None:
                _require_same(cached[0], body)
                return cached[1], "hit"
            call = self._running.get(key)
            if call is None or call.work.abandoned:
                call = self._begin(key, body, work)
                return await call.work.wait(), "miss"
            _require_same(call.body, body)
            with suppress(DeadlineExceeded):
                return await call.work.wait(), "join"

    def _begin(self, key: str, body: str, work: Callable[[], Coroutine[Any, Any, T]]) -> _Call[T]:
        call = self._running[key] = _Call(SharedTask(work()), body)
        call.work.task.add_done_callback(lambda task: self._end(key, call))
        return call

    def _end(self, key: str, call: _Call[T]) -> None:
        if self._running.get(key) is call:
            del self._running[key]
            if not call.work.failed:
                result = call.work.task.result()
                self._cache.put(key, (call.body, result), memory_size(result))


def _require_same(first: str, body: str) -> None:
    if first != body:
        raise KeyReused("this Idempotency-Key was used for another request; use a new key for each request")
