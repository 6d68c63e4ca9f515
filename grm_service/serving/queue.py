"""The request queue before the engine: bounded, fair between callers, `train` before `eval`.

It counts samples, since these are what an engine batches, and the characters of their prompts, since these
take memory and time. Between callers it is a start-time fair queue (Goyal, Vin and Cheng, 1996): in virtual
time, a caller's next request starts when its last one ends, and the earliest start is served first, so that a
burst from one caller does not delay the others. In virtual time, a request lasts as long as its share of the
samples or of the characters, whichever is larger.
"""

from __future__ import annotations

import asyncio
import heapq
import math
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from itertools import count

from grm_service.callers import Caller, Priority
from grm_service.errors import Overloaded, ShareTaken, Shed

_RECENT = 64
_MAX_PAUSE_S = 60
_TEXT_ROOMS = 8
"""Texts of requests that wait or are judged, as a multiple of the prompt characters in flight."""


@dataclass(slots=True, order=True)
class _Waiter:
    rank: int
    begins: float
    number: int
    samples: int = field(compare=False)
    prompt_chars: int = field(compare=False)
    granted: asyncio.Future[None] = field(compare=False)


class RequestQueue:
    """Admits `in_flight` samples with `prompt_chars` characters at once, queues at most `waiting` requests.

    A larger request runs alone.
    """

    def __init__(self, in_flight: int, waiting: int, prompt_chars: int) -> None:
        self._room, self._room_chars, self._most_waiting = in_flight, prompt_chars, waiting
        self.in_flight = 0
        self.chars_in_flight = 0
        self._heap: list[_Waiter] = []
        self._numbers = count()
        self._now = 0.0
        self._ends: dict[str, float] = {}
        self._requests: Counter[str] = Counter()
        self._text_chars = 0
        self._finished: deque[tuple[float, int]] = deque(maxlen=_RECENT)
        self._durations: deque[float] = deque(maxlen=_RECENT)

    @property
    def waiting(self) -> int:
        """The number of requests in the queue."""
        return sum(not waiter.granted.done() for waiter in self._heap)

    @contextmanager
    def admit(self, caller: Caller) -> Iterator[None]:
        """Count a request of the caller until it ends. Raises ShareTaken if it has its maximum here."""
        mine = self._requests[caller.name]
        if caller.most is not None and mine >= caller.most:
            raise ShareTaken(
                mine, self._pause_s(), f"{caller.name!r} already has {mine} requests here, its maximum"
            )
        self._requests[caller.name] += 1
        try:
            yield
        finally:
            self._requests[caller.name] -= 1

    @contextmanager
    def hold_texts(self, chars: int) -> Iterator[None]:
        """Count the characters of a request's texts until it ends. Raises Overloaded if they are too many."""
        if self._text_chars and self._text_chars + chars > _TEXT_ROOMS * self._room_chars:
            why = f"requests with {self._text_chars} characters are already here"
            raise Overloaded(self.waiting, self._pause_s(), why)
        self._text_chars += chars
        try:
            yield
        finally:
            self._text_chars -= chars

    @asynccontextmanager
    async def reserve(
        self, samples: int, prompt_chars: int, caller: Caller, priority: Priority, deadline: float | None
    ) -> AsyncIterator[None]:
        """Wait for a turn and hold room for `samples` with `prompt_chars` characters of prompts in all.

        `deadline` is on the event loop's clock. Raises Overloaded if the queue is full, and Shed if the
        deadline can no longer be met.
        """
        if self.waiting >= self._most_waiting:
            raise Overloaded(self.waiting, self._pause_s())
        waiter = self._join(samples, prompt_chars, caller, priority)
        await self._turn(waiter, deadline)
        began = time.monotonic()
        try:
            yield
            self._durations.append(time.monotonic() - began)
            self._finished.append((time.monotonic(), samples))
        finally:
            self._release(waiter)

    def _join(self, samples: int, prompt_chars: int, caller: Caller, priority: Priority) -> _Waiter:
        begins = max(self._now, self._ends.get(caller.name, 0.0))
        share = max(samples / self._room, prompt_chars / self._room_chars)
        self._ends[caller.name] = begins + share / caller.weight
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        rank = ("train", "eval").index(priority)
        waiter = _Waiter(rank, begins, next(self._numbers), samples, prompt_chars, granted)
        heapq.heappush(self._heap, waiter)
        return waiter

    async def _turn(self, waiter: _Waiter, deadline: float | None) -> None:
        self._grant()
        granted = waiter.granted
        # No recent judgement was faster: started later than this, the request would run out of time.
        least = min(self._durations, default=0.0)
        left_s = None if deadline is None else deadline - least - asyncio.get_running_loop().time()
        try:
            await asyncio.wait([granted], timeout=None if left_s is None else max(0.0, left_s))
        except asyncio.CancelledError:
            if granted.cancel():
                self._grant()  # there may be room for the next request
            else:
                self._release(waiter)
            raise
        if granted.cancel():
            self._grant()
            raise Shed("time ran out in the queue, before judging started")

    def _release(self, waiter: _Waiter) -> None:
        self.in_flight -= waiter.samples
        self.chars_in_flight -= waiter.prompt_chars
        self._grant()

    def _fits(self, waiter: _Waiter) -> bool:
        samples, chars = self.in_flight + waiter.samples, self.chars_in_flight + waiter.prompt_chars
        return self.in_flight == 0 or (samples <= self._room and chars <= self._room_chars)

    def _grant(self) -> None:
        while self._heap:
            first = self._heap[0]
            if first.granted.done():  # its caller has left
                heapq.heappop(self._heap)
            elif self._fits(first):
                heapq.heappop(self._heap)
                self._now = max(self._now, first.begins)
                self.in_flight += first.samples
                self.chars_in_flight += first.prompt_chars
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
