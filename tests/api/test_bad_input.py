"""Invalid requests: status, problem body, and nothing generated."""

import json

import httpx
import pytest

from grm_service.engines.base import Abilities

pytestmark = pytest.mark.anyio
PAIR = {"query": "q", "responses": ["a", "b"], "k": 2}


async def expect_refusal(serve, content, status, **settings):
    """Post `content`, assert that it is refused with `status`, and return the problem."""
    async with serve(**settings) as client:
        reply = await client.post(
            "/v1/rewards", content=content, headers={"Content-Type": "application/json"}
        )
        assert client.service.engine.prompts == [], "a refused request must not reach the engine"
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    problem = reply.json()
    assert problem["status"] == status
    assert problem["retryable"] is False
    return problem


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"responses": []}, "responses"),
        ({"responses": ["x"] * 65}, "responses"),
        ({"responses": "x"}, "responses"),
        ({"responses": ["x", 3]}, "responses.1"),
        ({"responses": [{"id": "a"}]}, "responses.0"),
        ({"responses": [{"content": "a", "extra": 1}]}, "responses.0.extra"),
        ({"responses": None}, "responses"),
        ({"k": 0}, "k"),
        ({"k": 65}, "k"),
        ({"k": "8"}, "k"),
        ({"k": 2.5}, "k"),
        ({"k": True}, "k"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**63}, "seed"),
        ({"temperature": 3}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"timeout_s": 0}, "timeout_s"),
        ({"unknown": 1}, "unknown"),
        ({"principles": {"mode": "best"}}, "principles.mode"),
        ({"principles": {"items": [{"text": "", "weight": 1}]}}, "principles.items.0.text"),
        ({"principles": {"items": [{"text": "x", "weight": 7}]}}, "principles.items.0.weight"),
        ({"messages": [{"role": "user", "content": "q"}]}, ""),
        ({"query": None}, ""),
        ({"query": None, "messages": []}, "messages"),
        ({"query": None, "messages": [{"role": "robot", "content": "q"}]}, "messages.0.role"),
        ({"query": "a\x00b"}, "query"),
        ({"responses": ["ok", "a\ud800b"]}, "responses.1.content"),
        ({"\ud800": 1}, ""),
    ],
    ids=str,
)
async def test_invalid_field_is_named(serve, change, field):
    problem = await expect_refusal(serve, json.dumps(PAIR | change).encode(), 422)
    assert problem["code"] == "invalid_request"
    assert field in [error["field"] for error in problem["errors"]]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
async def test_numbers_must_be_finite(serve, number):
    body = json.dumps(PAIR)[:-1] + f', "temperature": {number}}}'
    problem = await expect_refusal(serve, body.encode(), 422)
    assert problem["errors"][0]["field"] == "temperature"


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"{", 422),
        (b"", 422),
        (b"[]", 422),
        (b"null", 422),
        (b'{"query": "\xff\xfe"}', 400),
        (b"[" * 100_000, 400),
    ],
    ids=["broken", "empty", "array", "null", "latin", "deep"],
)
async def test_body_must_be_a_json_object(serve, content, status):
    await expect_refusal(serve, content, status)


async def test_unknown_name_lists_the_known_ones(serve):
    problem = await expect_refusal(serve, json.dumps(PAIR | {"profile": "nope"}).encode(), 404)
    assert problem["code"] == "unknown_profile"
    assert "smollm2-judge" in problem["detail"]
    problem = await expect_refusal(serve, json.dumps(PAIR | {"principles": {"set": "nope"}}).encode(), 404)
    assert problem["code"] == "unknown_principle_set"
    assert "helpfulness" in problem["detail"]


async def test_profile_of_another_model_is_refused(serve):
    problem = await expect_refusal(serve, json.dumps(PAIR | {"profile": "deepseek-grm-27b"}).encode(), 409)
    assert "--profile deepseek-grm-27b" in problem["detail"]


async def test_generic_profile_is_served(serve):
    async with serve() as client:
        reply = await client.post("/v1/rewards", json=PAIR | {"profile": "generic-judge"})
    assert reply.json()["profile"] == "generic-judge"


async def test_fixed_mode_requires_principles(serve):
    problem = await expect_refusal(serve, json.dumps(PAIR | {"principles": {"mode": "fixed"}}).encode(), 422)
    assert "principles.items or principles.set" in problem["detail"]


async def test_long_text_is_refused_with_sizes(serve):
    problem = await expect_refusal(
        serve, json.dumps(PAIR | {"responses": ["x" * 101]}).encode(), 422, max_text_chars=100
    )
    assert problem["code"] == "text_too_long"
    assert "responses.0 has 101 characters; the limit is 100" in problem["detail"]


@pytest.mark.parametrize("with_length", [True, False], ids=["content-length", "chunked"])
async def test_large_body_is_413(serve, with_length):
    async def chunks():
        for _ in range(20):
            yield b"x" * 100

    content = b"x" * 2000 if with_length else chunks()
    problem = await expect_refusal(serve, content, 413, max_body_bytes=1024)
    assert "1024 bytes" in problem["detail"]


async def test_all_unreadable_has_null_rewards(serve):
    async with serve(script="unreadable") as client:
        reply = await client.post("/v1/rewards", json=PAIR)
    problem = reply.json()
    assert reply.status_code == 502
    assert problem["code"] == "all_unreadable"
    assert problem["retryable"] is True
    assert problem["rewards"] == [None, None]
    assert problem["reasons"] == {"no_scores": 2}
    assert len(problem["samples"]) == 2


async def test_soft_scores_require_logprobs(serve):
    async with serve() as client:
        client.service.engine.abilities = Abilities(alternatives=False)
        reply = await client.post("/v1/rewards", json=PAIR | {"score": "soft"})
        ready = (await client.get("/readyz")).json()
    assert reply.status_code == 422
    assert reply.json()["code"] == "soft_not_served"
    assert ready["lacks"] == ["alternatives"]


async def test_not_ready_is_503(serve):
    async with serve() as client:
        client.service._started.clear()
        reply = await client.post("/v1/rewards", json=PAIR)
        ready = await client.get("/readyz")
    for response in (reply, ready):
        assert response.status_code == 503
        assert response.json()["code"] == "not_ready"
        assert response.headers["retry-after"]


async def test_internal_error_hides_details(serve):
    async with serve() as client:
        client.service.engine.complete = None
        reply = await client.post("/v1/rewards", json=PAIR)
    assert reply.status_code == 500
    assert reply.json()["code"] == "internal"
    assert "NoneType" not in reply.text


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nope", 404), ("GET", "/v1/rewards", 405)])
async def test_unknown_routes_are_problems(serve, method, path, status):
    async with serve() as client:
        reply: httpx.Response = await client.request(method, path)
    assert reply.status_code == status
    assert reply.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("path", ["/v1/reviews/stats?profile=a&profile=b", "/classify?k=1&k=2"])
async def test_repeated_parameter_is_refused(serve, path):
    async with serve() as client:
        method = "GET" if path.startswith("/v1") else "POST"
        reply = await client.request(method, path, json=None if method == "GET" else {"input": "a"})
    assert reply.status_code == 422
    assert "2 times" in reply.json()["detail"]
