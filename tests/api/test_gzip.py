"""Request bodies compressed with gzip."""

import gzip
import json

import pytest

pytestmark = pytest.mark.anyio
PAIR = json.dumps({"query": "Name a prime.", "responses": ["11", "12"], "k": 2}).encode()


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


@pytest.mark.parametrize(
    "content",
    [PAIR, gzip.compress(PAIR)[:-9], b"", gzip.compress(PAIR) + gzip.compress(b" ")],
    ids=["plain", "truncated", "empty", "two members"],
)
async def test_invalid_gzip_is_refused(serve, content):
    """A body must be a single complete gzip member."""
    reply = await post(serve, content)
    assert reply.status_code == 400


async def test_other_encodings_are_refused(serve):
    reply = await post(serve, PAIR, "br")
    assert (reply.status_code, reply.json()["code"]) == (415, "unsupported_encoding")
    assert "'br'" in reply.json()["detail"]
