"""Responses to one prompt that come one by one, judged together.

Most frameworks sample in groups and send every response by itself. A response waits here for its siblings
until the group is complete or the window closes, whichever is first. Then whoever is there is judged as one
group, so that their rewards stand on one scale and every critique has seen what it compares with.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from grm_service.audit.records import Record
from grm_service.concurrency import SharedTask
from grm_service.types import Requester, Task

MOST = 64
"""Different responses in one group."""
_KEPT = 65_536
_SHARE_OF_TIME = 0.5
"""Of the time that a task has, at most for waiting."""
GroupOutcome = Literal["complete", "window", "alone"]
"""How a group closed: all were there; some, when the window closed; or one, alone."""
JudgeGroup = Callable[[Task, Requester], Awaitable[Record]]
OnGroupClosed = Callable[[GroupOutcome, float], None]
GroupKey = tuple[Task, Requester, str | None]


@dataclass(frozen=True, slots=True)
class Grouping:
    """How long to wait for whom: `size` responses where it is known, the `window_s` in any case.

    `id` tells groups of one prompt apart, where the caller sends one.
    """

    window_s: float
    size: int | None = None
    id: str | None = None


class GroupMember(NamedTuple):
    """Where a response ended up: the group's verdict, its place there, and for how many samples that came out
    alike each place stands.
    """

    record: Record
    place: int
    copies: tuple[int, ...]


@dataclass(slots=True)
class _OpenGroup:
    gathering: Grouping
    began: float = field(default_factory=time.monotonic)
    places: dict[str, int] = field(default_factory=dict)
    waiting: Counter[str] = field(default_factory=Counter)
    full: asyncio.Event = field(default_factory=asyncio.Event)
    verdict: SharedTask[Record] | None = None
    judged: float = math.inf
    copies: tuple[int, ...] = ()

    def add(self, response: str) -> None:
        self.places.setdefault(response, len(self.places))
        self.waiting[response] += 1
        # The same text twice is two samples that came out alike; both are waited for, and judged once.
        if self.waiting.total() >= (self.gathering.size or MOST) or len(self.places) == MOST:
            self.full.set()


class ResponseGrouper:
    """Gathers responses by prompt, caller and route; `told` hears how each group closed and after how long.

    A response that was judged within `replay_s` seconds gets that verdict again: most clients send a request
    again when they have lost its answer.
    """

    def __init__(self, judge: JudgeGroup, told: OnGroupClosed, replay_s: float) -> None:
        self._judge, self._told, self._replay_s = judge, told, replay_s
        self._open: dict[GroupKey, _OpenGroup] = {}
        self._closed: OrderedDict[tuple[GroupKey, str], _OpenGroup] = OrderedDict()

    async def judge(self, task: Task, gathering: Grouping, requester: Requester) -> GroupMember:
        """The verdict on the group in which the task's one response ended up.

        The time that the task has is shared by waiting and judging. Raises what the judge raises.
        """
        (response,) = task.responses
        key = replace(task, responses=()), requester, gathering.id
        self._forget()
        group = self._closed.get((key, response)) or self._open.get(key)
        if group is None:
            group = self._open[key] = _OpenGroup(gathering)
            group.verdict = SharedTask(self._verdict(key, group))
        assert group.verdict is not None
        group.add(response)
        if group.full.is_set():
            self._close(key, group)
        try:
            record = await group.verdict.wait()
            return GroupMember(record, group.places[response], group.copies)
        finally:
            group.waiting[response] -= 1
            if group.verdict.abandoned:
                self._drop(key, group)

    async def _verdict(self, key: GroupKey, group: _OpenGroup) -> Record:
        task, requester, _ = key
        window_s = group.gathering.window_s
        if task.options.timeout_s is not None:
            window_s = min(window_s, task.options.timeout_s * _SHARE_OF_TIME)
        try:
            async with asyncio.timeout(window_s):
                await group.full.wait()
        except TimeoutError:
            pass
        self._close(key, group)
        waited = time.monotonic() - group.began
        left_s = None if task.options.timeout_s is None else task.options.timeout_s - waited
        responses = tuple(group.places)
        group.copies = tuple(max(1, group.waiting[response]) for response in responses)
        alone = len(group.places) == 1 and group.waiting.total() == 1
        self._told("complete" if group.full.is_set() else "alone" if alone else "window", waited)
        try:
            return await self._judge(
                replace(task, responses=responses).with_options(timeout_s=left_s), requester
            )
        except BaseException:
            self._drop(key, group)
            raise
        finally:
            group.judged = time.monotonic()

    def _close(self, key: GroupKey, group: _OpenGroup) -> None:
        """Whoever comes from now on begins another group, unless it sends again what is in this one."""
        if self._open.get(key) is group:
            del self._open[key]
            self._closed.update({(key, response): group for response in group.places})

    def _drop(self, key: GroupKey, group: _OpenGroup) -> None:
        """There will be no verdict of it."""
        if self._open.get(key) is group:
            del self._open[key]
        for response in group.places:
            self._closed.pop((key, response), None)

    def _forget(self) -> None:
        late = time.monotonic() - self._replay_s
        while self._closed:
            group = next(iter(self._closed.values()))
            if group.judged > late and len(self._closed) <= _KEPT:
                return
            self._closed.popitem(last=False)
