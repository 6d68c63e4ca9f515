"""The waiting line before the engine: bounded, fair between callers, `train` before `eval`.

What is counted are samples, since they are what an engine batches. Between callers the line is fair by
start-time fair queueing (Goyal, Vin and Cheng, 1996): a caller's next request begins, in virtual time, where
its last one ended, and the earliest beginning is served first, so a burst of one caller does not hold up
the others.
"""

from __future__ import annotations

import asyncio
import heapq
import math
import time
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count

from grm_service.errors import Overloaded, ShareTaken, Shed
from grm_service.types import Caller, Priority

_RECENT = 64
_LONGEST_PAUSE_S = 60


@dataclass(slots=True, order=True)
class _Waiter:
    rank: int
    begins: float
    number: int
    samples: int = field(compare=False)
    granted: asyncio.Future[None] = field(compare=False)


class RequestQueue:
    """At most `in_flight` samples at once (a larger request alone), and `waiting` requests before them."""

    def __init__(self, in_flight: int, waiting: int) -> None:
        self._room, self._most_waiting = in_flight, waiting
        self.in_flight = 0
        self._line: list[_Waiter] = []
        self._numbers = count()
        self._now = 0.0
        self._ends: dict[str, float] = {}
        self._here: Counter[str] = Counter()
        self._taken: deque[tuple[float, int]] = deque(maxlen=_RECENT)
        self._lasted: deque[float] = deque(maxlen=_RECENT)

    @property
    def waiting(self) -> int:
        """Requests in the line."""
        return sum(not waiter.granted.done() for waiter in self._line)

    @asynccontextmanager
    async def place(
        self, samples: int, caller: Caller, priority: Priority, deadline: float | None
    ) -> AsyncIterator[None]:
        """Waits for its turn and holds room for `samples`; `deadline` is on the loop's clock.

        Raises Overloaded where the line is full, ShareTaken where the caller's share of it is, Shed where the
        deadline cannot be met any more.
        """
        mine = self._here[caller.name]
        if caller.most is not None and mine >= caller.most:
            raise ShareTaken(mine, self._pause_s(), f"{caller.name!r} has {mine} requests here already")
        if self.waiting >= self._most_waiting:
            raise Overloaded(self.waiting, self._pause_s())
        self._here[caller.name] += 1
        try:
            await self._turn(samples, caller, priority, deadline)
            began = time.monotonic()
            try:
                yield
                self._lasted.append(time.monotonic() - began)
                self._taken.append((time.monotonic(), samples))
            finally:
                self._release(samples)
        finally:
            self._here[caller.name] -= 1

    async def _turn(self, samples: int, caller: Caller, priority: Priority, deadline: float | None) -> None:
        begins = max(self._now, self._ends.get(caller.name, 0.0))
        self._ends[caller.name] = begins + samples / caller.weight
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        rank = ("train", "eval").index(priority)
        heapq.heappush(self._line, _Waiter(rank, begins, next(self._numbers), samples, granted))
        self._grant()
        # No judgement of late was faster: later than this, its time would run out on the way.
        least = min(self._lasted, default=0.0)
        left_s = None if deadline is None else deadline - least - asyncio.get_running_loop().time()
        try:
            await asyncio.wait([granted], timeout=None if left_s is None else max(0.0, left_s))
        except asyncio.CancelledError:
            if granted.cancel():
                self._grant()  # there may be room for the next
            else:
                self._release(samples)
            raise
        if granted.cancel():
            self._grant()
            raise Shed("time ran out in the waiting line, before anything was judged")

    def _release(self, samples: int) -> None:
        self.in_flight -= samples
        self._grant()

    def _grant(self) -> None:
        while self._line:
            first = self._line[0]
            if first.granted.done():  # gone away
                heapq.heappop(self._line)
            elif self.in_flight == 0 or self.in_flight + first.samples <= self._room:
                heapq.heappop(self._line)
                self._now = max(self._now, first.begins)
                self.in_flight += first.samples
                first.granted.set_result(None)
            else:
                return
        if not self.in_flight:
            self._ends.clear()  # nobody is owed anything

    def _pause_s(self) -> int:
        """Seconds after which the line should have moved on, by what it did of late."""
        if len(self._taken) < 2:
            return 1
        seconds = time.monotonic() - self._taken[0][0]
        rate = sum(samples for _, samples in self._taken) / max(seconds, 1e-3)
        ahead = sum(waiter.samples for waiter in self._line) + self.in_flight
        return min(_LONGEST_PAUSE_S, max(1, math.ceil(ahead / rate)))
