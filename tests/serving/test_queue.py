"""The waiting line: bounded, fair between callers, and nobody is run too late."""

import asyncio

import pytest

from grm_service.errors import DeadlineExceeded, Overloaded
from grm_service.serving.queue import RequestQueue
from grm_service.types import NOBODY, Caller
from tests.waiting import settle

pytestmark = pytest.mark.anyio
HEAVY, LIGHT = Caller("heavy"), Caller("light")


class Work:
    """Requests that hold their place until they are told to end."""

    def __init__(self, line):
        self.line, self.begun, self.ends, self.tasks = line, [], {}, {}

    async def ask(self, name, samples=1, caller=NOBODY, priority="train", deadline=None):
        self.ends[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(self._hold(name, samples, caller, priority, deadline))
        await settle()

    async def _hold(self, name, *how):
        async with self.line.reserve(*how):
            self.begun.append(name)
            await self.ends[name].wait()

    async def end(self, name):
        self.ends[name].set()
        await self.tasks[name]
        await settle()

    async def drop(self):
        for task in self.tasks.values():
            task.cancel()
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)


@pytest.fixture
async def on():
    """Makes the work on a line, and leaves nothing of it behind."""
    made = []

    def _on(line):
        made.append(Work(line))
        return made[-1]

    yield _on
    for work in made:
        await work.drop()


async def test_no_more_samples_run_than_there_is_room_for(on):
    work = on(RequestQueue(8, 10))
    for name in "abc":
        await work.ask(name, samples=4)
    assert work.begun == ["a", "b"]
    assert (work.line.in_flight, work.line.waiting) == (8, 1)
    await work.end("a")
    assert work.begun == ["a", "b", "c"]


async def test_a_request_larger_than_the_room_runs_alone(on):
    work = on(RequestQueue(8, 10))
    await work.ask("small")
    await work.ask("large", samples=64)
    assert work.begun == ["small"]
    await work.end("small")
    await work.ask("late")
    assert work.begun == ["small", "large"]
    await work.end("large")
    assert work.begun == ["small", "large", "late"]


async def test_a_full_line_refuses_at_once_and_says_when_to_come_back(on):
    work = on(RequestQueue(1, 1))
    await work.ask("runs")
    await work.ask("waits")
    with pytest.raises(Overloaded, match="1 requests wait already") as refused:
        async with work.line.reserve(1, NOBODY, "train", None):
            pytest.fail("no place was free")
    assert 1 <= refused.value.retry_after_s <= 60
    await work.end("runs")
    assert work.begun == ["runs", "waits"]


async def test_a_burst_of_one_caller_does_not_hold_up_another(on):
    work = on(RequestQueue(1, 100))
    for i in range(6):
        await work.ask(f"h{i}", caller=HEAVY)
    for i in range(2):
        await work.ask(f"l{i}", caller=LIGHT)
    for _ in range(5):
        await work.end(work.begun[-1])
    assert work.begun == ["h0", "l0", "h1", "l1", "h2", "h3"]


async def test_a_caller_of_twice_the_weight_gets_twice_as_much(on):
    work = on(RequestQueue(1, 100))
    await work.ask("first")
    for i in range(9):
        await work.ask(f"double{i}", caller=Caller("double", 2.0))
        await work.ask(f"single{i}", caller=Caller("single", 1.0))
    for _ in range(9):
        await work.end(work.begun[-1])
    assert sum(name.startswith("double") for name in work.begun[1:10]) == 6


async def test_train_is_served_before_eval(on):
    work = on(RequestQueue(1, 100))
    await work.ask("first")
    await work.ask("eval", priority="eval")
    await work.ask("train")
    await work.end("first")
    await work.end("train")
    assert work.begun == ["first", "train", "eval"]


async def test_who_cannot_be_served_in_time_is_shed_and_never_run(on):
    work = on(RequestQueue(1, 100))
    await work.ask("runs")
    now = asyncio.get_running_loop().time()
    await work.ask("hurried", deadline=now + 0.05)
    with pytest.raises(DeadlineExceeded, match="in the queue"):
        await work.tasks["hurried"]
    assert work.line.waiting == 0
    await work.end("runs")
    assert work.begun == ["runs"]
    assert work.line.in_flight == 0


async def test_a_deadline_nearer_than_any_judgement_of_late_is_shed_at_once(on):
    work = on(RequestQueue(1, 100))
    await work.ask("slow")
    await asyncio.sleep(0.2)
    await work.end("slow")
    await work.ask("runs")
    loop = asyncio.get_running_loop()
    began = loop.time()
    await work.ask("hurried", deadline=began + 0.15)
    with pytest.raises(DeadlineExceeded):
        await work.tasks["hurried"]
    assert loop.time() - began < 0.1
    await work.end("runs")


@pytest.mark.parametrize("name", ["runs", "waits"])
async def test_who_goes_away_leaves_the_place_to_the_next(name, on):
    work = on(RequestQueue(1, 100))
    for each in ("runs", "waits", "last"):
        await work.ask(each)
    work.tasks[name].cancel()
    await settle()
    if name == "waits":
        await work.end("runs")
    else:
        await work.end("waits")
    assert work.begun[-1] == "last"
    await work.end("last")
    assert (work.line.in_flight, work.line.waiting) == (0, 0)


async def test_a_place_that_was_granted_to_a_caller_who_left_is_not_lost(on):
    work = on(RequestQueue(1, 100))
    await work.ask("runs")
    await work.ask("waits")
    work.ends["runs"].set()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    work.tasks["waits"].cancel()  # granted, and not yet awake
    await settle()
    assert work.line.in_flight == 0


@pytest.mark.parametrize("leaves", ["shed", "cancelled"])
async def test_who_leaves_the_head_of_the_line_lets_in_whoever_fits(leaves, on):
    work = on(RequestQueue(10, 100))
    await work.ask("runs", samples=8)
    until = asyncio.get_running_loop().time() + 0.1 if leaves == "shed" else None
    await work.ask("large", samples=5, deadline=until)
    await work.ask("small", samples=1)
    assert work.begun == ["runs"]
    if leaves == "cancelled":
        work.tasks["large"].cancel()
    await asyncio.wait([work.tasks["large"]])
    await settle()
    assert work.begun == ["runs", "small"]
    assert work.line.in_flight == 9


async def test_what_fails_gives_its_place_back():
    line = RequestQueue(1, 1)
    with pytest.raises(ValueError, match="judged badly"):
        async with line.reserve(1, NOBODY, "train", None):
            raise ValueError("judged badly")
    assert line.in_flight == 0
