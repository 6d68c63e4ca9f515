"""The request queue: bounded, fair between callers, and sheds requests that cannot meet their deadline."""

import asyncio

import pytest

from grm_service.callers import NOBODY, Caller
from grm_service.errors import DeadlineExceeded, Overloaded, ShareTaken
from grm_service.serving.queue import RequestQueue
from tests.waiting import HANG_S, settle

pytestmark = pytest.mark.anyio
HEAVY, LIGHT = Caller("heavy"), Caller("light")


class Work:
    """Requests that occupy their place in the queue until `finish` is called."""

    def __init__(self, queue):
        self.queue, self.started, self.finish_events, self.tasks = queue, [], {}, {}

    async def submit(self, name, samples=1, chars=0, caller=NOBODY, priority="train", deadline=None):
        self.finish_events[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(self._hold(name, samples, chars, caller, priority, deadline))
        await settle()

    async def _hold(self, name, *args):
        async with self.queue.reserve(*args):
            self.started.append(name)
            await self.finish_events[name].wait()

    async def finish(self, name):
        self.finish_events[name].set()
        await self.tasks[name]
        await settle()

    async def cancel_all(self):
        for task in self.tasks.values():
            task.cancel()
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)


@pytest.fixture
async def work_on():
    """Return a function that creates Work on a queue; its requests are cancelled after the test."""
    works = []

    def _work_on(queue):
        works.append(Work(queue))
        return works[-1]

    yield _work_on
    for work in works:
        await work.cancel_all()


async def test_samples_in_flight_are_bounded(work_on):
    work = work_on(RequestQueue(8, 10, 1000))
    for name in "abc":
        await work.submit(name, samples=4)
    assert work.started == ["a", "b"]
    assert (work.queue.in_flight, work.queue.waiting) == (8, 1)
    await work.finish("a")
    assert work.started == ["a", "b", "c"]


async def test_oversized_request_runs_alone(work_on):
    work = work_on(RequestQueue(8, 10, 1000))
    await work.submit("small")
    await work.submit("large", samples=64)
    assert work.started == ["small"]
    await work.finish("small")
    await work.submit("late")
    assert work.started == ["small", "large"]
    await work.finish("large")
    assert work.started == ["small", "large", "late"]


async def test_characters_in_flight_are_bounded(work_on):
    work = work_on(RequestQueue(8, 10, 1000))
    for name in "abc":
        await work.submit(name, chars=500)
    assert work.started == ["a", "b"]
    assert (work.queue.in_flight, work.queue.chars_in_flight) == (2, 1000)
    await work.finish("a")
    assert work.started == ["a", "b", "c"]


async def test_long_prompts_take_a_larger_share(work_on):
    work = work_on(RequestQueue(8, 100, 1000))
    await work.submit("first", samples=8)
    for i in range(2):
        await work.submit(f"h{i}", chars=1000, caller=HEAVY)
    for i in range(3):
        await work.submit(f"l{i}", chars=500, caller=LIGHT)
    for name in ("first", "h0", "l0", "l1"):
        await work.finish(name)
    assert work.started == ["first", "h0", "l0", "l1", "h1"]


async def test_admitted_requests_of_a_caller_are_bounded():
    queue, one = RequestQueue(8, 10, 1000), Caller("one", most=1)
    with queue.admit(one):
        with pytest.raises(ShareTaken, match="already has 1 requests"), queue.admit(one):
            pytest.fail("the caller had its maximum")
        with queue.admit(LIGHT):
            pass
    with queue.admit(one):
        pass


async def test_full_queue_refuses_with_retry_after(work_on):
    work = work_on(RequestQueue(1, 1, 1000))
    await work.submit("runs")
    await work.submit("waits")
    with pytest.raises(Overloaded, match="1 requests are already waiting") as refused:
        async with work.queue.reserve(1, 0, NOBODY, "train", None):
            pytest.fail("no place was free")
    assert 1 <= refused.value.retry_after_s <= 60
    await work.finish("runs")
    assert work.started == ["runs", "waits"]


async def test_burst_does_not_block_other_callers(work_on):
    work = work_on(RequestQueue(1, 100, 1000))
    for i in range(6):
        await work.submit(f"h{i}", caller=HEAVY)
    for i in range(2):
        await work.submit(f"l{i}", caller=LIGHT)
    for _ in range(5):
        await work.finish(work.started[-1])
    assert work.started == ["h0", "l0", "h1", "l1", "h2", "h3"]


