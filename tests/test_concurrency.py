import asyncio
from itertools import count

import pytest

from grm_service.concurrency import SharedTask, for_each, gather

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
