"""What is counted, and by which id a request is found again."""

import gzip
import io
import json
import logging

import pytest
from prometheus_client.parser import text_string_to_metric_families

from grm_service.api.telemetry import log_json

pytestmark = pytest.mark.anyio
PAIR = {"query": "Name a prime.", "responses": ["11", "12"], "k": 4}
TRACE = "00-" + 32 * "a" + "-" + 16 * "b" + "-01"


async def counted(client):
    text = (await client.get("/metrics")).text
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_a_verdict_is_counted(serve):
    async with serve() as client:
        for _ in range(2):
            await client.post("/v1/rewards", json=PAIR)
        await client.post("/v1/rewards", json=PAIR | {"k": 0})
        await client.post("/v1/rewards", json=PAIR | {"profile": "nobody"})
        await client.get("/nowhere/secret")
        found = await counted(client)
    assert found["grm_requests_total", "/v1/rewards", "200"] == 2
    assert found["grm_requests_total", "/v1/rewards", "422"] == 1
    assert found["grm_requests_total", "404", "unknown"] == 1
    assert found["grm_replays_total", "miss"] == found["grm_replays_total", "hit"] == 1
    assert found["grm_failures_total", "unknown_profile"] == 1
    assert found["grm_samples_total", "ok"] == 4
    assert found["grm_tokens_total", "completion"] > 0
    assert found["grm_judge_seconds_count", "smollm2-judge"] == 1
    assert found["grm_agreement_count", "smollm2-judge"] == 1
    assert found["grm_rewards_count", "smollm2-judge"] == 2
    assert found["grm_waiting_requests",] == found["grm_samples_in_flight",] == 0


async def test_a_packed_request_with_its_key_in_the_path_is_counted_under_its_route(serve):
    packed = gzip.compress(json.dumps(PAIR).encode())
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    async with serve() as client:
        assert (await client.post("/t/key/v1/rewards", content=packed, headers=headers)).status_code == 200
        assert (await counted(client))["grm_requests_total", "/v1/rewards", "200"] == 1


async def test_ties_and_unreadable_samples_are_counted(serve):
    async with serve(script="first") as client:
        await client.post("/v1/rewards", json=PAIR)
        assert (await counted(client))["grm_zero_spread_total", "smollm2-judge"] == 1
    async with serve(script="unreadable") as client:
        await client.post("/v1/rewards", json=PAIR)
        assert (await counted(client))["grm_failures_total", "all_unreadable"] == 1


async def test_a_reply_carries_its_request_s_id(serve):
    async with serve() as client:
        own = await client.get("/livez", headers={"X-Request-ID": "step-7:a.b_c"})
        made = await client.get("/livez", headers={"X-Request-ID": "bad\tid"})
        refused = await client.post("/v1/rewards", json={})
    assert own.headers["x-request-id"] == "step-7:a.b_c"
    assert len(made.headers["x-request-id"]) == 32
    assert refused.headers["x-request-id"]


@pytest.fixture
def logged():
    """Reads the JSON lines that the root logger has written so far."""
    out = io.StringIO()
    handler, root = logging.StreamHandler(out), logging.getLogger()
    before, level = root.handlers[:], root.level
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    log_json()
    yield lambda: [json.loads(line) for line in out.getvalue().splitlines()]
    root.handlers[:] = before
    root.setLevel(level)


async def test_json_lines_carry_the_request_and_the_trace(serve, logged):
    async with serve() as client:
        await client.get("/livez", headers={"X-Request-ID": "seven", "traceparent": TRACE})
    (line,) = [line for line in logged() if line["logger"].startswith("grm_service.api")]
    assert line["request_id"] == "seven"
    assert line["trace_id"] == 32 * "a"
    assert line["level"] == "INFO"
    assert line["time"]


async def test_a_bug_s_reply_carries_the_id_of_its_lines(serve, logged):
    async with serve() as client:
        client.service.engine.complete = None
        answer = await client.post("/v1/rewards", json=PAIR, headers={"X-Request-ID": "seven"})
        assert (await counted(client))["grm_requests_total", "/v1/rewards", "500"] == 1
    assert (answer.status_code, answer.headers["x-request-id"]) == (500, "seven")
    (line,) = [line for line in logged() if line["level"] == "ERROR"]
    assert line["request_id"] == "seven"
    assert "NoneType" in line["exc_info"]
