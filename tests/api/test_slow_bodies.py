"""Bodies that come slowly: what stops or drips is given up, what is only large is not."""

import asyncio
import json

import httpx
import pytest
import uvicorn

from grm_service.api import body, http_protocol
from grm_service.api.app import create_app
from grm_service.api.http_protocol import TimeoutProtocol
from grm_service.factory import open_service
from grm_service.settings import Settings
from tests.waiting import until

pytestmark = pytest.mark.anyio
PAIR = json.dumps({"query": "Name a prime.", "responses": ["11", "12"], "k": 2}).encode()
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(body, "_PATIENCE_S", 0.2)
    monkeypatch.setattr(body, "_MIN_BYTES_S", 10_000.0)


async def dripping():
    while True:
        yield b" "
        await asyncio.sleep(0.01)


async def test_a_body_that_drips_for_ever_is_given_up_although_it_never_stops(serve, impatient):
    async with serve() as client:
        answer = await client.post("/v1/rewards", content=dripping(), headers=JSON)
    assert (answer.status_code, answer.json()["code"]) == (408, "too_slow")
    assert answer.json()["retryable"] is True


async def test_a_large_body_may_take_longer_than_the_patience_as_long_as_it_keeps_coming(serve, impatient):
    async def pieces():
        for _ in range(10):
            yield b" " * 10_000  # worth a second each
            await asyncio.sleep(0.05)
        yield b"[" + PAIR + b"]"

    async with serve() as client:
        began = asyncio.get_running_loop().time()
        answer = await client.post("/v1/rewards/batch", content=pieces(), headers=JSON)
        assert asyncio.get_running_loop().time() - began > 0.4
    assert answer.status_code == 200
    assert answer.json()[0]["status"] == "ok"


async def test_one_that_is_refused_is_not_read_for_ever(serve, impatient):
    async with serve() as client:
        headers = JSON | {"Content-Length": str(2**30)}
        answer = await client.post("/v1/rewards", content=dripping(), headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


async def test_over_a_real_connection_it_is_told_so_and_hung_up_on(impatient, monkeypatch):
    monkeypatch.setattr(http_protocol, "_PATIENCE_S", 0.5)
    settings = Settings(engine="scripted")
    service = open_service(settings)
    app = create_app(service, settings.max_body_bytes, settings.max_batch_bytes)
    server = uvicorn.Server(uvicorn.Config(app, port=0, http=TimeoutProtocol, log_config=None))
    serving = asyncio.create_task(server.serve())
    await until(lambda: service.ready and server.started)
    port = server.servers[0].sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST /v1/rewards HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n")
    writer.write(b"Content-Length: 1000000\r\n\r\n")
    reading = asyncio.create_task(reader.read())
    while not reading.done():
        writer.write(b" ")
        await asyncio.sleep(0.02)
    answer = await reading
    writer.close()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        assert (await client.post("/v1/rewards", content=PAIR, headers=JSON)).status_code == 200
    server.should_exit = True
    await serving
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"too_slow"' in answer
