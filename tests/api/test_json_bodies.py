"""JSON bodies of all routes: deep and large ones."""

import json

import pytest

from grm_service.api import json_bodies
from tests.faults.fuzzed_bodies import VALID, to_url

pytestmark = pytest.mark.anyio
PAIR = {"query": "q", "responses": ["a", "b"], "k": 1, "detail": "rewards"}
JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize("depth", [300, 900, 100_000])
async def test_deep_bodies_are_refused(serve, depth):
    """Anywhere: as the body, or in a field."""
    async with serve() as client:
        for path, body in VALID.items():
            deep = "[" * depth + "]" * depth
            in_field = f'{{"label": {deep}}}'
            for content in (deep, f"[{in_field}]" if isinstance(body, list) else in_field):
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
            reply = await client.post(to_url(path), json=body)
            assert reply.status_code < 500, (path, reply.text)
    assert len(seen) == len(VALID) - 1  # a batch has its own reader


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/rewards", PAIR | {f"u{i}": 1 for i in range(20_000)}),
        ("/aggregate_metrics", {"verify_responses": [1] * 50_000}),
    ],
    ids=["fields", "values"],
)
async def test_many_errors_are_counted(serve, path, body):
    """Not listed: each takes a kilobyte."""
    async with serve() as client:
        reply = await client.post(path, json=body)
    assert (reply.status_code, reply.json()["code"]) == (422, "invalid_request")
    assert "0 fields or values" in reply.json()["detail"]


async def test_too_many_values_are_refused(serve, monkeypatch):
    monkeypatch.setattr(json_bodies, "_MAX_VALUES", 1000)
    async with serve() as client:
        many = await client.post("/aggregate_metrics", json={"verify_responses": [{"reward": 1}] * 600})
        commas = await client.post("/v1/rewards", json=PAIR | {"query": "," * 5000})
    assert (many.status_code, many.json()["code"]) == (413, "too_large")
    assert commas.status_code == 200
