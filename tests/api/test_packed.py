"""Bodies that come as gzip."""

import gzip
import json

import pytest

pytestmark = pytest.mark.anyio
PAIR = json.dumps({"query": "Name a prime.", "responses": ["11", "12"], "k": 2}).encode()


async def post(serve, content, encoding="gzip", **settings):
    headers = {"Content-Type": "application/json", "Content-Encoding": encoding}
    async with serve(**settings) as client:
        return await client.post("/v1/rewards", content=content, headers=headers)


async def test_a_gzip_body_is_unpacked(serve):
    answer = await post(serve, gzip.compress(PAIR))
    assert answer.status_code == 200
    assert len(answer.json()["rewards"]) == 2


async def test_it_may_come_in_many_pieces(serve):
    packed = gzip.compress(PAIR)

    async def pieces():
        for byte in packed:
            yield bytes([byte])

    assert (await post(serve, pieces())).status_code == 200


async def test_a_bomb_is_refused_by_what_it_unpacks_to(serve):
    bomb = gzip.compress(b" " * 10_000_000)
    assert len(bomb) < 20_000
    answer = await post(serve, bomb, max_body_bytes=50_000)
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


@pytest.mark.parametrize(
    "content",
    [PAIR, gzip.compress(PAIR)[:-9], b"", gzip.compress(PAIR) + gzip.compress(b" ")],
    ids=["plain", "cut", "empty", "two members"],
)
async def test_what_is_not_one_whole_gzip_is_refused(serve, content):
    answer = await post(serve, content)
    assert answer.status_code == 400


async def test_other_encodings_are_named(serve):
    answer = await post(serve, PAIR, "br")
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_encoding")
    assert "'br'" in answer.json()["detail"]
