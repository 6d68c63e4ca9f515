"""JSON bodies of all routes: deep and large ones."""

import json

import pytest

from grm_service.api import json_bodies
from tests.faults.fuzzed_bodies import VALID

pytestmark = pytest.mark.anyio
PAIR = {"query": "q", "responses": ["a", "b"], "k": 1, "detail": "rewards"}
JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize("depth", [300, 900, 100_000])
async def test_deep_bodies_are_refused(serve, depth):
    """Anywhere: as the body, or in a field."""
    async with serve() as client:
        for path in VALID:
            for content in ("[" * depth + "]" * depth, '{"label": ' + "[" * depth + "]" * depth + "}"):
                reply = await client.post(path, content=content, headers=JSON)
                assert (reply.status_code, reply.json()["code"]) == (400, "unreadable_body"), path
                assert "200 levels" in reply.json()["detail"]


async def test_brackets_in_texts_are_no_levels(serve):
    async with serve() as client:
        reply = await client.post("/v1/rewards", json=PAIR | {"query": "[{" * 1000})
    assert reply.status_code == 200


@pytest.fixture
def all_large(monkeypatch):
    monkeypatch.setattr(json_bodies, "_SMALL", 0)


async def test_large_bodies_are_as_small_ones(serve, all_large, monkeypatch):
    bad = [{"responses": []}, {"k": "8"}, {"unknown": 1}, {"query": "a\ud800"}]
    contents = [json.dumps(PAIR | change) for change in [{}, *bad]] + ["{", "[]", "null", '"\xff"']

    async def replies():
        async with serve(replay_s=0) as client:
            found = [await client.post("/v1/rewards", content=c, headers=JSON) for c in contents]
        volatile = {"id", "created", "timing"}
        return [
            {name: value for name, value in reply.json().items() if name not in volatile} for reply in found
        ]

    large = await replies()
    monkeypatch.setattr(json_bodies, "_SMALL", 2**20)
    assert large == await replies()
    assert large[0]["rewards"]


async def test_large_bodies_are_validated_once(serve, all_large, monkeypatch):
    seen = []
    read = json_bodies.JSONRoute._read

    def counted(route, raw):
        value = read(route, raw)
        seen.append(value)
        return value

    monkeypatch.setattr(json_bodies.JSONRoute, "_read", counted)
    async with serve() as client:
        for path, body in VALID.items():
            if "batch" not in path:
                reply = await client.post(f"{path}?window_s=0" if path != "v1/rewards" else path, json=body)
                assert reply.status_code < 500, (path, reply.text)
    assert seen
