"""One piece of work for all who ask the same, and its result again for a while."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from grm_service.errors import KeyReused

T = TypeVar("T")
Reuse = Literal["miss", "join", "hit"]


@dataclass(slots=True)
class _Flight(Generic[T]):
    task: asyncio.Task[T]
    body: str
    askers: int = 0
    landed: float = 0.0


class SingleFlight(Generic[T]):
    """Keeps at most `most` results, each for `kept_s` seconds; failures are told to all and not kept."""

    def __init__(self, kept_s: float, most: int) -> None:
        self._kept_s, self._most = kept_s, most
        self._open: dict[str, _Flight[T]] = {}
        self._kept: OrderedDict[str, _Flight[T]] = OrderedDict()

    async def ask(self, key: str, body: str, work: Callable[[], Coroutine[Any, Any, T]]) -> tuple[T, Reuse]:
        """The result of `work` for the key, and whether it had to be done. `body` must be that of the first.

        Work whose askers have all gone is cancelled. Raises KeyReused, and what the work raises.
        """
        self._forget()
        flight = self._open.get(key) or self._kept.get(key)
        how: Reuse = "hit" if key in self._kept else "join"
        if flight is None:
            flight, how = self._begin(key, body, work), "miss"
        elif flight.body != body:
            raise KeyReused
        flight.askers += 1
        try:
            return await asyncio.shield(flight.task), how
        finally:
            flight.askers -= 1
            if not flight.askers and not flight.task.done():
                self._open.pop(key, None)  # whoever asks from now on begins anew
                flight.task.cancel()

    def _begin(self, key: str, body: str, work: Callable[[], Coroutine[Any, Any, T]]) -> _Flight[T]:
        flight = self._open[key] = _Flight(asyncio.create_task(work()), body)
        flight.task.add_done_callback(lambda task: self._landed(key, flight))
        return flight

    def _landed(self, key: str, flight: _Flight[T]) -> None:
        if self._open.get(key) is flight:
            del self._open[key]
            if not flight.task.cancelled() and flight.task.exception() is None:
                flight.landed = time.monotonic()
                self._kept[key] = flight

    def _forget(self) -> None:
        late = time.monotonic() - self._kept_s
        while self._kept:
            oldest = next(iter(self._kept.values()))
            if oldest.landed > late and len(self._kept) <= self._most:
                return
            self._kept.popitem(last=False)
