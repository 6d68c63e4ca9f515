"""Jumps of the wall clock, as after suspend or a time synchronisation."""

import asyncio
import http.client
import signal
import time
from datetime import datetime

import httpx
import pytest

from tests.faults.test_faults import body, expected, served
from tests.waiting import HANG_S

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]
DAY_S = 86_400
REPLAY_S = 5
WAVES = {"k": 6, "stop": "exact"}
"""Several waves of samples, so that some begin after the jump."""


def livez(connection):
    connection.request("GET", "/livez")
    assert connection.getresponse().read() == b'{"status":"alive"}'
    return connection.sock


@pytest.mark.parametrize(
    ("jump", "seconds"), [("SIGUSR1", DAY_S), ("SIGUSR2", -DAY_S)], ids=["ahead", "back"]
)
async def test_clock_jump(jump, seconds):
    """A jump moves no deadline, closes no connection and leaves the replay time as it is."""
    queries = [f"q {i}" for i in range(60)]  # more than are judged at once: some wait in the queue
    right = await expected(queries, **WAVES)
    with served("--delay", "0.3", "--replay-s", str(REPLAY_S)) as (url, process):
        keep_alive = http.client.HTTPConnection(url.removeprefix("http://"))
        opened = livez(keep_alive)
        async with httpx.AsyncClient(base_url=url, timeout=2 * HANG_S) as client:

            def judge(query, timeout_s=HANG_S):
                return client.post("/v1/rewards", json=body(query, timeout_s=timeout_s, **WAVES))

            first = (await judge("before")).json()
            completed = time.monotonic()
            late = asyncio.create_task(judge("please hang", timeout_s=1))
            await asyncio.sleep(0.05)
            running = [asyncio.create_task(judge(query)) for query in queries]
            await asyncio.sleep(0.15)
            process.send_signal(getattr(signal, jump))
            replayed = await judge("before")
            answers = await asyncio.gather(*running)
            timed_out = await late
            await asyncio.sleep(max(0.0, completed + REPLAY_S + 0.2 - time.monotonic()))
            fresh = (await judge("before")).json()
        assert livez(keep_alive) is opened
        keep_alive.close()
    assert {a.json()["status"] for a in answers} == {"ok"}
    assert [tuple(a.json()["rewards"]) for a in answers] == right
    assert (timed_out.status_code, timed_out.json()["code"]) == (504, "deadline_exceeded")
    assert timed_out.elapsed.total_seconds() > 0.9
    assert replayed.headers["idempotent-replayed"] == "true"
    assert replayed.json() == first
    assert fresh["id"] != first["id"]
    jumped = datetime.fromisoformat(fresh["created"]) - datetime.fromisoformat(first["created"])
    assert abs(jumped.total_seconds() - seconds) < 60
    print(
        f"\nclock {seconds:+d} s: {len(answers)} of {len(queries)} right, 1 s deadline met in "
        f"{timed_out.elapsed.total_seconds():.2f} s, verdicts replayed for {REPLAY_S} s"
    )
