"""One judgement as server-sent events."""

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
async def test_a_plan_each_sample_and_the_verdict(serve, how):
    async with serve() as client:
        body = PAIR | how.get("more", {})
        events = read(await client.post("/v1/rewards", json=body, headers=how.get("headers")))
    async with serve() as client:
        whole = (await client.post("/v1/rewards", json=PAIR)).json()
    assert [name for name, _ in events] == ["plan", *["sample"] * 4, "verdict"]
    plan, verdict = events[0][1], events[-1][1]
    samples = {sample["index"]: sample for _, sample in events[1:-1]}
    for index, sample in samples.items():
        assert sample == whole["samples"][index]
        assert (plan["orders"][index], plan["seeds"][index]) == (sample["order"], sample["seed"])
    assert verdict["rewards"] == whole["rewards"]
    assert verdict["samples"] == whole["samples"]


async def test_a_verdict_given_again_streams_the_same(serve):
    async with serve() as client:
        first, second = [read(await client.post("/v1/rewards", json=PAIR, headers=EVENTS)) for _ in range(2)]
    assert [name for name, _ in second] == ["plan", *["sample"] * 4, "verdict"]
    assert second[0] == first[0]
    assert second[-1] == first[-1]


async def test_what_fails_on_the_way_is_an_error_event(serve):
    async with serve(script="unreadable") as client:
        events = read(await client.post("/v1/rewards", json=PAIR, headers=EVENTS))
    assert [name for name, _ in events] == ["plan", *["sample"] * 4, "error"]
    assert events[-1][1]["code"] == "all_unreadable"
    assert events[-1][1]["rewards"] == [None, None]


async def test_what_is_refused_before_is_a_problem_as_ever(serve):
    async with serve() as client:
        answer = await client.post("/v1/rewards", json=PAIR | {"profile": "nobody"}, headers=EVENTS)
    assert answer.status_code == 404
    assert answer.json()["code"] == "unknown_profile"


async def test_details_can_be_left_out(serve):
    async with serve() as client:
        body = PAIR | {"detail": "rewards"}
        events = read(await client.post("/v1/rewards", json=body, headers=EVENTS))
    assert "samples" not in events[-1][1]
