"""SingleFlight: concurrent calls share the work, and its result is replayed for a while."""

import asyncio

import pytest

from grm_service.errors import EngineError, KeyReused
from grm_service.serving import single_flight as module
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
    single_flight, work = SingleFlight(60, 10), Work()
    calls = start_calls(single_flight, work, 3)
    await settle()
    work.go.set()
    assert await asyncio.gather(*calls) == [("result 1", "miss"), ("result 1", "join"), ("result 1", "join")]
    assert work.started == 1


async def test_results_expire(monkeypatch):
    single_flight, work = SingleFlight(60, 10), Work()
    work.go.set()
    assert await single_flight.run("key", "body", work) == ("result 1", "miss")
    assert await single_flight.run("key", "body", work) == ("result 1", "hit")
    later = module.time.monotonic() + 61
    monkeypatch.setattr(module.time, "monotonic", lambda: later)
    assert await single_flight.run("key", "body", work) == ("result 2", "miss")


async def test_oldest_results_are_evicted():
    single_flight, work = SingleFlight(60, 2), Work()
    work.go.set()
    for key in "abcd":
        await single_flight.run(key, "body", work)
    reuse = [(await single_flight.run(key, "body", work))[1] for key in "da"]
    assert reuse == ["hit", "miss"]


async def test_key_with_another_body_is_refused():
    single_flight, work = SingleFlight(60, 10), Work()
    first = start_calls(single_flight, work, 1)
    await settle()
    with pytest.raises(KeyReused):
        await single_flight.run("key", "another", work)
    work.go.set()
    await asyncio.gather(*first)
    with pytest.raises(KeyReused):
        await single_flight.run("key", "another", work)


async def test_work_continues_while_a_caller_waits():
    single_flight, work = SingleFlight(60, 10), Work()
    first, second = start_calls(single_flight, work, 2)
    await settle()
    first.cancel()
    await settle()
    work.go.set()
    assert await second == ("result 1", "join")
    assert work.cancelled == 0


async def test_abandoned_work_is_cancelled_and_restarted():
    single_flight, work = SingleFlight(60, 10), Work()
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


async def test_failure_is_shared_but_not_cached():
    single_flight, work = SingleFlight(60, 10), Work(EngineError("no memory"))
    calls = start_calls(single_flight, work, 2)
    await settle()
    work.go.set()
    for error in await asyncio.gather(*calls, return_exceptions=True):
        assert isinstance(error, EngineError)
    work.error = None
    assert await single_flight.run("key", "body", work) == ("result 2", "miss")
