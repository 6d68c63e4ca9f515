"""Metrics of verdicts, request ids, and JSON log lines."""

import gzip
import json
import secrets

import pytest

from tests.api.helpers import failing, read_metrics

pytestmark = pytest.mark.anyio
PAIR = {"query": "Name a prime.", "responses": ["11", "12"], "k": 4}
TELEMETRY = "grm_service.api.telemetry"
TRACE = "00-" + 32 * "a" + "-" + 16 * "b" + "-01"


async def test_verdict_metrics(serve):
    async with serve() as client:
        for _ in range(2):
            await client.post("/v1/rewards", json=PAIR)
        await client.post("/v1/rewards", json=PAIR | {"k": 0})
        await client.post("/v1/rewards", json=PAIR | {"profile": "nobody"})
        await client.get("/nowhere/secret")
        metrics = await read_metrics(client)
    assert metrics["grm_requests_total", "/v1/rewards", "200"] == 2
    assert metrics["grm_requests_total", "/v1/rewards", "422"] == 1
    assert metrics["grm_requests_total", "404", "unknown"] == 1
    assert metrics["grm_replays_total", "miss"] == metrics["grm_replays_total", "hit"] == 1
    assert metrics["grm_failures_total", "unknown_profile"] == 1
    assert metrics["grm_samples_total", "ok"] == 4
    assert metrics["grm_tokens_total", "completion"] > 0
    assert metrics["grm_judge_seconds_count", "smollm2-judge"] == 1
    assert metrics["grm_agreement_count", "smollm2-judge"] == 1
    assert metrics["grm_rewards_count", "smollm2-judge"] == 2
    assert metrics["grm_waiting_requests",] == metrics["grm_samples_in_flight",] == 0


async def test_path_key_is_not_a_label(serve):
    compressed = gzip.compress(json.dumps(PAIR).encode())
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    async with serve() as client:
        reply = await client.post("/t/key/v1/rewards", content=compressed, headers=headers)
        assert reply.status_code == 200
        assert (await read_metrics(client))["grm_requests_total", "/v1/rewards", "200"] == 1


async def test_ties_and_unreadable_samples_are_counted(serve):
    async with serve(script="first") as client:
        await client.post("/v1/rewards", json=PAIR)
        assert (await read_metrics(client))["grm_zero_spread_total", "smollm2-judge"] == 1
    async with serve(script="unreadable") as client:
        await client.post("/v1/rewards", json=PAIR)
        assert (await read_metrics(client))["grm_failures_total", "all_unreadable"] == 1


async def test_reply_has_a_request_id(serve):
    async with serve() as client:
        with_id = await client.get("/livez", headers={"X-Request-ID": "step-7:a.b_c"})
        with_invalid_id = await client.get("/livez", headers={"X-Request-ID": "bad\tid"})
        refused = await client.post("/v1/rewards", json={})
    assert with_id.headers["x-request-id"] == "step-7:a.b_c"
    assert len(with_invalid_id.headers["x-request-id"]) == 32
    assert refused.headers["x-request-id"]


async def test_log_lines_have_request_and_trace(serve, log_lines):
    async with serve() as client:
        await client.get("/livez", headers={"X-Request-ID": "seven", "traceparent": TRACE})
    (line,) = [line for line in log_lines() if line["logger"].startswith("grm_service.api")]
    assert line["request_id"] == "seven"
    assert line["trace_id"] == 32 * "a"
    assert line["level"] == "INFO"
    assert line["time"]


async def test_internal_error_has_a_request_id(serve, log_lines):
    async with serve() as client:
        client.service.engine.complete = None
        reply = await client.post("/v1/rewards", json=PAIR, headers={"X-Request-ID": "seven"})
        assert (await read_metrics(client))["grm_requests_total", "/v1/rewards", "500"] == 1
    assert (reply.status_code, reply.headers["x-request-id"]) == (500, "seven")
    (line,) = [line for line in log_lines() if line["level"] == "ERROR"]
    assert line["request_id"] == "seven"
    assert "NoneType" in line["exc_info"]


async def test_keys_never_reach_the_log(serve, log_lines):
    key = "grm_" + secrets.token_urlsafe(32)
    async with serve() as client:
        await client.request(f"AAAA{key}", f"/t/{key}/v1/usage")
        await client.request("B" * 30_000, "/x")
        for path in (f"/{key}/x", f"/v1/rewards/{key}", f"/t/{key}/v1/verdicts?search={key}&{key}={key}"):
            await client.get(path, headers={"Cookie": key, "User-Agent": key, "traceparent": key})
        await client.get("/v1/usage", headers={"X-Request-ID": key})
        client.service.engine.complete = failing(ValueError(f"{key} " + "x" * 100_000))
        await client.post("/v1/rewards", json=PAIR, headers={"X-Request-ID": f"a:{key}"})
        assert key not in str(await read_metrics(client))
    lines = [json.dumps(line) for line in log_lines()]
    assert key[4:] not in str(lines)
    assert max(map(len, lines)) < 10_000
    methods = [line["message"].split()[0] for line in log_lines() if line["logger"] == TELEMETRY]
    assert methods[:3] == ["_OTHER", "_OTHER", "GET"]
