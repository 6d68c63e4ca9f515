"""Retries, timeouts and concurrency of HTTP requests, and rejections for the prompt's length."""

import asyncio
import gc
import time
import weakref

import httpx
import pytest

from grm_service.engines.remote.http_retry import RetryingClient
from grm_service.engines.remote.openai import OpenAIEngine
from grm_service.errors import BadTask, EngineError, EngineUnreachable, PromptTooLong
from grm_service.types import Params
from tests.engines.loopback import Loopback
from tests.engines.scripted_server import ASK, OK, ScriptedServer, engine
from tests.waiting import HANG_S

pytestmark = pytest.mark.anyio


@pytest.fixture
async def loopback():
    server = await Loopback().open()
    yield server
    await server.kill()


@pytest.mark.parametrize(
    "message",
    [
        "This model's maximum context length is 100 tokens. However, your prompt contains at least 120 input "
        "tokens, which exceeds this limit even without any output tokens.",
        "You passed 120 input tokens and requested 20 output tokens. However, the model's context length is "
        "only 100 tokens, resulting in a maximum input length of 80 tokens.",
        "The input (120 tokens) is longer than the model's context length (100 tokens).",
        "Requested token count exceeds the model's maximum context length of 100 tokens. You requested a "
        "total of 140 tokens: 120 tokens from the input messages and 20 tokens for the completion.",
        "request (120 tokens) exceeds the available context size (100 tokens), try increasing it",
    ],
    ids=["vllm, input alone", "vllm", "sglang, input alone", "sglang", "llama.cpp"],
)
async def test_too_long_prompt_names_sizes(message):
    with pytest.raises(PromptTooLong, match=r"has 120 tokens .* may have 20, .* holds 100"):
        await engine(ScriptedServer((400, {"json": {"error": {"message": message}}}))).complete(
            ASK, Params(20)
        )


async def test_too_long_prompt_without_sizes():
    with pytest.raises(BadTask, match="too long"):
        await engine(ScriptedServer((400, {"text": "the prompt is too long"}))).complete(ASK, Params(1))


@pytest.mark.usefixtures("no_pauses")
@pytest.mark.parametrize("passing", [(429, {}), (503, {}), httpx.ConnectError("x")], ids=str)
async def test_transient_errors_are_retried(passing):
    server = ScriptedServer(passing, passing, OK)
    assert (await engine(server).complete(ASK, Params(1))).text == "Hi"
    assert len(server.requests) == 3


async def test_rejected_requests_are_not_retried():
    server = ScriptedServer((400, {"text": "bad"}))
    with pytest.raises(EngineError):
        await engine(server).complete(ASK, Params(1))
    assert len(server.requests) == 1


async def test_dropped_connection_is_retried(loopback):
    loopback.dropping = 1
    remote = OpenAIEngine(loopback.url, "m")
    assert (await remote.complete(ASK, Params(1))).text == "A"
    assert len(loopback.requests) == 2
    await remote.close()


async def test_retry_after_is_honoured():
    server = ScriptedServer((429, {"headers": {"Retry-After": "1"}}), OK)
    began = time.monotonic()
    await engine(server).complete(ASK, Params(1))
    assert time.monotonic() - began >= 1.0


@pytest.mark.parametrize(
    ("retry_after", "timeout_s"), [("120", 300.0), ("1", 0.5)], ids=["too long to wait", "past the end"]
)
async def test_too_long_retry_after_fails_at_once(retry_after, timeout_s):
    server = ScriptedServer((503, {"headers": {"Retry-After": retry_after}}), OK)
    began = time.monotonic()
    with pytest.raises(EngineUnreachable, match="503"):
        await engine(server, timeout_s=timeout_s).complete(ASK, Params(1))
    assert time.monotonic() - began < HANG_S
    assert len(server.requests) == 1


async def test_timeout_includes_retries():
    failures = [httpx.ConnectError("refused")]

    async def then_slow(request):
        if failures:
            raise failures.pop()
        await asyncio.sleep(3600)

    began = time.monotonic()
    with pytest.raises(EngineUnreachable, match="in time"):
        await engine(then_slow, timeout_s=1.0).complete(ASK, Params(1))
    assert 0.9 < time.monotonic() - began < HANG_S
    assert not failures


async def test_cancelling_closes_the_connection(loopback):
    loopback.delay_s = 30.0
    remote = OpenAIEngine(loopback.url, "m")
    running = asyncio.create_task(remote.complete(ASK, Params(1)))
    while not loopback.in_flight:
        await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    while not loopback.disconnects:
        await asyncio.sleep(0.01)
    await remote.close()


async def test_connections_bound_concurrency(loopback):
    loopback.delay_s = 0.5
    remote = OpenAIEngine(loopback.url, "m", connections=300)
    await asyncio.gather(*(remote.complete(ASK, Params(1)) for _ in range(320)))
    assert loopback.max_in_flight == 300
    await remote.close()


async def test_request_is_freed_at_once():
    sent = []

    def answer(request):
        sent.append(weakref.ref(request))
        return httpx.Response(200, json={})

    client = RetryingClient("http://server/v1", None, 5, 1, httpx.MockTransport(answer))
    gc.collect()
    gc.disable()
    try:
        await client.post("/chat/completions", {"messages": []})
        assert sent[0]() is None
    finally:
        gc.enable()
        await client.close()
