"""SingleFlight: concurrent calls share the work, and its result is replayed for a while."""

import asyncio

import pytest

from grm_service import cache
from grm_service.cache import ByteCache, memory_size
from grm_service.errors import DeadlineExceeded, EngineError, KeyReused
from grm_service.serving.single_flight import SingleFlight
from tests.waiting import settle

pytestmark = pytest.mark.anyio


class Work:
    """Counts its runs, and waits for `go`."""

    def __init__(self, error=None):
        self.started = self.cancelled = 0
        self.go, self.error = asyncio.Event(), error

    async def __call__(self):
        self.started += 1
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error:
            raise self.error
        return f"result {self.started}"


def start_calls(single_flight, work, n, key="key", body="body"):
    return [asyncio.create_task(single_flight.run(key, body, work)) for _ in range(n)]


async def test_concurrent_calls_share_the_work():
    single_flight, work = SingleFlight(ByteCache(2**20, 60)), Work()
    calls = start_calls(single_flight, work, 3)
    await settle()
    work.go.set()
    assert await asyncio.gather(*calls) == [("result 1", "miss"), ("result 1", "join"), ("result 1", "join")]
    assert work.started == 1


async def test_results_expire(monkeypatch):
    single_flight, work = SingleFlight(ByteCache(2**20, 60)), Work()
    work.go.set()
    assert await single_flight.run("key", "body", work) == ("result 1", "miss")
    assert await single_flight.run("key", "body", work) == ("result 1", "hit")
    later = cache.time.monotonic() + 61
    monkeypatch.setattr(cache.time, "monotonic", lambda: later)
    assert await single_flight.run("key", "body", work) == ("result 2", "miss")


async def test_oldest_results_are_evicted():
    single_flight, work = SingleFlight(ByteCache(2 * memory_size("result 1"), 60)), Work()
    work.go.set()
    for key in "abcd":
        await single_flight.run(key, "body", work)
    reuse = [(await single_flight.run(key, "body", work))[1] for key in "da"]
    assert reuse == ["hit", "miss"]


async def test_key_with_another_body_is_refused():
    single_flight, work = SingleFlight(ByteCache(2**20, 60)), Work()
    first = start_calls(single_flight, work, 1)
    await settle()
    with pytest.raises(KeyReused):
        await single_flight.run("key", "another", work)
    work.go.set()
    await asyncio.gather(*first)
    with pytest.raises(KeyReused):
        await single_flight.run("key", "another", work)


async def test_work_continues_while_a_caller_waits():
    single_flight, work = SingleFlight(ByteCache(2**20, 60)), Work()
    first, second = start_calls(single_flight, work, 2)
    await settle()
    first.cancel()
    await settle()
    work.go.set()
    assert await second == ("result 1", "join")
    assert work.cancelled == 0


async def test_abandoned_work_is_cancelled_and_restarted():
    single_flight, work = SingleFlight(ByteCache(2**20, 60)), Work()
    calls = start_calls(single_flight, work, 2)
    await settle()
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    repeat = start_calls(single_flight, work, 1)
    await settle()
    assert (work.started, work.cancelled) == (2, 1)
    work.go.set()
    assert await repeat[0] == ("result 2", "miss")


async def test_joining_cancelled_work_begins_anew():
    """Work that is still cleaning up after its last caller is not joined."""
    single_flight, slow_end = SingleFlight(ByteCache(2**20, 60)), asyncio.Event()
    work = Work()

    async def slow_to_end():
        try:
            return await work()
        except asyncio.CancelledError:
            await slow_end.wait()
            raise

    leaving = start_calls(single_flight, slow_to_end, 1)[0]
    await settle()
    leaving.cancel()
    await settle()
    assert not leaving.done(), "the caller's place is held until the work has ended"
    anew = start_calls(single_flight, work, 1)[0]
    work.go.set()
    assert await anew == ("result 2", "miss")
    slow_end.set()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert await single_flight.run("key", "body", work) == ("result 2", "hit")


async def test_failure_is_shared_but_not_cached():
    single_flight, work = SingleFlight(ByteCache(2**20, 60)), Work(EngineError("no memory"))
    calls = start_calls(single_flight, work, 2)
    await settle()
    work.go.set()
    for error in await asyncio.gather(*calls, return_exceptions=True):
        assert isinstance(error, EngineError)
    work.error = None
    assert await single_flight.run("key", "body", work) == ("result 2", "miss")


async def test_who_joined_has_its_own_time():
    single_flight, late, work = SingleFlight(ByteCache(2**20, 60)), Work(DeadlineExceeded("late")), Work()
    (first,) = start_calls(single_flight, late, 1)
    await settle()
    joined = start_calls(single_flight, work, 2)
    await settle()
    late.go.set()
    work.go.set()
    assert await asyncio.gather(*joined) == [("result 1", "miss"), ("result 1", "join")]
    with pytest.raises(DeadlineExceeded):
        await first
