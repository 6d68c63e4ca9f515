"""The same faults with a real model and engine: SmolLM2-135M on OpenVINO."""

import asyncio
import contextlib
import signal
import time
from collections import Counter

import httpx
import psutil
import pytest

from tests.faults.test_faults import body, disconnect_at_every_stage, metric, served, until_idle
from tests.waiting import HANG_S

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
    """A client of a real service, the service process and the engine process."""
    with served("--embedded") as (url, process):
        async with httpx.AsyncClient(base_url=url, timeout=120) as client:
            yield client, process, engine_process(process)


def engine_process(process):
    (engine,) = psutil.Process(process.pid).children()
    return engine


async def judge(client, **fields):
    """Post a fixed request; `fields` must not affect the judgement."""
    return await client.post("/v1/rewards", json=body("What is 2 + 2?", **SHORT | fields))


async def start_requests(client, *requests):
    """Start requests and return them once the engine generates for them."""
    running = [asyncio.create_task(client.post("/v1/rewards", json=request)) for request in requests]
    async with asyncio.timeout(HANG_S):
        while not await metric(client, "grm_samples_in_flight"):
            await asyncio.sleep(0.05)
    await asyncio.sleep(0.5)
    return running


async def test_engine_kill_and_recovery(embedded):
    """A kill fails the requests in the engine, and the engine comes back."""
    client, _, engine = embedded
    right = (await judge(client)).json()
    running = await start_requests(client, *(body(f"q {i}", **LONG) for i in range(3)))
    began = time.monotonic()
    engine.kill()
    failed = await asyncio.gather(*running)
    assert {(a.status_code, a.json()["code"]) for a in failed} == {(502, "engine_failed")}
    failed_s = time.monotonic() - began
    async with asyncio.timeout(HANG_S):
        while (await client.get("/readyz")).status_code != 200:
            await asyncio.sleep(0.05)
    ready_s = time.monotonic() - began
    print(
        f"\nembedded engine killed: requests failed after {failed_s:.2f} s, ready again after {ready_s:.1f} s"
    )
    assert (await judge(client, timeout_s=60)).json()["samples"] == right["samples"]


async def test_hanging_engine_meets_deadlines(embedded):
    client, _, engine = embedded
    right = (await judge(client)).json()
    engine.suspend()
    began = time.monotonic()
    late = await asyncio.gather(*(judge(client, seed=seed, timeout_s=2) for seed in range(1, 9)))
    elapsed = time.monotonic() - began
    engine.resume()
    assert {(a.status_code, a.json()["code"]) for a in late} == {(504, "deadline_exceeded")}
    assert elapsed < HANG_S
    print(f"\nembedded engine hanging: 8 deadlines of 2 s met in {elapsed:.2f} s")
    assert (await judge(client, timeout_s=60)).json()["samples"] == right["samples"]


async def test_disconnects_leave_an_idle_engine(embedded):
    client, _, engine = embedded
    await disconnect_at_every_stage(str(client.base_url).rstrip("/"), body("Tell me a long story.", **LONG))
    await until_idle(client)
    cancelled = await metric(client, 'grm_samples_total{outcome="cancelled"}')
    assert cancelled == 5 * LONG["k"]
    began = time.monotonic()
    async with asyncio.timeout(HANG_S):
        while await cpu_share(engine) > 0.1:
            pass
    idle = time.monotonic() - began
    print(
        f"\nembedded, clients disconnected: {cancelled:.0f} samples cancelled, engine idle {idle:.1f} s later"
    )
    assert (await judge(client)).status_code == 200


async def cpu_share(engine):
    """Return the share of a core that a process uses."""
    before = sum(engine.cpu_times()[:2])
    await asyncio.sleep(0.5)
    return (sum(engine.cpu_times()[:2]) - before) / 0.5


async def test_sigterm_under_load(embedded):
    """Every request ends in an answer or a clear error."""
    client, process, engine = embedded
    short = [body(f"q {i}", **SHORT) for i in range(4)]
    running = await start_requests(client, *short, *(body(f"q {i}", **LONG) for i in range(4)))
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    answers = await asyncio.gather(*running)
    assert await asyncio.to_thread(process.wait, HANG_S) == 0
    outcomes = Counter((a.status_code, a.json().get("code")) for a in answers)
    print(f"\nembedded SIGTERM: {dict(outcomes)}, exit 0 after {time.monotonic() - began:.1f} s")
    assert outcomes.keys() <= {(200, None), (503, "draining")}
    assert outcomes[503, "draining"] >= 1  # the long ones take minutes
    assert not engine.is_running()


async def test_sigkill_leaves_no_engine(embedded):
    """The engine process ends with the server, which can start again."""
    client, process, engine = embedded
    right = (await judge(client)).json()
    running = await start_requests(client, body("q", **LONG))
    began = time.monotonic()
    process.kill()
    assert await asyncio.to_thread(psutil.wait_procs, [engine], 30) == ([engine], [])
    print(f"\nembedded service killed: engine process gone after {time.monotonic() - began:.2f} s")
    with contextlib.suppress(httpx.HTTPError):
        await running[0]
    with served("--embedded") as (url, _):
        async with httpx.AsyncClient(base_url=url, timeout=120) as again:
            assert (await judge(again)).json()["samples"] == right["samples"]


async def test_memory_is_bounded(monkeypatch):
    """Memory stops growing once the KV cache is full."""
    monkeypatch.setenv("GRM_KV_CACHE_GB", "0.25")  # enough for one burst, full after a few of them
    sizes = []
    with served("--embedded") as (url, process):
        processes = (psutil.Process(process.pid), engine_process(process))
        async with httpx.AsyncClient(base_url=url, timeout=120) as client:
            for turn in range(10):
                requests = (body(f"Question {turn}.{i}?", **SHORT | {"k": 2}) for i in range(6))
                answers = await asyncio.gather(
                    *(client.post("/v1/rewards", json=request) for request in requests)
                )
                assert {a.status_code for a in answers} == {200}
                sizes.append(sum(each.memory_info().rss for each in processes) / 2**20)
    sizes_text = ", ".join(f"{size:.0f}" for size in sizes)
    print(f"\nembedded, service and engine after each burst of 6 requests, MiB: {sizes_text}")
    assert sizes[-1] - sizes[4] < 50
