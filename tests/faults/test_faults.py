"""Faults and the guarantees that hold under them: a real server, real sockets, an engine that misbehaves.

`make faults` runs the long variants of these tests, `make test` the short ones.
"""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import httpx
import psutil
import pytest

from grm_service.factory import open_service
from grm_service.settings import Settings
from grm_service.types import JudgeOptions, Message, Task
from tests.waiting import HANG_S

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(280)]
PAIR = {"responses": ["eleven", "twelve"], "k": 2, "detail": "rewards"}


@contextlib.contextmanager
def served(*flags):
    """Yield the address and process of a server; it is stopped with SIGTERM and must exit with 0."""
    command = [sys.executable, "-m", "tests.faults.server", *flags]
    with tempfile.NamedTemporaryFile(suffix=".log") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        process.log = Path(log.name)
        yield from _until_stopped(process)


def _until_stopped(process):
    try:
        url = process.stdout.readline().strip()
        assert url, process.log.read_text()
        yield url, process
        if process.poll() is None:
            process.terminate()
            assert process.wait(HANG_S) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture(scope="module")
def plain_server():
    """Yield the address and process of a server that tests may share."""
    with served() as server:
        yield server


def body(query, **more):
    return PAIR | {"query": query} | more


async def expected(queries, k=2, stop="none"):
    """Return the rewards of an undisturbed judge."""
    service = open_service(Settings(engine="scripted"))
    await service.start()
    tasks = [
        Task((Message("user", query),), tuple(PAIR["responses"]), options=JudgeOptions(k=k, stop=stop))
        for query in queries
    ]
    return [(await service.judge(task)).verdict.vote.rewards for task in tasks]


async def test_engine_crash_and_recovery():
    """A crash fails the requests in the engine, and the engine comes back."""
    with served("--isolated", "--delay", "0.2") as (url, _):
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            running = [asyncio.create_task(client.post("/v1/rewards", json=body(f"q {i}"))) for i in range(5)]
            await asyncio.sleep(0.1)
            died = await client.post("/v1/rewards", json=body("please die", k=1))
            assert (died.status_code, died.json()["code"]) == (502, "engine_failed")
            for answer in await asyncio.gather(*running):
                assert answer.status_code in (200, 502)
                assert answer.status_code == 200 or answer.json()["code"] == "engine_failed"
            async with asyncio.timeout(HANG_S):
                while (await client.get("/readyz")).status_code != 200:
                    await asyncio.sleep(0.05)
            (right,) = await expected(["after"])
            assert tuple((await client.post("/v1/rewards", json=body("after"))).json()["rewards"]) == right


async def test_hanging_engine_meets_deadlines():
    with served("--isolated") as (url, _):
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            requests = (
                client.post("/v1/rewards", json=body(f"please hang {i}", timeout_s=1)) for i in range(50)
            )
            answers = await asyncio.gather(*requests)
            assert {(a.status_code, a.json()["code"]) for a in answers} == {(504, "deadline_exceeded")}
            assert (await client.post("/v1/rewards", json=body("after"))).status_code == 200


async def test_garbage_is_no_reward():
    with served("--isolated") as (url, _):
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            answer = await client.post("/v1/rewards", json=body("please garbage"))
    assert (answer.status_code, answer.json()["code"]) == (502, "all_unreadable")
    assert answer.json()["rewards"] == [None, None]


async def test_disconnects_cancel_samples():
    with served() as (url, _):
        await disconnect_at_every_stage(url, body("please hang", k=8))
        async with httpx.AsyncClient(base_url=url, timeout=HANG_S) as client:
            await until_idle(client)
            assert await metric(client, 'grm_samples_total{outcome="cancelled"}') == 5 * 8
            assert (await client.post("/v1/rewards", json=body("after"))).status_code == 200


async def disconnect_at_every_stage(url, request):
    """Disconnect five clients each: before the first byte, in the head, after it, in the body, after it."""
    content = json.dumps(request).encode()
    head = request_head(content)
    raw, port = head + content, int(url.rpartition(":")[2])
    for stage in (0, 5, len(head) - 2, len(head), len(head) + 9, len(raw)):
        for _ in range(5):
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.sendall(raw[:stage])
                await asyncio.sleep(0.05)


