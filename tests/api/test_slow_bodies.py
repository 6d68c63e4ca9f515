"""Slow request bodies: stalled or dripping ones time out, large steady ones do not."""

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
def short_timeouts(monkeypatch):
    monkeypatch.setattr(body, "_PATIENCE_S", 0.2)
    monkeypatch.setattr(body, "_MIN_BYTES_S", 10_000.0)


async def dripping():
    while True:
        yield b" "
        await asyncio.sleep(0.01)


async def test_dripping_body_is_408(serve, short_timeouts):
    async with serve() as client:
        reply = await client.post("/v1/rewards", content=dripping(), headers=JSON)
    assert (reply.status_code, reply.json()["code"]) == (408, "too_slow")
    assert reply.json()["retryable"] is True


async def test_steady_large_body_is_read(serve, short_timeouts):
    async def chunks():
        for _ in range(10):
            yield b" " * 10_000  # one second each at the minimum rate
            await asyncio.sleep(0.05)
        yield b"[" + PAIR + b"]"

    async with serve() as client:
        start = asyncio.get_running_loop().time()
        reply = await client.post("/v1/rewards/batch", content=chunks(), headers=JSON)
        assert asyncio.get_running_loop().time() - start > 0.4
    assert reply.status_code == 200
    assert reply.json()[0]["status"] == "ok"


async def test_refused_body_is_not_read(serve, short_timeouts):
    async with serve() as client:
        headers = JSON | {"Content-Length": str(2**30)}
        reply = await client.post("/v1/rewards", content=dripping(), headers=headers)
    assert (reply.status_code, reply.json()["code"]) == (413, "too_large")


async def test_slow_connection_is_closed(short_timeouts, monkeypatch):
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
    reply = await reading
    writer.close()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        assert (await client.post("/v1/rewards", content=PAIR, headers=JSON)).status_code == 200
    server.should_exit = True
    await serving
    assert reply.startswith(b"HTTP/1.1 408 ")
    assert b'"too_slow"' in reply
