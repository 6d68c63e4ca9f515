"""Repeated requests, a full queue, deadlines and draining, over HTTP."""

import asyncio

import pytest

from tests.waiting import until

pytestmark = pytest.mark.anyio
PAIR = {"query": "Name a prime.", "responses": ["11", "12"], "k": 4}


async def test_concurrent_duplicates_are_judged_once(serve, gated_engine):
    async with serve() as client:
        requests = [asyncio.create_task(client.post("/v1/rewards", json=PAIR)) for _ in range(2)]
        await until(lambda: gated_engine.calls == 4)
        gated_engine.gate.set()
        first, second = await asyncio.gather(*requests)
    assert gated_engine.calls == 4
    assert first.json() == second.json()


async def test_repeat_is_replayed(serve):
    async with serve() as client:
        first, second = [await client.post("/v1/rewards", json=PAIR) for _ in range(2)]
        other = await client.post("/v1/rewards", json=PAIR | {"seed": 1})
    assert first.content == second.content
    assert "idempotent-replayed" not in first.headers
    assert second.headers["idempotent-replayed"] == "true"
    assert other.json()["id"] != first.json()["id"]


async def test_replay_can_be_disabled(serve):
    async with serve(replay_s=0) as client:
        first, second = [await client.post("/v1/rewards", json=PAIR) for _ in range(2)]
    assert first.json()["id"] != second.json()["id"]


async def test_idempotency_key_identifies_one_request(serve):
    key = {"Idempotency-Key": "step-7"}
    async with serve() as client:
        first, second = [await client.post("/v1/rewards", json=PAIR, headers=key) for _ in range(2)]
        assert first.json()["id"] == second.json()["id"]
        refused = await client.post("/v1/rewards", json=PAIR | {"k": 2}, headers=key)
        other = await client.post("/v1/rewards", json=PAIR, headers={"Idempotency-Key": "step-8"})
    assert (refused.status_code, refused.json()["code"]) == (422, "idempotency_key_reused")
    assert other.json()["id"] != first.json()["id"]


async def test_full_queue_refuses_before_any_work(serve, gated_engine):
    async with serve(max_samples=4, max_waiting=1) as client:
        running = [
            asyncio.create_task(client.post("/v1/rewards", json=PAIR | {"seed": seed})) for seed in range(2)
        ]
        await until(lambda: gated_engine.calls == 4 and client.service.queue.waiting == 1)
        refused = await client.post("/v1/rewards", json=PAIR | {"seed": 9})
        assert (refused.status_code, refused.json()["code"]) == (429, "overloaded")
        assert refused.json()["retryable"] is True
        assert int(refused.headers["retry-after"]) >= 1
        assert gated_engine.calls == 4
        gated_engine.gate.set()
        assert [(await task).status_code for task in running] == [200, 200]


async def test_waiting_counts_against_the_deadline(serve, gated_engine):
    """A request that cannot meet its deadline is not run."""
    async with serve(max_samples=4) as client:
        running = asyncio.create_task(client.post("/v1/rewards", json=PAIR))
        await until(lambda: gated_engine.calls == 4)
        late = await client.post("/v1/rewards", json=PAIR | {"seed": 1, "timeout_s": 0.05})
        assert (late.status_code, late.json()["code"]) == (504, "deadline_exceeded")
        gated_engine.gate.set()
        assert (await running).status_code == 200
    assert gated_engine.calls == 4


async def test_draining_server_finishes_running_requests(serve, gated_engine):
    """It refuses new ones."""
    async with serve() as client:
        running = asyncio.create_task(client.post("/v1/rewards", json=PAIR))
        await until(lambda: gated_engine.calls == 4)
        client.service.drain()
        for reply in (
            await client.get("/readyz"),
            await client.post("/v1/rewards", json=PAIR | {"seed": 1}),
        ):
            assert (reply.status_code, reply.json()["code"]) == (503, "draining")
        gated_engine.gate.set()
        assert (await running).status_code == 200


async def test_hung_engine_respects_the_deadline(serve, gated_engine):
    async with serve() as client:
        reply = await client.post("/v1/rewards", json=PAIR | {"timeout_s": 0.1})
        assert (reply.status_code, reply.json()["code"]) == (504, "deadline_exceeded")
        await until(lambda: gated_engine.cancelled == 4)
        assert client.service.queue.in_flight == 0
