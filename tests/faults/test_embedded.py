"""The same faults with a real model in a real engine: SmolLM2-135M on OpenVINO."""

import asyncio
import contextlib
import signal
import time
from collections import Counter

import httpx
import psutil
import pytest

from tests.faults.test_faults import body, leave_at_every_stage, metric, served, until_nothing_is_generated

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.slow,
    pytest.mark.timeout(280),
    pytest.mark.usefixtures("smollm"),
]
SHORT = {"k": 1, "max_tokens": 16, "detail": "samples"}
LONG = {"k": 8, "max_tokens": 2000}


@pytest.fixture
async def embedded():
    """A client of a real service, its process and its engine's."""
    with served("--embedded") as (url, process):
        async with httpx.AsyncClient(base_url=url, timeout=120) as client:
            yield client, process, engine_of(process)


def engine_of(process):
    (engine,) = psutil.Process(process.pid).children()
    return engine


async def answer(client, **more):
    """To a question that is always the same, but for what does not matter to the judging."""
    return await client.post("/v1/rewards", json=body("What is 2 + 2?", **SHORT | more))


async def begun(client, *asked):
    """Requests that the engine is generating for."""
    running = [asyncio.create_task(client.post("/v1/rewards", json=each)) for each in asked]
    async with asyncio.timeout(30):
        while not await metric(client, "grm_samples_in_flight"):
            await asyncio.sleep(0.05)
    await asyncio.sleep(0.5)
    return running


async def test_an_engine_killed_in_the_middle_fails_what_was_in_it_and_comes_back(embedded):
    client, _, engine = embedded
    right = (await answer(client)).json()
    running = await begun(client, *(body(f"q {i}", **LONG) for i in range(3)))
    began = time.monotonic()
    engine.kill()
    failed = await asyncio.gather(*running)
    assert {(a.status_code, a.json()["code"]) for a in failed} == {(502, "engine_failed")}
    told = time.monotonic() - began
    async with asyncio.timeout(60):
        while (await client.get("/readyz")).status_code != 200:
            await asyncio.sleep(0.05)
    back = time.monotonic() - began
    print(f"\nembedded engine killed: told after {told:.2f} s, ready again after {back:.1f} s")
    assert (await answer(client, timeout_s=60)).json()["samples"] == right["samples"]


async def test_an_engine_that_hangs_holds_nobody_past_the_deadline_and_serves_again(embedded):
    client, _, engine = embedded
    right = (await answer(client)).json()
    engine.suspend()
    began = time.monotonic()
    late = await asyncio.gather(*(answer(client, seed=seed, timeout_s=2) for seed in range(1, 9)))
    took = time.monotonic() - began
    engine.resume()
    assert {(a.status_code, a.json()["code"]) for a in late} == {(504, "deadline_exceeded")}
    assert took < 4
    print(f"\nembedded engine hanging: 8 deadlines of 2 s met in {took:.2f} s")
    assert (await answer(client, timeout_s=60)).json()["samples"] == right["samples"]


async def test_clients_that_leave_at_any_stage_leave_an_idle_engine(embedded):
    client, _, engine = embedded
    await leave_at_every_stage(str(client.base_url).rstrip("/"), body("Tell me a long story.", **LONG))
    await until_nothing_is_generated(client)
    cancelled = await metric(client, 'grm_samples_total{outcome="cancelled"}')
    assert cancelled == 5 * LONG["k"]
    began = time.monotonic()
    async with asyncio.timeout(20):
        while await busy(engine) > 0.1:
            pass
    idle = time.monotonic() - began
    print(f"\nembedded, clients left: {cancelled:.0f} samples cancelled, the engine idle {idle:.1f} s later")
    assert (await answer(client)).status_code == 200


async def busy(engine):
    """The share of a core that a process takes."""
    before = sum(engine.cpu_times()[:2])
    await asyncio.sleep(0.5)
    return (sum(engine.cpu_times()[:2]) - before) / 0.5


async def test_sigterm_under_load_ends_in_answers_and_clear_errors(embedded):
    client, process, engine = embedded
    short = [body(f"q {i}", **SHORT) for i in range(4)]
    running = await begun(client, *short, *(body(f"q {i}", **LONG) for i in range(4)))
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    answers = await asyncio.gather(*running)
    assert await asyncio.to_thread(process.wait, 30) == 0
    outcomes = Counter((a.status_code, a.json().get("code")) for a in answers)
    print(f"\nembedded SIGTERM: {dict(outcomes)}, exit 0 after {time.monotonic() - began:.1f} s")
    assert outcomes.keys() <= {(200, None), (503, "draining")}
    assert outcomes[503, "draining"] >= 1  # what takes minutes
    assert not engine.is_running()


async def test_killed_outright_it_leaves_no_engine_behind_and_starts_again(embedded):
    client, process, engine = embedded
    right = (await answer(client)).json()
    running = await begun(client, body("q", **LONG))
    began = time.monotonic()
    process.kill()
    assert await asyncio.to_thread(psutil.wait_procs, [engine], 30) == ([engine], [])
    print(f"\nembedded service killed: its engine gone after {time.monotonic() - began:.2f} s")
    with contextlib.suppress(httpx.HTTPError):
        await running[0]
    with served("--embedded") as (url, _):
        async with httpx.AsyncClient(base_url=url, timeout=120) as again:
            assert (await answer(again)).json()["samples"] == right["samples"]


async def test_memory_is_flat_once_the_engines_cache_is_full(monkeypatch):
    monkeypatch.setenv("GRM_KV_CACHE_GB", "0.25")  # room for what is asked at once, full after some bursts
    sizes = []
    with served("--embedded") as (url, process):
        both = (psutil.Process(process.pid), engine_of(process))
        async with httpx.AsyncClient(base_url=url, timeout=120) as client:
            for turn in range(10):
                asked = (body(f"Question {turn}.{i}?", **SHORT | {"k": 2}) for i in range(6))
                answers = await asyncio.gather(*(client.post("/v1/rewards", json=each) for each in asked))
                assert {a.status_code for a in answers} == {200}
                sizes.append(sum(each.memory_info().rss for each in both) / 2**20)
    shown = ", ".join(f"{size:.0f}" for size in sizes)
    print(f"\nembedded, service and engine after each burst of 6 requests, MiB: {shown}")
    assert sizes[-1] - sizes[4] < 50
