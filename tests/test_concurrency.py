import asyncio
import threading
from itertools import count

import pytest

from grm_service.concurrency import Room, SharedTask, for_each, gather, off_the_loop

pytestmark = pytest.mark.anyio


class Broken(Exception):
    pass


async def fail(after=0):
    for _ in range(after):
        await asyncio.sleep(0)
    raise Broken


async def settle():
    """Let every other task run until it waits."""
    for _ in range(10):
        await asyncio.sleep(0)


class Hanging:
    """Coroutines that wait until they are cancelled, and then clean up over several turns of the loop."""

    def __init__(self):
        self.started = self.ended = 0

    async def __call__(self, *_):
        self.started += 1
        try:
            await asyncio.Event().wait()
        finally:
            await settle()
            self.ended += 1


async def test_gather_keeps_order():
    async def late(value, turns):
        for _ in range(turns):
            await asyncio.sleep(0)
        return value

    assert await gather(late(i, 5 - i) for i in range(5)) == [0, 1, 2, 3, 4]
    assert await gather([]) == []


async def test_gather_ends_the_others_on_failure():
    hang = Hanging()
    with pytest.raises(Broken):
        await gather([hang(), fail(after=3), hang()])
    assert (hang.started, hang.ended) == (2, 2)


async def test_gather_ends_all_when_cancelled():
    hang = Hanging()
    task = asyncio.create_task(gather([hang(), hang()]))
    await settle()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (hang.started, hang.ended) == (2, 2)


@pytest.mark.parametrize("limit", [1, 3, 50])
async def test_for_each_respects_the_limit(limit):
    running = most = 0
    done = []

    async def work(item):
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        done.append(item)

    await for_each(range(20), work, limit)
    assert sorted(done) == list(range(20))
    assert most == min(limit, 20)


async def test_for_each_draws_items_lazily():
    items, free = count(), asyncio.Semaphore(0)

    async def work(_):
        await free.acquire()

    task = asyncio.create_task(for_each(items, work, 3))
    await settle()
    free.release()
    await settle()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert next(items) == 4, "three at first, and one for the worker that became free"


async def test_for_each_ends_the_others_on_failure():
    hang, items = Hanging(), iter(range(100))

    async def work(item):
        await (fail(after=3) if item == 2 else hang())

    with pytest.raises(Broken):
        await for_each(items, work, 3)
    assert (hang.started, hang.ended) == (2, 2)
    assert next(items) == 3, "no item is started after a failure"


async def test_waiters_share_one_run():
    runs = []

    async def work():
        runs.append(1)
        await settle()
        return "result"

    shared = SharedTask(work())
    assert await asyncio.gather(*(shared.wait() for _ in range(3))) == ["result"] * 3
    assert runs == [1]
    assert await shared.wait() == "result"
    assert not shared.failed
    assert not shared.abandoned


async def test_last_waiter_to_leave_cancels():
    hang = Hanging()
    shared = SharedTask(hang())
    first, last = (asyncio.create_task(shared.wait()) for _ in range(2))
    await settle()
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    await settle()
    assert not shared.task.cancelling()
    assert not shared.abandoned
    last.cancel()
    await asyncio.gather(last, return_exceptions=True)
    assert shared.abandoned
    await asyncio.gather(shared.task, return_exceptions=True)
    assert shared.task.cancelled()
    assert shared.failed
    assert hang.ended == 1


async def test_failure_reaches_every_waiter():
    shared = SharedTask(fail(after=3))
    outcomes = await asyncio.gather(*(shared.wait() for _ in range(3)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [Broken] * 3
    assert shared.failed
    assert not shared.abandoned
    with pytest.raises(Broken):
        await shared.wait()


async def test_leaving_waits_for_the_end_of_the_work():
    hang = Hanging()
    shared = SharedTask(hang())
    only = asyncio.create_task(shared.wait())
    await settle()
    only.cancel()
    await asyncio.gather(only, return_exceptions=True)
    assert hang.ended == 1


class Held:
    """Blocks that hold room until they are let go."""

    def __init__(self, room):
        self.room, self.inside, self.go, self.tasks = room, [], {}, []

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def enter(self, name, size):
        self.go[name] = asyncio.Event()
        self.tasks.append(asyncio.create_task(self._hold(name, size)))
        await settle()

    async def _hold(self, name, size):
        async with self.room.hold(size):
            self.inside.append(name)
            await self.go[name].wait()
        self.inside.remove(name)

    async def leave(self, name):
        self.go[name].set()
        await settle()


@pytest.mark.parametrize(("most", "size"), [(2, 100), (100, 2)])
async def test_room_is_bounded_in_number_and_size(most, size):
    async with Held(Room(most, size)) as held:
        for name in "abcd":
            await held.enter(name, 1)
        assert held.inside == ["a", "b"]
        await held.leave("a")
        assert held.inside == ["b", "c"]


async def test_large_work_runs_alone():
    async with Held(Room(4, 10)) as held:
        for name, size in (("small", 1), ("large", 50), ("late", 1)):
            await held.enter(name, size)
        assert held.inside == ["small"]
        await held.leave("small")
        assert held.inside == ["large"]
        await held.leave("large")
        assert held.inside == ["late"]


async def test_cancelled_work_frees_its_room():
    async with Held(Room(1, 10)) as held:
        for name in "abc":
            await held.enter(name, 1)
        for task in held.tasks[:2]:
            task.cancel()
        await settle()
        assert held.inside == ["a", "c"], "a was cancelled inside, b while it waited"


@pytest.mark.parametrize(("chars", "elsewhere"), [(10, False), (10**6, True)])
async def test_long_texts_are_off_the_loop(chars, elsewhere):
    assert (await off_the_loop(chars, threading.get_ident) != threading.get_ident()) == elsewhere
