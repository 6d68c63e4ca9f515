"""Batches: bounded concurrency, results in order, failures per item."""

import asyncio
import time

import pytest

from grm_service.client import AsyncClient, Client, NoVerdict, Verdict
from tests.client.answers import Answers, problem, verdict

pytestmark = pytest.mark.anyio


def items(n):
    return [{"query": str(i), "responses": ["a", "b"]} for i in range(n)]


def echo(query):
    return verdict(rewards=[float(query), 0.5])


@pytest.mark.parametrize("n", [1000, pytest.param(10_000, marks=pytest.mark.slow)])
async def test_large_batch_is_ordered_and_bounded(n):
    answers = Answers(by_query=echo, together=32)
    async with answers as server, AsyncClient(server.url, concurrency=32) as client:
        start = time.monotonic()
        results = await client.batch(items(n), k=2)
        print(f"\n{n} items in {time.monotonic() - start:.1f} s")
    assert [result.rewards[0] for result in results] == list(map(float, range(n)))
    assert server.connections == server.max_in_flight == 32


async def test_default_concurrency_is_256():
    async with Answers(by_query=echo, together=256) as server, AsyncClient(server.url) as client:
        await client.batch(items(400))
    assert server.connections == server.max_in_flight == 256


async def test_single_calls_respect_the_bound():
    answers = Answers(by_query=echo, together=8)
    async with answers as server, AsyncClient(server.url, concurrency=8) as client:
        await asyncio.gather(*(client.rewards(str(i), ["a", "b"]) for i in range(50)))
    assert server.connections == server.max_in_flight == 8


async def test_bad_item_fails_alone():
    def judge(query):
        return problem(422, "invalid_request", retryable=False) if query == "3" else echo(query)

    batch = items(6)
    batch[1] = {"query": object(), "responses": []}
    async with Answers(by_query=judge) as server, AsyncClient(server.url) as client:
        results = await client.batch(batch)
    kinds = [result.code if isinstance(result, NoVerdict) else result.rewards[0] for result in results]
    assert kinds == [0.0, "invalid_request", 2.0, "invalid_request", 4.0, 5.0]
    assert results[3].status == 422


async def test_item_options_override_common_ones():
    async with Answers(by_query=echo) as server, AsyncClient(server.url, concurrency=1) as client:
        await client.batch([*items(1), {"query": "1", "responses": ["a", "b"], "k": 9}], k=4)
    assert b'"k": 4' in server.bodies[0]
    assert b'"k": 9' in server.bodies[1]


async def test_empty_batch_sends_nothing():
    async with Answers(by_query=echo) as server, AsyncClient(server.url) as client:
        assert await client.batch([]) == []
    assert server.connections == 0


async def test_blocking_batch():
    async with Answers(by_query=echo, together=16) as server:

        def ask():
            with Client(server.url, concurrency=16) as client:
                return client.batch(items(200))

        results = await asyncio.to_thread(ask)
    assert all(isinstance(result, Verdict) for result in results)
    assert [result.rewards[0] for result in results] == list(map(float, range(200)))
    assert server.connections == server.max_in_flight == 16
