"""Slow clients: bodies that stall or drip time out, as do readers; large steady ones do not."""

import asyncio
import contextlib
import json
import socket

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


@contextlib.asynccontextmanager
async def listening(tmp_path):
    """Serve on a socket with small buffers; yield the service, the port and the connections."""
    trail = {"audit_url": f"sqlite:///{tmp_path}/audit.db", "audit_key_file": tmp_path / "audit.key"}
    settings = Settings(engine="scripted", **trail)
    service = open_service(settings)
    app = create_app(service, settings.max_body_bytes, settings.max_batch_bytes)
    server = uvicorn.Server(uvicorn.Config(app, http=TimeoutProtocol, log_config=None))
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        listener.bind(("127.0.0.1", 0))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        await until(lambda: service.ready and server.started)
        try:
            yield service, listener.getsockname()[1], server.server_state.connections
        finally:
            server.should_exit = True
            await serving


async def test_slow_connection_is_closed(short_timeouts, monkeypatch, tmp_path):
    monkeypatch.setattr(http_protocol, "_PATIENCE_S", 0.5)
    async with listening(tmp_path) as (_, port, _):
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
    assert reply.startswith(b"HTTP/1.1 408 ")
    assert b'"too_slow"' in reply


LONG = {"query": "Name a prime.", "responses": [f"{i}" for i in range(40)], "k": 10}
UNREAD = {
    "reply": ("/v1/rewards", json.dumps(LONG)),
    "stream": ("/v1/rewards", json.dumps(LONG | {"stream": True})),
    "batch": ("/v1/rewards/batch", json.dumps([LONG | {"seed": i} for i in range(8)])),
}


def sent_to(port, path, body):
    """Return a socket with small buffers on which a request has been sent."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    client.connect(("127.0.0.1", port))
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
    return client


def in_flight(service):
    return service.metrics.requests_in_flight._value.get()


@pytest.mark.parametrize("kind", UNREAD)
async def test_client_that_does_not_read_is_cut(kind, monkeypatch, tmp_path):
    monkeypatch.setattr(http_protocol, "_REPLY_PATIENCE_S", 0.3)
    async with listening(tmp_path) as (service, port, connections):
        with sent_to(port, *UNREAD[kind]) as client:
            await until(lambda: in_flight(service) == 1)
            await until(lambda: in_flight(service) == 0 and not connections)
            received = b""
            while piece := await asyncio.to_thread(client.recv, 65536):
                received += piece
    assert b'"judge_s"' not in received[-200:]  # cut before the end


async def test_steady_reader_gets_the_whole_reply(monkeypatch, tmp_path):
    monkeypatch.setattr(http_protocol, "_REPLY_PATIENCE_S", 0.5)
    async with listening(tmp_path) as (_, port, _):
        with sent_to(port, *UNREAD["reply"]) as client:
            received = b""
            while b'"judge_s"' not in received:
                received += await asyncio.to_thread(client.recv, 65536)
                await asyncio.sleep(0.02)
    assert received.startswith(b"HTTP/1.1 200")
