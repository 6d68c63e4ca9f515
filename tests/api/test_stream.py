"""POST /v1/rewards as server-sent events."""

import json

import pytest

pytestmark = pytest.mark.anyio
PAIR = {"query": "Name a prime.", "responses": ["11", "12"], "k": 4}
EVENTS = {"Accept": "text/event-stream"}


def read(answer):
    assert answer.headers["content-type"].startswith("text/event-stream")
    blocks = [block.splitlines() for block in answer.text.strip().split("\n\n")]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in blocks]


@pytest.mark.parametrize("how", [{"headers": EVENTS}, {"more": {"stream": True}}], ids=["accept", "body"])
async def test_plan_samples_and_verdict(serve, how):
    async with serve() as client:
        body = PAIR | how.get("more", {})
        events = read(await client.post("/v1/rewards", json=body, headers=how.get("headers")))
    async with serve() as client:
        reply = (await client.post("/v1/rewards", json=PAIR)).json()
    assert [name for name, _ in events] == ["plan", *["sample"] * 4, "verdict"]
    plan, verdict = events[0][1], events[-1][1]
    samples = {sample["index"]: sample for _, sample in events[1:-1]}
    for index, sample in samples.items():
        assert sample == reply["samples"][index]
        assert (plan["orders"][index], plan["seeds"][index]) == (sample["order"], sample["seed"])
    assert verdict["rewards"] == reply["rewards"]
    assert verdict["samples"] == reply["samples"]


async def test_repeated_request_streams_the_same(serve):
    async with serve() as client:
        first, second = [read(await client.post("/v1/rewards", json=PAIR, headers=EVENTS)) for _ in range(2)]
    assert [name for name, _ in second] == ["plan", *["sample"] * 4, "verdict"]
    assert second[0] == first[0]
    assert second[-1] == first[-1]


async def test_late_failure_is_an_error_event(serve):
    async with serve(script="unreadable") as client:
        events = read(await client.post("/v1/rewards", json=PAIR, headers=EVENTS))
    assert [name for name, _ in events] == ["plan", *["sample"] * 4, "error"]
    assert events[-1][1]["code"] == "all_unreadable"
    assert events[-1][1]["rewards"] == [None, None]


async def test_early_failure_is_a_problem(serve):
    async with serve() as client:
        answer = await client.post("/v1/rewards", json=PAIR | {"profile": "nobody"}, headers=EVENTS)
    assert answer.status_code == 404
    assert answer.json()["code"] == "unknown_profile"


async def test_detail_rewards_omits_samples(serve):
    async with serve() as client:
        body = PAIR | {"detail": "rewards"}
        events = read(await client.post("/v1/rewards", json=body, headers=EVENTS))
    assert "samples" not in events[-1][1]
