"""Gather responses to one prompt that arrive one by one, and judge them as a group.

Most frameworks sample in groups but send every response in a request of its own. A response waits here for
the others of its prompt until the group is complete or the window closes. The group is then judged together,
so that its rewards are on one scale and every critique compares the same responses.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from grm_service.audit.records import Record
from grm_service.cache import ByteCache, memory_size
from grm_service.callers import Requester
from grm_service.concurrency import SharedTask
from grm_service.types import Task

MAX_RESPONSES = 64
"""Different responses in one group."""
_MAX_WAIT_SHARE = 0.5
"""The share of a task's timeout that may be spent waiting for the group."""
GroupOutcome = Literal["complete", "window", "alone"]
"""How a group closed: complete, at the end of the window, or with one response only."""
JudgeGroup = Callable[[Task, Requester], Awaitable[Record]]
OnGroupClosed = Callable[[GroupOutcome, float], None]


@dataclass(frozen=True, slots=True)
class Grouping:
    """The wait of a response for its group: for `size` responses if known, at most `window_s` seconds.

    `id` separates groups of the same prompt, if the caller sends one. Only responses with the same wait share
    a group, so that no request is held, or judged early, by what another one says.
    """

    window_s: float
    size: int | None = None
    id: str | None = None


GroupKey = tuple[Task, Requester, Grouping]


class GroupMember(NamedTuple):
    """A response in its group: the verdict, its index there, and how many samples each index stands for.

    Identical texts are judged once; `copies` counts them.
    """

    record: Record
    place: int
    copies: tuple[int, ...]


@dataclass(slots=True)
class Group:
    """Responses that are judged together: open for others, closed, or judged."""

    grouping: Grouping
    opened: float = field(default_factory=time.monotonic)
    places: dict[str, int] = field(default_factory=dict)
    waiting: Counter[str] = field(default_factory=Counter)
    full: asyncio.Event = field(default_factory=asyncio.Event)
    verdict: SharedTask[Record] | None = None
    copies: tuple[int, ...] = ()

    def add(self, response: str) -> None:
        self.places.setdefault(response, len(self.places))
        self.waiting[response] += 1
        # Two identical texts are two samples of the policy: the size counts both, the judge sees one.
        size = self.grouping.size or MAX_RESPONSES
        if self.waiting.total() >= size or len(self.places) == MAX_RESPONSES:
            self.full.set()


GroupCache = ByteCache[Group]
"""Judged groups, by their key and one of their responses."""


class ResponseGrouper:
    """Gathers responses by prompt, options, caller, route and wait.

    `on_closed` gets each group's outcome and wait (s). A response of a group that is being judged, or is in
    the `cache`, gets the same verdict: most clients resend a request if its reply was lost.
    """

    def __init__(self, judge: JudgeGroup, on_closed: OnGroupClosed, cache: GroupCache) -> None:
        self._judge, self._on_closed, self._judged = judge, on_closed, cache
        self._open: dict[GroupKey, Group] = {}
        self._closed: dict[tuple[GroupKey, str], Group] = {}

    async def judge(self, task: Task, grouping: Grouping, requester: Requester) -> GroupMember:
        """Return the verdict on the group of the task's one response.

        The task's timeout covers waiting and judging. Raises what judging the group raises.
        """
        (response,) = task.responses
        key = replace(task, responses=()), requester, grouping
        group = self._find(key, response)
        if group is None:
            group = self._open[key] = Group(grouping)
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

    def _find(self, key: GroupKey, response: str) -> Group | None:
        """Return the group of a response that is sent again, else the open one; never one being cancelled."""
        place = key, response
        for group in (self._judged.get(place), self._closed.get(place), self._open.get(key)):
            if group is not None and group.verdict is not None and not group.verdict.abandoned:
                return group
        return None

    async def _verdict(self, key: GroupKey, group: Group) -> Record:
        """Judge a group once it is complete or its window closes, and cache it."""
        try:
            record = await self._judge_closed(key, group)
        finally:
            self._forget(key, group)
        size = memory_size((key[0], record)) // len(group.places)
        for response in group.places:
            self._judged.put((key, response), group, size)
        return record

    async def _judge_closed(self, key: GroupKey, group: Group) -> Record:
        task, requester, _ = key
        window_s, timeout_s = group.grouping.window_s, task.options.timeout_s
        if timeout_s is not None:
            window_s = min(window_s, timeout_s * _MAX_WAIT_SHARE)
        try:
            async with asyncio.timeout(window_s):
                await group.full.wait()
        except TimeoutError:
            pass
        self._close(key, group)
        waited = time.monotonic() - group.opened
        left_s = None if timeout_s is None else timeout_s - waited
        responses = tuple(group.places)
        group.copies = tuple(max(1, group.waiting[response]) for response in responses)
        alone = len(group.places) == 1 and group.waiting.total() == 1
        self._on_closed("complete" if group.full.is_set() else "alone" if alone else "window", waited)
        grouped = replace(task, responses=responses).with_options(timeout_s=left_s)
        return await self._judge(grouped, requester)

    def _close(self, key: GroupKey, group: Group) -> None:
        """Close a group: later responses open another one, except resent ones of this group."""
        if self._open.get(key) is group:
            del self._open[key]
            self._closed.update({(key, response): group for response in group.places})

    def _forget(self, key: GroupKey, group: Group) -> None:
        """Remove a group that is no longer open or under way."""
        if self._open.get(key) is group:
            del self._open[key]
        for response in group.places:
            if self._closed.get((key, response)) is group:
                del self._closed[key, response]
