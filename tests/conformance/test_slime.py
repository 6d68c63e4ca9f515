"""slime's remote_rm, by a client written to its description (docs/rl-loops.md): it is in no package."""

import asyncio
import contextlib
import itertools
import random

import aiohttp
import pytest

from tests.conformance.wheels import Hurried
from tests.faults.test_faults import metric

pytestmark = [pytest.mark.anyio, pytest.mark.conformance]
NAME = "slime, by its description"
QUERY = "Name a prime."
ANSWERS = ["11", "twelve", "13", "a prime is a number"]


@contextlib.asynccontextmanager
async def client(url, clock=asyncio):
    """Sends a sample and reads its reward: 64 connections, 120 s, ten tries of whatever fails."""
    connections, patience = aiohttp.TCPConnector(limit=64), aiohttp.ClientTimeout(total=120)
    async with aiohttp.ClientSession(connector=connections, timeout=patience) as session:

        async def reward(prompt, response, label="11"):
            body = {"prompt": prompt, "response": response, "label": label}
            for tries in itertools.count():
                try:
                    async with session.post(url, json=body) as reply:
                        reply.raise_for_status()
                        return await reply.json()
                except Exception:
                    if tries == 9:
                        raise
                    await clock.sleep(min(2**tries, 30) + random.random())
            raise AssertionError("not reached")

        yield reward


async def test_a_prompts_samples_are_judged_as_a_group(url, native, told):
    async with client(f"{url}/slime?k=4&group=4") as reward:
        found = await asyncio.gather(*(reward(QUERY, answer) for answer in ANSWERS))
    assert found == pytest.approx(await native.rewards(QUERY, ANSWERS, reference="11"))
    told(NAME, "/slime", "a group", "4 calls, 1 verdict")


async def test_it_is_held_while_the_line_is_full(crowded, told):
    async with client(f"{crowded.client.base_url}/slime?k=2&window_s=0") as reward:
        assert 1 <= await reward(QUERY, "11") <= 10
    assert await crowded.answered("/slime", 200) == 1
    assert await crowded.refused() >= 1
    told(NAME, "/slime", "a full line", "held: 1 call, then its reward")


async def test_what_nobody_could_read_ends_the_rollout(url, native, told):
    clock = Hurried()
    async with client(f"{url}/slime?k=2&window_s=0", clock) as reward:
        with pytest.raises(aiohttp.ClientResponseError):
            await reward("please garbage", "11")
    assert len(clock.pauses) == 9
    assert await native.answered("/slime", 502) == 10
    told(NAME, "/slime", "nobody can read it", "502, asked 10 times, then raises: the rollout ends")


async def test_64_connections_split_the_groups_of_a_large_step_and_stop_nothing(url, native):
    samples = [(f"Prompt {i}", f"Response {j}") for i in range(32) for j in range(8)]
    random.Random(0).shuffle(samples)
    before = await metric(native.client, 'grm_rendezvous_total{outcome="complete",route="slime"}')
    async with client(f"{url}/slime?k=1&group=8&window_s=0.3") as reward:
        found = await asyncio.gather(*(reward(*sample) for sample in samples))
    assert all(1 <= each <= 10 for each in found)
    complete = await metric(native.client, 'grm_rendezvous_total{outcome="complete",route="slime"}')
    assert complete - before < 32, "then this client no longer stalls, and the document can say so"
