"""The same work is done once, for all who ask, and its result is given again for a while."""

import asyncio

import pytest

from grm_service.errors import EngineError, KeyReused
from grm_service.serving import single_flight as module
from grm_service.serving.single_flight import SingleFlight
from tests.waiting import settle

pytestmark = pytest.mark.anyio


class Work:
    """Counts how often it is done, and waits for `go`."""

    def __init__(self, error=None):
        self.begun = self.cancelled = 0
        self.go, self.error = asyncio.Event(), error

    async def __call__(self):
        self.begun += 1
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error:
            raise self.error
        return f"result {self.begun}"


def asks(flights, work, n, key="key", body="body"):
    return [asyncio.create_task(flights.run(key, body, work)) for _ in range(n)]


async def test_those_who_ask_at_once_share_one_piece_of_work():
    flights, work = SingleFlight(60, 10), Work()
    asked = asks(flights, work, 3)
    await settle()
    work.go.set()
    assert await asyncio.gather(*asked) == [("result 1", "miss"), ("result 1", "join"), ("result 1", "join")]
    assert work.begun == 1


async def test_a_repeat_gets_the_same_result_until_it_is_too_old(monkeypatch):
    flights, work = SingleFlight(60, 10), Work()
    work.go.set()
    assert await flights.run("key", "body", work) == ("result 1", "miss")
    assert await flights.run("key", "body", work) == ("result 1", "hit")
    later = module.time.monotonic() + 61
    monkeypatch.setattr(module.time, "monotonic", lambda: later)
    assert await flights.run("key", "body", work) == ("result 2", "miss")


async def test_only_so_many_results_are_kept_and_the_oldest_go_first():
    flights, work = SingleFlight(60, 2), Work()
    work.go.set()
    for key in "abcd":
        await flights.run(key, "body", work)
    hows = [(await flights.run(key, "body", work))[1] for key in "da"]
    assert hows == ["hit", "miss"]


async def test_a_key_with_another_body_is_refused():
    flights, work = SingleFlight(60, 10), Work()
    first = asks(flights, work, 1)
    await settle()
    with pytest.raises(KeyReused):
        await flights.run("key", "another", work)
    work.go.set()
    await asyncio.gather(*first)
    with pytest.raises(KeyReused):
        await flights.run("key", "another", work)


async def test_work_goes_on_while_anybody_waits_for_it():
    flights, work = SingleFlight(60, 10), Work()
    first, second = asks(flights, work, 2)
    await settle()
    first.cancel()
    await settle()
    work.go.set()
    assert await second == ("result 1", "join")
    assert work.cancelled == 0


async def test_work_that_nobody_waits_for_is_cancelled_and_begun_anew_for_the_next():
    flights, work = SingleFlight(60, 10), Work()
    asked = asks(flights, work, 2)
    await settle()
    for each in asked:
        each.cancel()
    await asyncio.gather(*asked, return_exceptions=True)
    again = asks(flights, work, 1)
    await settle()
    assert (work.begun, work.cancelled) == (2, 1)
    work.go.set()
    assert await again[0] == ("result 2", "miss")


async def test_a_failure_is_told_to_all_and_not_kept():
    flights, work = SingleFlight(60, 10), Work(EngineError("no memory"))
    asked = asks(flights, work, 2)
    await settle()
    work.go.set()
    for failed in await asyncio.gather(*asked, return_exceptions=True):
        assert isinstance(failed, EngineError)
    work.error = None
    assert await flights.run("key", "body", work) == ("result 2", "miss")
