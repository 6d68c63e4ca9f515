"""Bodies of replies: too large, packed, deep, or with numbers that are none."""

import gzip
import json
import zlib

import httpx
import pytest

from grm_service.engines.remote import reply_bodies
from grm_service.errors import EngineError
from grm_service.types import Params
from tests.engines.scripted_server import ASK, GOOD, ScriptedServer, engine

pytestmark = pytest.mark.anyio


class Chunks(httpx.AsyncByteStream):
    def __init__(self, body, size=1000):
        self.body, self.size, self.sent = body, size, 0

    async def __aiter__(self):
        for start in range(0, len(self.body), self.size):
            self.sent += 1
            yield self.body[start : start + self.size]


def packed(body, encoding="gzip"):
    return 200, {"headers": {"Content-Encoding": encoding}, "stream": Chunks(body)}


async def completed(answer):
    return (await engine(ScriptedServer(answer)).complete(ASK, Params(1))).text


async def test_gzip_is_read():
    assert await completed(packed(gzip.compress(json.dumps(GOOD).encode()))) == "Hi"


async def test_gzip_is_requested_alone():
    server = ScriptedServer((200, {"json": GOOD}))
    await engine(server).complete(ASK, Params(1))
    assert server.requests[0].headers["accept-encoding"] == "gzip"


@pytest.mark.parametrize("is_packed", [False, True])
async def test_large_reply_is_cut_off(monkeypatch, is_packed):
    monkeypatch.setattr(reply_bodies, "_MAX_BYTES", 100_000)
    stream = Chunks(gzip.compress(b" " * 10**8) if is_packed else b" " * 10**6)
    headers = {"Content-Encoding": "gzip"} if is_packed else {}
    with pytest.raises(EngineError, match="more than 100000 bytes"):
        await completed((200, {"headers": headers, "stream": stream}))
    assert stream.sent * stream.size <= 102_000


async def test_longest_text_fits():
    text = "\U0001f600" * 2**20
    assert await completed((200, {"json": {"choices": [{"message": {"content": text}}]}})) == text


@pytest.mark.parametrize("body", ["[]", "{}", '""', "1", '{"error":0}'], ids=str)
async def test_many_values_are_refused_unread(body):
    with pytest.raises(EngineError, match="commas and brackets"):
        await completed((200, {"content": f"[{','.join([body] * 2**20)}]"}))


async def test_endless_events_are_read_in_part():
    body = "data: {}\n" * 2000 + 'data: {"error": "too late"}\n'
    with pytest.raises(EngineError, match="stream of events"):
        await completed((200, {"content": body}))


async def test_few_alternatives_are_read():
    """Each may lead to a request for those behind it."""
    top = [{"token": str(i), "logprob": -1.0} for i in range(100)]
    choice = {"message": {"content": "1"}, "logprobs": {"content": [{"token": "1", "top_logprobs": top}]}}
    answer = engine(ScriptedServer((200, {"json": {"choices": [choice]}})))
    (row,) = (await answer.complete(ASK, Params(1, alternatives=20))).alternatives
    assert len(row) == 21


@pytest.mark.parametrize("encoding", ["br", "zstd", "deflate", "gzip, gzip"])
async def test_other_encodings_are_refused(encoding):
    with pytest.raises(EngineError, match="which was not requested"):
        await completed(packed(zlib.compress(b"{}"), encoding))


@pytest.mark.parametrize("body", [b"{}", gzip.compress(b"{}" * 99)[:-9]], ids=["plain", "cut"])
async def test_bad_gzip_is_an_engine_error(body):
    with pytest.raises(EngineError, match="gzip"):
        await completed(packed(body))


def usage(number):
    return '{"choices": [{"message": {"content": "Hi"}}], "usage": {"prompt_tokens": N}}'.replace("N", number)


BAD = [
    ("", "not JSON"),
    ("<html>", "not JSON"),
    ('{"choices": ', "not JSON"),
    ("[]", "not an object"),
    ("null", "not an object"),
    ("7", "not an object"),
    ('"text"', "not an object"),
    ("[" * 100_000, "nested too deeply"),
    ('{"a":' * 100_000, "nested too deeply"),
    (usage("NaN"), "NaN"),
    (usage("-Infinity"), "-Infinity"),
    (usage("1e400"), "too large"),
    (usage("1" + "0" * 400), "too large"),
    (usage("9" * 5000), "too large"),
    ('data: {"choices": [{"delta": {"content": "Hi"}}]}\n\ndata: [DONE]\n\n', "stream of events"),
    ("data: {\n\n", "not JSON"),
    ("\xff\xfe", "not JSON"),
]


@pytest.mark.parametrize(("body", "says"), BAD, ids=lambda value: value[:20])
async def test_odd_body_is_an_engine_error(body, says):
    answer = (200, {"content": body.encode("latin-1")})
    with pytest.raises(EngineError, match=says):
        await completed(answer)
    with pytest.raises(EngineError):
        await engine(ScriptedServer(answer))._client.get("/models")


@pytest.mark.parametrize(("body", "says"), BAD, ids=lambda value: value[:20])
async def test_odd_body_of_an_error(no_pauses, body, says):
    with pytest.raises(EngineError, match="answered 500"):
        await completed((500, {"content": body.encode("latin-1")}))