def request_head(content):
    """Return the head of a request for a verdict."""
    lines = ("POST /v1/rewards HTTP/1.1", "Host: localhost", f"Content-Length: {len(content)}")
    return "\r\n".join((*lines, "Content-Type: application/json", "", "")).encode()


async def metric(client, name):
    lines = (await client.get("/metrics")).text.splitlines()
    return next((float(line.split()[-1]) for line in lines if line.startswith(f"{name} ")), 0.0)


async def until_idle(client):
    async with asyncio.timeout(HANG_S):
        while await metric(client, "grm_samples_in_flight"):
            await asyncio.sleep(0.05)


async def test_sigterm_drains_under_load():
    """Running requests finish; then the server exits."""
    with served("--delay", "2") as (url, process):
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            running = [
                asyncio.create_task(client.post("/v1/rewards", json=body(f"q {i}"))) for i in range(50)
            ]
            async with asyncio.timeout(HANG_S):
                while await metric(client, "grm_samples_in_flight") < 50 * PAIR["k"]:
                    await asyncio.sleep(0.05)
            process.send_signal(signal.SIGTERM)
            answers = await asyncio.gather(*running)
        assert {a.status_code for a in answers} == {200}
        assert await asyncio.to_thread(process.wait, 20) == 0


async def test_sigterm_with_a_hanging_engine():
    with served("--isolated") as (url, process):
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            hanging = asyncio.create_task(client.post("/v1/rewards", json=body("please hang")))
            await asyncio.sleep(0.3)
            process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(process.wait, 30) == 0
            answer = await hanging
            assert (answer.status_code, answer.json()["code"]) == (503, "draining")
        assert "Traceback" not in process.log.read_text()


async def test_sigkill_leaves_no_engine():
    """The engine process ends with the server, which can start again."""
    with served("--isolated") as (_, process):
        (child,) = psutil.Process(process.pid).children()
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert await asyncio.to_thread(psutil.wait_procs, [child], 20) == ([child], [])
    with served("--isolated") as (url, _):
        assert httpx.post(url + "/v1/rewards", json=body("after")).status_code == 200


HOSTILE = {
    "deep nesting": (b"[" * 200_000 + b"]" * 200_000, {400, 422}),
    "deep objects": (b'{"query":' * 50_000 + b"1" + b"}" * 50_000, {400, 422}),
    "a long number": (b'{"query": "q", "responses": ["a"], "k": 1' + b"0" * 100_000 + b"}", {400, 422}),
    "a hundred megabytes": (b'{"query": "' + b"x" * 100_000_000 + b'"}', {413}),
    "not text": (bytes(range(256)) * 100, {400, 422}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_bodies(name, plain_server):
    """Hostile bodies get a clear error, in bounded memory."""
    content, statuses = HOSTILE[name]
    url, process = plain_server
    server = psutil.Process(process.pid)
    before = server.memory_info().rss
    for path in ("/v1/rewards", "/v1/principles"):
        answer = httpx.post(
            url + path, content=content, headers={"Content-Type": "application/json"}, timeout=60
        )
        assert answer.status_code in statuses
        assert answer.headers["content-type"] == "application/problem+json"
        assert "Traceback" not in answer.text
        assert len(answer.text) < 2000
    assert server.memory_info().rss - before < 100 * 2**20
    assert httpx.post(url + "/v1/rewards", json=body("after")).status_code == 200


@pytest.mark.slow
async def test_slow_heads_are_closed():
    """Slow request heads are closed and delay nobody else."""
    with served() as (url, _):
        port = int(url.rpartition(":")[2])
        slow = [socket.create_connection(("127.0.0.1", port)) for _ in range(100)]
        for connection in slow:
            connection.sendall(b"POST /v1/rewards HTTP/1.1\r\nHost:")
        assert httpx.post(url + "/v1/rewards", json=body("meanwhile")).status_code == 200
        closed = threading.Event()

        def drip():
            while not closed.wait(2):
                for connection in slow:
                    with contextlib.suppress(OSError):
                        connection.sendall(b"x")

        dripping = threading.Thread(target=drip)
        dripping.start()
        try:
            for connection in slow:
                connection.settimeout(40)
                with contextlib.suppress(ConnectionError):
                    assert connection.recv(1) == b""
        finally:
            closed.set()
            dripping.join()
            for connection in slow:
                connection.close()
