"""Metrics of samples, positions, deadlines and rejected requests."""

import asyncio

import pytest

from grm_service.api.schemas import RewardRequest
from grm_service.engines.scripted import ScriptedEngine
from tests.api.helpers import read_metrics
from tests.waiting import until

pytestmark = pytest.mark.anyio
PAIR = {"query": "Name a prime.", "responses": ["11", "12"], "k": 4}
PROFILE = "smollm2-judge"


async def post(client, **changes):
    return await client.post("/v1/rewards", json=PAIR | changes)


def sample_outcomes(metrics):
    return {labels[0]: n for (name, *labels), n in metrics.items() if name == "grm_samples_total"}


async def test_samples_of_failed_verdicts_are_counted(serve):
    async with serve(script="unreadable") as client:
        await post(client)
        metrics = await read_metrics(client)
    assert sample_outcomes(metrics) == {"no_scores": 4}
    assert metrics["grm_tokens_total", "completion"] > 0
    assert metrics["grm_sample_seconds_count",] == 0


async def test_samples_past_the_deadline(serve, gated_engine):
    async with serve() as client:
        await post(client, timeout_s=0.05)
        metrics = await read_metrics(client)
        assert sample_outcomes(metrics) == {"deadline_exceeded": 4}
        assert metrics["grm_deadlines_exceeded_total", "failed"] == 1

        async def complete_two_more(prompt, params):
            gated_engine.calls += 1
            if gated_engine.calls > 6:
                await asyncio.Event().wait()
            return await ScriptedEngine().complete(prompt, params)

        gated_engine.complete = complete_two_more
        assert (await post(client, timeout_s=0.2, seed=1)).json()["status"] == "partial"
        metrics = await read_metrics(client)
    assert sample_outcomes(metrics) == {"deadline_exceeded": 6, "ok": 2}
    assert metrics["grm_deadlines_exceeded_total", "partial"] == 1
    assert metrics["grm_valid_sum", PROFILE] == 0.5


async def test_shed_request(serve, gated_engine):
    """It counts as an exceeded deadline and as a rejection."""
    async with serve(max_samples=4) as client:
        running = asyncio.create_task(post(client))
        await until(lambda: gated_engine.calls == 4)
        assert (await post(client, seed=1, timeout_s=0.05)).status_code == 504
        metrics = await read_metrics(client)
        gated_engine.gate.set()
        await running
    assert metrics["grm_deadlines_exceeded_total", "shed"] == 1
    assert metrics["grm_rejected_total", "shed"] == 1
    assert sample_outcomes(metrics) == {}


async def test_disconnected_client(serve, gated_engine):
    async with serve() as client:
        disconnected, messages = asyncio.Event(), []
        body = RewardRequest(**PAIR).model_dump_json().encode()

        async def receive():
            if not messages:
                messages.append("body")
                return {"type": "http.request", "body": body}
            await disconnected.wait()
            return {"type": "http.disconnect"}

        async def send(message):
            messages.append(message)

        headers = [(b"content-type", b"application/json")]
        scope = {"type": "http", "method": "POST", "path": "/v1/rewards", "headers": headers}
        app = client._transport.app
        request = asyncio.create_task(
            app(scope | {"query_string": b"", "http_version": "1.1"}, receive, send)
        )
        await until(lambda: gated_engine.calls == 4)
        assert (await read_metrics(client))["grm_requests_in_flight",] == 1
        disconnected.set()
        await request
        metrics = await read_metrics(client)
    assert sample_outcomes(metrics) == {"cancelled": 4}
    assert metrics["grm_requests_total", "/v1/rewards", "499"] == 1
    assert metrics["grm_requests_in_flight",] == 0
    assert not any(name == "grm_rejected_total" for name, *_ in metrics)


async def test_health_checks_are_not_rejections(serve):
    async with serve() as client:
        client.service.drain()
        assert (await client.get("/readyz")).status_code == 503
        metrics = await read_metrics(client)
    assert metrics["grm_requests_in_flight",] == 0
    assert metrics["grm_requests_total", "/readyz", "503"] == 1
    assert not any(name == "grm_rejected_total" for name, *_ in metrics)


@pytest.mark.parametrize(("script", "first"), [("first", 8), ("content", 4)])
async def test_position_bias_is_measurable(serve, script, first):
    """`expected` is the value for a judge without position bias."""
    async with serve(script=script) as client:
        await post(client, k=8, temperature=0)
        metrics = await read_metrics(client)
    assert metrics["grm_top_shown_expected_total", PROFILE] == 4
    assert metrics["grm_top_shown_total", "first", PROFILE] == first
    assert metrics["grm_top_shown_total", "last", PROFILE] == 8 - first


async def test_ties_show_no_position_bias(serve):
    async with serve() as client:
        client.service.engine._write = lambda prompt, params: "Scores: \\boxed{5, 5}"
        await post(client)
        client.service.engine._write = lambda prompt, params: "Scores: \\boxed{5}"
        await post(client, responses=["11"])
        metrics = await read_metrics(client)
    assert metrics["grm_top_shown_expected_total", PROFILE] == 2
    assert metrics["grm_top_shown_total", "first", PROFILE] == 2
    assert metrics["grm_responses_count", PROFILE] == 2


async def test_score_spread(serve):
    async with serve(script="first") as client:
        await post(client)
        metrics = await read_metrics(client)
    assert metrics["grm_std_count", PROFILE] == 2
    assert metrics["grm_std_sum", PROFILE] == 6  # scores 9 and 3 in turn, for two responses
    assert metrics["grm_valid_sum", PROFILE] == 1


async def test_principle_tokens_are_counted_once(serve):
    async with serve() as client:
        await client.post("/v1/principles", json={"query": PAIR["query"]})
        written = (await read_metrics(client))["grm_tokens_total", "completion"]
        assert written > 0
        await post(client, principles={"mode": "query"})
        metrics = await read_metrics(client)
        samples = (await post(client, principles={"mode": "query"})).json()["samples"]
    spent = sum(sample["completion_tokens"] for sample in samples)
    assert metrics["grm_tokens_total", "completion"] == written + spent


async def test_label_values_are_bounded(serve):
    async with serve() as client:
        for i in range(20):
            await post(client, profile=f"nobody-{i}")
            await client.get(f"/nowhere/{i}", headers={"X-Request-ID": f"id-{i}"})
            await client.post("/v1/rewards", content=b"x", headers={"Content-Encoding": f"odd-{i}"})
        metrics = await read_metrics(client)
    assert not [labels for _, *labels in metrics if any(label.endswith("-7") for label in labels)]
    assert len([1 for name, *_ in metrics if name in ("grm_requests_total", "grm_rejected_total")]) <= 8
