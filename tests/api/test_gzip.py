"""Request bodies compressed with gzip."""

import gzip
import json
import random

import pytest

from grm_service.api import body
from tests.faults.fuzzed_bodies import VALID

pytestmark = pytest.mark.anyio
PAIR = json.dumps({"query": "Name a prime.", "responses": ["11", "12"], "k": 2}).encode()
PACKED = gzip.compress(PAIR)


async def post(serve, content, encoding="gzip", **settings):
    headers = {"Content-Type": "application/json", "Content-Encoding": encoding}
    async with serve(**settings) as client:
        return await client.post("/v1/rewards", content=content, headers=headers)


async def test_gzip_body(serve):
    reply = await post(serve, gzip.compress(PAIR))
    assert reply.status_code == 200
    assert len(reply.json()["rewards"]) == 2


async def test_gzip_body_in_chunks(serve):
    compressed = gzip.compress(PAIR)

    async def chunks():
        for byte in compressed:
            yield bytes([byte])

    assert (await post(serve, chunks())).status_code == 200


async def test_gzip_bomb_is_refused(serve):
    """The limit applies to the decompressed size."""
    bomb = gzip.compress(b" " * 10_000_000)
    assert len(bomb) < 20_000
    reply = await post(serve, bomb, max_body_bytes=50_000)
    assert (reply.status_code, reply.json()["code"]) == (413, "too_large")


@pytest.mark.parametrize("path", [path for path in VALID if "reviews" not in path])
async def test_ratio_of_gzip_is_limited(serve, path):
    """However much is allowed, and in every route: it costs time and, in a batch, disk."""
    bomb = gzip.compress(b"[" + b" " * 3_000_000 + b"]")
    async with serve() as client:
        headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        reply = await client.post(path, content=bomb, headers=headers)
    assert (reply.status_code, reply.json()["code"]) == (413, "too_large")
    assert "uncompressed" in reply.json()["detail"]


@pytest.mark.parametrize("change", [1, 40], ids=["small", "large"])
async def test_ordinary_ratio_is_read(serve, change):
    """The first MiB may expand by any ratio; rows that differ in a few tokens compress by 10 to 50."""
    texts = [f"{i} " + "".join(random.Random(i).choices("abcdefgh ", k=4000)) for i in range(change)]
    content = json.dumps({"query": "q", "responses": texts, "k": 1}).encode() + b" " * 1_000_000
    assert (await post(serve, gzip.compress(content))).status_code == 200


async def test_gzip_is_read_in_pieces(serve, monkeypatch):
    sizes = []
    whole = body._decompressed

    def measured(receive):
        receive = whole(receive)

        async def piece():
            message = await receive()
            sizes.append(len(message.get("body", b"")))
            return message

        return piece

    monkeypatch.setattr(body, "_decompressed", measured)
    assert (await post(serve, gzip.compress(PAIR + b" " * 1_000_000))).status_code == 200
    assert len(sizes) > 3
    assert max(sizes) <= 2**18


@pytest.mark.parametrize(
    "content",
    [
        PAIR,
        gzip.compress(PAIR)[:-9],
        b"",
        gzip.compress(PAIR) + gzip.compress(b" "),
        gzip.compress(PAIR) + b"x",
    ],
    ids=["plain", "truncated", "empty", "two members", "trailing"],
)
async def test_invalid_gzip_is_refused(serve, content):
    """A body must be a single complete gzip member."""
    reply = await post(serve, content)
    assert reply.status_code == 400


async def test_other_encodings_are_refused(serve):
    reply = await post(serve, PAIR, "br")
    assert (reply.status_code, reply.json()["code"]) == (415, "unsupported_encoding")
    assert "'br'" in reply.json()["detail"]
