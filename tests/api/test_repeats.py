"""Repeats, bursts, deadlines and clients that go away, over HTTP."""

import asyncio

import pytest

from grm_service.engines.scripted import ScriptedEngine
from tests.waiting import until

pytestmark = pytest.mark.anyio
PAIR = {"query": "Name a prime.", "responses": ["11", "12"], "k": 4}


class Gated(ScriptedEngine):
    """Answers once `gate` is open; counts what was asked and what was cancelled."""

    def __init__(self, script="content"):
        super().__init__(script)
        self.gate = asyncio.Event()
        self.asked = self.cancelled = 0

    async def complete(self, prompt, params):
        self.asked += 1
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return await super().complete(prompt, params)


@pytest.fixture
def gated(serve, monkeypatch):
    engine = Gated()
    monkeypatch.setattr("grm_service.engines.scripted.ScriptedEngine", lambda script: engine)
    return engine


async def test_two_identical_requests_at_once_are_judged_once(serve, gated):
    async with serve() as client:
        asked = [asyncio.create_task(client.post("/v1/rewards", json=PAIR)) for _ in range(2)]
        await until(lambda: gated.asked == 4)
        gated.gate.set()
        first, second = await asyncio.gather(*asked)
    assert gated.asked == 4
    assert first.json() == second.json()


async def test_a_repeat_gets_the_same_verdict_and_says_so(serve):
    async with serve() as client:
        first, second = [await client.post("/v1/rewards", json=PAIR) for _ in range(2)]
        other = await client.post("/v1/rewards", json=PAIR | {"seed": 1})
    assert first.content == second.content
    assert "idempotent-replayed" not in first.headers
    assert second.headers["idempotent-replayed"] == "true"
    assert other.json()["id"] != first.json()["id"]


async def test_a_repeat_is_judged_anew_where_replay_is_off(serve):
    async with serve(replay_s=0) as client:
        first, second = [await client.post("/v1/rewards", json=PAIR) for _ in range(2)]
    assert first.json()["id"] != second.json()["id"]


async def test_an_idempotency_key_is_one_request_s(serve):
    key = {"Idempotency-Key": "step-7"}
    async with serve() as client:
        first, second = [await client.post("/v1/rewards", json=PAIR, headers=key) for _ in range(2)]
        assert first.json()["id"] == second.json()["id"]
        refused = await client.post("/v1/rewards", json=PAIR | {"k": 2}, headers=key)
        other = await client.post("/v1/rewards", json=PAIR, headers={"Idempotency-Key": "step-8"})
    assert (refused.status_code, refused.json()["code"]) == (422, "idempotency_key_reused")
    assert other.json()["id"] != first.json()["id"]


async def test_past_the_line_s_bound_a_request_is_refused_before_any_work(serve, gated):
    async with serve(max_samples=4, max_waiting=1) as client:
        running = [
            asyncio.create_task(client.post("/v1/rewards", json=PAIR | {"seed": seed})) for seed in range(2)
        ]
        await until(lambda: gated.asked == 4 and client.service.queue.waiting == 1)
        refused = await client.post("/v1/rewards", json=PAIR | {"seed": 9})
        assert (refused.status_code, refused.json()["code"]) == (429, "overloaded")
        assert refused.json()["retryable"] is True
        assert int(refused.headers["retry-after"]) >= 1
        assert gated.asked == 4
        gated.gate.set()
        assert [(await each).status_code for each in running] == [200, 200]


async def test_waiting_counts_against_the_deadline_and_what_cannot_be_in_time_is_not_run(serve, gated):
    async with serve(max_samples=4) as client:
        running = asyncio.create_task(client.post("/v1/rewards", json=PAIR))
        await until(lambda: gated.asked == 4)
        late = await client.post("/v1/rewards", json=PAIR | {"seed": 1, "timeout_s": 0.05})
        assert (late.status_code, late.json()["code"]) == (504, "deadline_exceeded")
        gated.gate.set()
        assert (await running).status_code == 200
    assert gated.asked == 4


async def test_a_draining_server_takes_nothing_new_and_finishes_what_it_has(serve, gated):
    async with serve() as client:
        running = asyncio.create_task(client.post("/v1/rewards", json=PAIR))
        await until(lambda: gated.asked == 4)
        client.service.drain()
        for answer in (
            await client.get("/readyz"),
            await client.post("/v1/rewards", json=PAIR | {"seed": 1}),
        ):
            assert (answer.status_code, answer.json()["code"]) == (503, "draining")
        gated.gate.set()
        assert (await running).status_code == 200


async def test_a_hung_engine_holds_nobody_past_the_deadline(serve, gated):
    async with serve() as client:
        answer = await client.post("/v1/rewards", json=PAIR | {"timeout_s": 0.1})
        assert (answer.status_code, answer.json()["code"]) == (504, "deadline_exceeded")
        await until(lambda: gated.cancelled == 4)
        assert client.service.queue.in_flight == 0
