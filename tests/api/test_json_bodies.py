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
    bad = [{"responses": []}, {"k": "8"}, {"unknown": 1}, {"query": "a\0"}]
    contents = [json.dumps(PAIR | change) for change in [{}, *bad]] + ["[]", "null", '"\xff"']

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


@pytest.mark.parametrize("content", ["{", '"\\ud800"', b"\xff", "[" + "9" * 5000 + "]", "[" * 300])
async def test_large_bodies_that_are_not_json(serve, all_large, content):
    async with serve() as client:
        reply = await client.post("/v1/rewards", content=content, headers=JSON)
    assert reply.status_code in (400, 422)
    assert "the body" in reply.json()["detail"]


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


async def test_many_errors_are_counted(serve):
    """Not listed: each takes a kilobyte."""
    async with serve() as client:
        reply = await client.post("/v1/rewards", json=PAIR | {f"u{i}": 1 for i in range(20_000)})
    assert (reply.status_code, reply.json()["code"]) == (422, "invalid_request")
    assert "0 fields or values" in reply.json()["detail"]


@pytest.mark.parametrize("rows", [[{"reward": 1}] * 600, [1] * 3000], ids=["parts", "values"])
async def test_too_many_values_are_refused(serve, all_large, monkeypatch, rows):
    monkeypatch.setattr(json_bodies, "_MAX_PARTS", 1000)
    monkeypatch.setattr(json_bodies, "_MAX_VALUES", 2000)
    async with serve() as client:
        many = await client.post("/aggregate_metrics", json={"verify_responses": rows})
        in_text = await client.post("/v1/rewards", json=PAIR | {"query": '\\",:[{' * 5000})
    assert (many.status_code, many.json()["code"]) == (413, "too_large")
    assert in_text.status_code == 200


TOKENS = {
    "prompt_token_ids": list(range(32_000)),
    "generation_token_ids": [150_000] * 32_000,
    "generation_log_probs": [-0.123456789] * 32_000,
}


def rollout(text):
    return {"output": [{"role": "assistant", "content": text, **TOKENS}]}


async def test_rows_with_tokens_are_judged(serve):
    """As NeMo Gym sends them: 10^5 numbers in each."""
    row = {"responses_create_params": {"input": "q"}, "response": rollout("a"), "_ng_task_index": 1}
    group = {
        "conversation_history": [{"role": "user", "content": "q"}],
        "response_objs": [rollout(f"{i}") for i in range(8)],
    }
    async with serve() as client:
        verified = await client.post("/verify?window_s=0&k=1", json=row)
        compared = await client.post("/compare?k=1", json=group)
    assert verified.json()["judged"] == 1
    assert verified.json()["response"] == row["response"]
    assert len(compared.json()["rewards"]) == 8


async def test_many_turns_are_refused(serve):
    turns = [{"role": "assistant", "content": "a"}] * 1000
    bodies = [
        ("/v1/rewards", {"query": "q", "responses": [turns] * 17}),
        ("/v1/rewards", {"query": "q", "responses": [{"messages": turns}] * 17}),
        ("/compare", {"conversation_history": turns[:1], "response_objs": [{"output": turns}] * 17}),
        ("/verify", {"responses_create_params": {"input": "q"}, "response": {"output": turns * 5}}),
    ]
    async with serve() as client:
        replies = [await client.post(path, json=body) for path, body in bodies]
    assert [reply.status_code for reply in replies] == [422] * 4
    assert all("17000 turns" in reply.json()["detail"] for reply in replies[:3])


async def test_many_bad_rows_are_one_error(serve):
    async with serve() as client:
        reply = await client.post("/aggregate_metrics", json={"verify_responses": [1] * 50_000})
    assert [error["field"] for error in reply.json()["errors"]] == ["verify_responses.0"]
