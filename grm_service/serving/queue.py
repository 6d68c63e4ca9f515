"""The request queue before the engine: bounded, fair between callers, `train` before `eval`.

It counts samples, since these are what an engine batches. Between callers it is a start-time fair queue
(Goyal, Vin and Cheng, 1996): in virtual time, a caller's next request starts when its last one ends, and the
earliest start is served first, so that a burst from one caller does not delay the others.
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

from grm_service.callers import Caller, Priority
from grm_service.errors import Overloaded, ShareTaken, Shed

_RECENT = 64
_MAX_PAUSE_S = 60


@dataclass(slots=True, order=True)
class _Waiter:
    rank: int
    begins: float
    number: int
    samples: int = field(compare=False)
    granted: asyncio.Future[None] = field(compare=False)


class RequestQueue:
    """Admits `in_flight` samples at once (a larger request runs alone), queues at most `waiting` requests."""

    def __init__(self, in_flight: int, waiting: int) -> None:
        self._room, self._most_waiting = in_flight, waiting
        self.in_flight = 0
        self._heap: list[_Waiter] = []
        self._numbers = count()
        self._now = 0.0
        self._ends: dict[str, float] = {}
        self._requests: Counter[str] = Counter()
        self._finished: deque[tuple[float, int]] = deque(maxlen=_RECENT)
        self._durations: deque[float] = deque(maxlen=_RECENT)

    @property
    def waiting(self) -> int:
        """The number of requests in the queue."""
        return sum(not waiter.granted.done() for waiter in self._heap)

    @asynccontextmanager
    async def reserve(
        self, samples: int, caller: Caller, priority: Priority, deadline: float | None
    ) -> AsyncIterator[None]:
        """Wait for a turn and hold room for `samples`; `deadline` is on the event loop's clock.

        Raises Overloaded if the queue is full, ShareTaken if the caller has its maximum of requests here, and
        Shed if the deadline can no longer be met.
        """
        mine = self._requests[caller.name]
        if caller.most is not None and mine >= caller.most:
            raise ShareTaken(
                mine, self._pause_s(), f"{caller.name!r} already has {mine} requests here, its maximum"
            )
        if self.waiting >= self._most_waiting:
            raise Overloaded(self.waiting, self._pause_s())
        self._requests[caller.name] += 1
        try:
            await self._turn(samples, caller, priority, deadline)
            began = time.monotonic()
            try:
                yield
                self._durations.append(time.monotonic() - began)
                self._finished.append((time.monotonic(), samples))
            finally:
                self._release(samples)
        finally:
            self._requests[caller.name] -= 1

    async def _turn(self, samples: int, caller: Caller, priority: Priority, deadline: float | None) -> None:
        begins = max(self._now, self._ends.get(caller.name, 0.0))
        self._ends[caller.name] = begins + samples / caller.weight
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        rank = ("train", "eval").index(priority)
        heapq.heappush(self._heap, _Waiter(rank, begins, next(self._numbers), samples, granted))
        self._grant()
        # No recent judgement was faster: started later than this, the request would run out of time.
        least = min(self._durations, default=0.0)
        left_s = None if deadline is None else deadline - least - asyncio.get_running_loop().time()
        try:
            await asyncio.wait([granted], timeout=None if left_s is None else max(0.0, left_s))
        except asyncio.CancelledError:
            if granted.cancel():
                self._grant()  # there may be room for the next request
            else:
                self._release(samples)
            raise
        if granted.cancel():
            self._grant()
            raise Shed("time ran out in the queue, before judging started")

    def _release(self, samples: int) -> None:
        self.in_flight -= samples
        self._grant()

    def _grant(self) -> None:
        while self._heap:
            first = self._heap[0]
            if first.granted.done():  # its caller has left
                heapq.heappop(self._heap)
            elif self.in_flight == 0 or self.in_flight + first.samples <= self._room:
                heapq.heappop(self._heap)
                self._now = max(self._now, first.begins)
                self.in_flight += first.samples
                first.granted.set_result(None)
            else:
                return
        if not self.in_flight:
            self._ends.clear()  # idle: past use no longer counts

    def _pause_s(self) -> int:
        """Return the seconds until the queue should have moved on, from its recent throughput (1..60)."""
        if len(self._finished) < 2:
            return 1
        seconds = time.monotonic() - self._finished[0][0]
        rate = sum(samples for _, samples in self._finished) / max(seconds, 1e-3)
        ahead = sum(waiter.samples for waiter in self._heap) + self.in_flight
        return min(_MAX_PAUSE_S, max(1, math.ceil(ahead / rate)))
