"""What is counted of samples, places, deadlines and requests that were not taken."""

import asyncio

import pytest

from grm_service.api.schemas import RewardRequest
from grm_service.engines.scripted import ScriptedEngine
from tests.api.test_repeats import gated  # noqa: F401  a fixture
from tests.api.test_telemetry import counted
from tests.waiting import until

pytestmark = pytest.mark.anyio
PAIR = {"query": "Name a prime.", "responses": ["11", "12"], "k": 4}
PROFILE = "smollm2-judge"


async def post(client, **changes):
    return await client.post("/v1/rewards", json=PAIR | changes)


def outcomes(found):
    return {labels[0]: n for (name, *labels), n in found.items() if name == "grm_samples_total"}


async def test_samples_are_counted_also_where_no_verdict_comes_of_them(serve):
    async with serve(script="unreadable") as client:
        await post(client)
        found = await counted(client)
    assert outcomes(found) == {"no_scores": 4}
    assert found["grm_tokens_total", "completion"] > 0
    assert found["grm_sample_seconds_count",] == 0


async def test_samples_that_time_ran_out_for_are_counted_as_such(serve, gated):  # noqa: F811
    async with serve() as client:
        await post(client, timeout_s=0.05)
        found = await counted(client)
        assert outcomes(found) == {"deadline_exceeded": 4}
        assert found["grm_deadlines_exceeded_total", "failed"] == 1

        async def half(prompt, params):
            gated.asked += 1
            if gated.asked > 6:
                await asyncio.Event().wait()
            return await ScriptedEngine().complete(prompt, params)

        gated.complete = half
        assert (await post(client, timeout_s=0.2, seed=1)).json()["status"] == "partial"
        found = await counted(client)
    assert outcomes(found) == {"deadline_exceeded": 6, "ok": 2}
    assert found["grm_deadlines_exceeded_total", "partial"] == 1
    assert found["grm_valid_sum", PROFILE] == 0.5


async def test_one_that_is_shed_from_the_line_is_a_deadline_and_a_rejection(serve, gated):  # noqa: F811
    async with serve(max_samples=4) as client:
        running = asyncio.create_task(post(client))
        await until(lambda: gated.asked == 4)
        assert (await post(client, seed=1, timeout_s=0.05)).status_code == 504
        found = await counted(client)
        gated.gate.set()
        await running
    assert found["grm_deadlines_exceeded_total", "shed"] == 1
    assert found["grm_rejected_total", "shed"] == 1
    assert outcomes(found) == {}


async def test_a_client_that_leaves_is_counted_with_its_samples(serve, gated):  # noqa: F811
    async with serve() as client:
        left, messages = asyncio.Event(), []
        body = RewardRequest(**PAIR).model_dump_json().encode()

        async def receive():
            if not messages:
                messages.append("body")
                return {"type": "http.request", "body": body}
            await left.wait()
            return {"type": "http.disconnect"}

        async def send(message):
            messages.append(message)

        headers = [(b"content-type", b"application/json")]
        scope = {"type": "http", "method": "POST", "path": "/v1/rewards", "headers": headers}
        app = client._transport.app
        asking = asyncio.create_task(app(scope | {"query_string": b"", "http_version": "1.1"}, receive, send))
        await until(lambda: gated.asked == 4)
        assert (await counted(client))["grm_requests_in_flight",] == 1
        left.set()
        await asking
        found = await counted(client)
    assert outcomes(found) == {"cancelled": 4}
    assert found["grm_requests_total", "/v1/rewards", "499"] == 1
    assert found["grm_requests_in_flight",] == 0
    assert not any(name == "grm_rejected_total" for name, *_ in found)


async def test_probes_are_neither_in_flight_nor_rejected(serve):
    async with serve() as client:
        client.service.drain()
        assert (await client.get("/readyz")).status_code == 503
        found = await counted(client)
    assert found["grm_requests_in_flight",] == 0
    assert found["grm_requests_total", "/readyz", "503"] == 1
    assert not any(name == "grm_rejected_total" for name, *_ in found)


@pytest.mark.parametrize(("script", "first"), [("first", 8), ("content", 4)])
async def test_a_judge_that_likes_a_place_shows_beside_what_a_blind_one_would_give(serve, script, first):
    async with serve(script=script) as client:
        await post(client, k=8, temperature=0)
        found = await counted(client)
    assert found["grm_top_shown_expected_total", PROFILE] == 4
    assert found["grm_top_shown_total", "first", PROFILE] == first
    assert found["grm_top_shown_total", "last", PROFILE] == 8 - first


async def test_equal_scores_and_single_responses_speak_for_no_place(serve):
    async with serve() as client:
        client.service.engine._write = lambda prompt, params: "Scores: \\boxed{5, 5}"
        await post(client)
        client.service.engine._write = lambda prompt, params: "Scores: \\boxed{5}"
        await post(client, responses=["11"])
        found = await counted(client)
    assert found["grm_top_shown_expected_total", PROFILE] == 2
    assert found["grm_top_shown_total", "first", PROFILE] == 2
    assert found["grm_responses_count", PROFILE] == 2


async def test_the_spread_of_a_response_s_scores_is_seen(serve):
    async with serve(script="first") as client:
        await post(client)
        found = await counted(client)
    assert found["grm_std_count", PROFILE] == 2
    assert found["grm_std_sum", PROFILE] == 6  # 9 and 3 in turn, for each of two
    assert found["grm_valid_sum", PROFILE] == 1


async def test_principles_cost_tokens_once_however_many_judge_by_them(serve):
    async with serve() as client:
        await client.post("/v1/principles", json={"query": PAIR["query"]})
        written = (await counted(client))["grm_tokens_total", "completion"]
        assert written > 0
        await post(client, principles={"mode": "query"})
        found = await counted(client)
        samples = (await post(client, principles={"mode": "query"})).json()["samples"]
    spent = sum(sample["completion_tokens"] for sample in samples)
    assert found["grm_tokens_total", "completion"] == written + spent


async def test_labels_stay_few_whatever_is_asked(serve):
    async with serve() as client:
        for i in range(20):
            await post(client, profile=f"nobody-{i}")
            await client.get(f"/nowhere/{i}", headers={"X-Request-ID": f"id-{i}"})
            await client.post("/v1/rewards", content=b"x", headers={"Content-Encoding": f"odd-{i}"})
        found = await counted(client)
    assert not [labels for _, *labels in found if any(label.endswith("-7") for label in labels)]
    assert len([1 for name, *_ in found if name in ("grm_requests_total", "grm_rejected_total")]) <= 8
