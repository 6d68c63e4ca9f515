"""A wall clock that jumps, as it does when a machine wakes up or finds its time server."""

import asyncio
import http.client
import signal
import time
from datetime import datetime

import httpx
import pytest

from tests.faults.test_faults import body, expected, served

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]
DAY_S = 86_400
REPLAY_S = 3
WAVES = {"k": 6, "stop": "exact"}
"""Several turns of the engine, so that some begin after the jump."""


def livez(connection):
    connection.request("GET", "/livez")
    assert connection.getresponse().read() == b'{"status":"alive"}'
    return connection.sock


@pytest.mark.parametrize(
    ("jump", "seconds"), [("SIGUSR1", DAY_S), ("SIGUSR2", -DAY_S)], ids=["ahead", "back"]
)
async def test_a_clock_that_jumps_moves_no_deadline_cuts_nobody_and_keeps_replays_as_long(jump, seconds):
    queries = [f"q {i}" for i in range(60)]  # more than are judged at once: some wait in the line
    right = await expected(queries, **WAVES)
    with served("--delay", "0.3", "--replay-s", str(REPLAY_S)) as (url, process):
        kept = http.client.HTTPConnection(url.removeprefix("http://"))
        opened = livez(kept)
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:

            def ask(query, timeout_s=20):
                return client.post("/v1/rewards", json=body(query, timeout_s=timeout_s, **WAVES))

            first = (await ask("before")).json()
            landed = time.monotonic()
            late = asyncio.create_task(ask("please hang", timeout_s=1))
            await asyncio.sleep(0.05)
            running = [asyncio.create_task(ask(query)) for query in queries]
            await asyncio.sleep(0.15)
            process.send_signal(getattr(signal, jump))
            answers = await asyncio.gather(*running)
            again = await ask("before")
            refused = await late
            await asyncio.sleep(max(0.0, landed + REPLAY_S + 0.2 - time.monotonic()))
            anew = (await ask("before")).json()
        assert livez(kept) is opened
        kept.close()
    assert {a.json()["status"] for a in answers} == {"ok"}
    assert [tuple(a.json()["rewards"]) for a in answers] == right
    assert (refused.status_code, refused.json()["code"]) == (504, "deadline_exceeded")
    assert 0.9 < refused.elapsed.total_seconds() < 5
    assert again.headers["idempotent-replayed"] == "true"
    assert again.json() == first
    assert anew["id"] != first["id"]
    jumped = datetime.fromisoformat(anew["created"]) - datetime.fromisoformat(first["created"])
    assert abs(jumped.total_seconds() - seconds) < 60
    print(
        f"\nclock {seconds:+d} s: {len(answers)} of {len(queries)} right, a deadline of 1 s met in "
        f"{refused.elapsed.total_seconds():.2f} s, a verdict given again for {REPLAY_S} s"
    )