async def test_shares_follow_the_weights(work_on):
    """A caller with twice the weight gets twice as many places."""
    work = work_on(RequestQueue(1, 100, 1000))
    await work.submit("first")
    for i in range(9):
        await work.submit(f"double{i}", caller=Caller("double", 2.0))
        await work.submit(f"single{i}", caller=Caller("single", 1.0))
    for _ in range(9):
        await work.finish(work.started[-1])
    assert sum(name.startswith("double") for name in work.started[1:10]) == 6


async def test_train_runs_before_eval(work_on):
    work = work_on(RequestQueue(1, 100, 1000))
    await work.submit("first")
    await work.submit("eval", priority="eval")
    await work.submit("train")
    await work.finish("first")
    await work.finish("train")
    assert work.started == ["first", "train", "eval"]


async def test_request_past_its_deadline_is_shed(work_on):
    work = work_on(RequestQueue(1, 100, 1000))
    await work.submit("runs")
    now = asyncio.get_running_loop().time()
    await work.submit("hurried", deadline=now + 0.05)
    with pytest.raises(DeadlineExceeded, match="in the queue"):
        await work.tasks["hurried"]
    assert work.queue.waiting == 0
    await work.finish("runs")
    assert work.started == ["runs"]
    assert work.queue.in_flight == 0


async def test_hopeless_deadline_is_shed_at_once(work_on):
    """Recent judgements took longer than the time that is left."""
    work = work_on(RequestQueue(1, 100, 1000))
    work.queue._durations.append(10 * HANG_S)
    await work.submit("runs")
    await work.submit("hurried", deadline=asyncio.get_running_loop().time() + 5 * HANG_S)
    async with asyncio.timeout(HANG_S):
        with pytest.raises(DeadlineExceeded):
            await work.tasks["hurried"]
    await work.finish("runs")


@pytest.mark.parametrize("name", ["runs", "waits"])
async def test_cancelled_request_frees_its_place(name, work_on):
    work = work_on(RequestQueue(1, 100, 1000))
    for request in ("runs", "waits", "last"):
        await work.submit(request)
    work.tasks[name].cancel()
    await settle()
    if name == "waits":
        await work.finish("runs")
    else:
        await work.finish("waits")
    assert work.started[-1] == "last"
    await work.finish("last")
    assert (work.queue.in_flight, work.queue.waiting) == (0, 0)


async def test_granted_place_survives_cancellation(work_on):
    work = work_on(RequestQueue(1, 100, 1000))
    await work.submit("runs")
    await work.submit("waits")
    work.finish_events["runs"].set()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    work.tasks["waits"].cancel()  # its place is granted, but it has not resumed yet
    await settle()
    assert work.queue.in_flight == 0


@pytest.mark.parametrize("leaves", ["shed", "cancelled"])
async def test_leaving_the_head_admits_the_next(leaves, work_on):
    """If the request at the head leaves, a smaller one behind it may fit."""
    work = work_on(RequestQueue(10, 100, 1000))
    await work.submit("runs", samples=8)
    deadline = asyncio.get_running_loop().time() + 0.1 if leaves == "shed" else None
    await work.submit("large", samples=5, deadline=deadline)
    await work.submit("small", samples=1)
    assert work.started == ["runs"]
    if leaves == "cancelled":
        work.tasks["large"].cancel()
    await asyncio.wait([work.tasks["large"]])
    await settle()
    assert work.started == ["runs", "small"]
    assert work.queue.in_flight == 9


async def test_failed_request_frees_its_place():
    queue = RequestQueue(1, 1, 1000)
    with pytest.raises(ValueError, match="judged badly"):
        async with queue.reserve(1, 0, NOBODY, "train", None):
            raise ValueError("judged badly")
    assert queue.in_flight == 0


def test_texts_that_are_here_are_bounded():
    queue = RequestQueue(1, 10, 1000)
    with queue.hold_texts(9000), pytest.raises(Overloaded), queue.hold_texts(1):
        pass
    with queue.hold_texts(4000), queue.hold_texts(4000), pytest.raises(Overloaded), queue.hold_texts(1):
        pass
    with queue.hold_texts(8000):
        pass
