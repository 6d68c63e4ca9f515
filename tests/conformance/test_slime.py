"""slime's remote_rm, by a client written from its description (docs/rl-loops.md): it has no package."""

import asyncio
import contextlib
import itertools
import random

import aiohttp
import pytest

from tests.conformance.wheels import FastClock
from tests.faults.test_faults import metric

pytestmark = [pytest.mark.anyio, pytest.mark.conformance]
NAME = "slime, from its description"
QUERY = "Name a prime."
ANSWERS = ["11", "twelve", "13", "a prime is a number"]


@contextlib.asynccontextmanager
async def client(url, clock=asyncio):
    """A client with 64 connections, a timeout of 120 s and ten tries after any error."""
    connector, timeout = aiohttp.TCPConnector(limit=64), aiohttp.ClientTimeout(total=120)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:

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


async def test_samples_form_a_group(url, native, report):
    async with client(f"{url}/slime?k=4&group=4") as reward:
        rewards = await asyncio.gather(*(reward(QUERY, answer) for answer in ANSWERS))
    assert rewards == pytest.approx(await native.rewards(QUERY, ANSWERS, reference="11"))
    report(NAME, "/slime", "a group", "4 calls, 1 verdict")


async def test_full_queue_holds_the_request(crowded, report):
    async with client(f"{crowded.client.base_url}/slime?k=2&window_s=0") as reward:
        assert 1 <= await reward(QUERY, "11") <= 10
    assert await crowded.replies("/slime", 200) == 1
    assert await crowded.refused() >= 1
    report(NAME, "/slime", "full queue", "held: 1 call, then its reward")


async def test_unreadable_samples_end_the_rollout(url, native, report):
    clock = FastClock()
    async with client(f"{url}/slime?k=2&window_s=0", clock) as reward:
        with pytest.raises(aiohttp.ClientResponseError):
            await reward("please garbage", "11")
    assert len(clock.pauses) == 9
    assert await native.replies("/slime", 502) == 10
    report(NAME, "/slime", "unreadable", "502, 10 tries, then raises: the rollout ends")


async def test_64_connections_split_large_steps(url, native):
    samples = [(f"Prompt {i}", f"Response {j}") for i in range(32) for j in range(8)]
    random.Random(0).shuffle(samples)
    before = await metric(native.client, 'grm_rendezvous_total{outcome="complete",route="slime"}')
    async with client(f"{url}/slime?k=1&group=8&window_s=0.3") as reward:
        rewards = await asyncio.gather(*(reward(*sample) for sample in samples))
    assert all(1 <= reward <= 10 for reward in rewards)
    complete = await metric(native.client, 'grm_rendezvous_total{outcome="complete",route="slime"}')
    assert complete - before < 32, "slime no longer splits groups: update docs/rl-loops.md"
