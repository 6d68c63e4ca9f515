"""POST /v1/improve, as one reply and as a stream."""

import asyncio
import json

import pytest

from grm_service.errors import EngineError
from tests.api.helpers import failing, never
from tests.api.test_stream import EVENTS, read
from tests.engines.loopback import Loopback
from tests.improving.world import PROFILE, engine_of, policy_of, quality
from tests.waiting import until

pytestmark = pytest.mark.anyio
REQUEST = {"query": "Name a prime.", "n": 3, "rounds": 1, "k": 4, "max_tokens": 64}


def simulate(client, policy, **judges):
    """Let the service's engine simulate policy and judge (tests/improving/world.py)."""
    client.service.engine._write = engine_of(policy, **judges)._write


async def improved(client, **change):
    answer = await client.post("/v1/improve", json=REQUEST | change)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_reply_has_the_lineage(serve):
    async with serve(profile=PROFILE.name) as client:
        simulate(client, policy_of(3, 5, 4), second=quality)
        reply = await improved(client)
        verdict = (await client.get(f"/v1/verdicts/{reply['rounds'][1]['verdict']['id']}")).json()
    assert reply["text"] == reply["drafts"][reply["best"]]["text"]
    assert (reply["original"], reply["drafts"][0]["text"]) == (0, "A draft of quality 3.")
    assert [(d["parent"], d["round"]) for d in reply["drafts"]] == [*[(None, 0)] * 3, *[(1, 1)] * 2]
    assert [d["critiques"] for d in reply["drafts"][3:]] == [[0, 2], [1, 3]]
    first, second = reply["rounds"]
    assert (first["drafts"], first["verdict"]["rewards"], first["gain"]) == ([0, 1, 2], [3, 5, 4], None)
    assert (second["drafts"], second["verdict"]["rewards"]) == ([0, 1, 3, 4], [3, 5, 7, 7])
    assert second["gain"] == {"mean": 2, "error": 0, "clear": True}
    assert first["verdict"]["samples"][0]["analysis"].startswith("Response 1 is of note.")
    assert (reply["gain"]["mean"], reply["stopped"], reply["failure"]) == (4, "rounds", None)
    assert reply["second_opinion"]["shared"] is True
    assert (reply["second_opinion"]["mode"], reply["second_opinion"]["set"]) == ("fixed", "helpfulness")
    assert reply["second_opinion"]["verdict"]["rewards"] == [3, 7]
    assert reply["length"]["growth"] == len(reply["text"]) / len("A draft of quality 3.")
    assert (reply["policy"], reply["judge"]) == ("scripted-content", "scripted-content")
    assert "same_model" in reply["flags"]
    spent = [reply["cost"][who]["completion_tokens"] for who in ("policy", "judge", "second_opinion")]
    assert reply["cost"]["generated"] == sum(spent)
    assert min(spent) > 0
    assert verdict["route"] == "improve"
    assert verdict["request"]["responses"] == [reply["drafts"][i]["text"] for i in second["drafts"]]


async def test_detail_rewards_omits_samples(serve):
    async with serve() as client:
        reply = await improved(client, detail="rewards")
    assert {each["verdict"]["samples"] for each in reply["rounds"]} == {None}


@pytest.mark.parametrize("how", [{"headers": EVENTS}, {"more": {"stream": True}}], ids=["accept", "body"])
async def test_stream_has_all_events(serve, how):
    async with serve(profile=PROFILE.name) as client:
        simulate(client, policy_of(3, 5, 4), second=quality)
        body = REQUEST | how.get("more", {})
        events = read(await client.post("/v1/improve", json=body, headers=how.get("headers")))
        reply = await improved(client)
    names = ["draft"] * 3 + ["round"] + ["draft"] * 2 + ["round", "second_opinion", "improved"]
    assert [name for name, _ in events] == names
    sent = {name: [value for each, value in events if each == name] for name in names}
    assert sent["draft"] == sent["improved"][0]["drafts"] == reply["drafts"]
    assert sent["round"] == sent["improved"][0]["rounds"]
    assert sent["second_opinion"] == [sent["improved"][0]["second_opinion"]]


async def test_late_failure_is_an_error_event(serve):
    async with serve(script="unreadable") as client:
        events = read(await client.post("/v1/improve", json=REQUEST, headers=EVENTS))
    assert [name for name, _ in events] == ["draft"] * 3 + ["error"]
    assert events[-1][1]["code"] == "all_unreadable"


async def test_early_failure_is_a_problem(serve):
    async with serve() as client:
        refused = await client.post("/v1/improve", json=REQUEST | {"profile": "nobody"}, headers=EVENTS)
        poor = REQUEST | {"draft": "11", "budget": {"tokens": 10}}
        too_little = await client.post("/v1/improve", json=poor, headers=EVENTS)
        client.service.engine.complete = failing(EngineError("out of memory"))
        failed = await client.post("/v1/improve", json=REQUEST, headers=EVENTS)
    assert (refused.status_code, refused.json()["code"]) == (404, "unknown_profile")
    assert (too_little.status_code, too_little.json()["code"]) == (422, "bad_request")
    assert (failed.status_code, failed.json()["code"]) == (502, "policy_failed")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n": 0}, "give a 'draft'"),
        ({"query": None, "messages": [{"role": "assistant", "content": "Hi"}]}, "must be the user's"),
        ({"n": 17}, "less than or equal to 16"),
        ({"policy_url": "http://169.254.169.254/v1"}, "unknown field"),
        ({"budget": {"tokens": 10}}, "at least"),
        ({"principles": {"mode": "fixed", "set": "helpfulness"}}, "second_opinion"),
        ({"draft": "x" * 200_001}, "GRM_MAX_TEXT_CHARS"),
    ],
)
async def test_invalid_requests_have_a_reason(serve, change, message):
    async with serve() as client:
        body = {name: value for name, value in (REQUEST | change).items() if value is not None}
        answer = await client.post("/v1/improve", json=body)
    assert answer.status_code == 422
    assert message in json.dumps(answer.json()), answer.text


async def test_disconnect_frees_the_queue(serve):
    async with serve() as client:
        client.service.engine.complete = never
        work = asyncio.create_task(client.post("/v1/improve", json=REQUEST))
        await until(lambda: client.service.queue.in_flight == REQUEST["n"])
        work.cancel()
        await until(lambda: client.service.queue.in_flight == 0)


async def test_settings_name_a_policy_server(serve):
    server = await Loopback(model="writer", name="An answer.").open()
    try:
        async with serve(policy_url=server.url, policy_model="writer", policy_api_key="secret") as client:
            assert server.requests == [], "no request before it is needed"
            reply = await improved(client, n=1, rounds=0)
            assert client.service.queue.in_flight == 0
    finally:
        await server.kill()
    assert (reply["policy"], reply["text"], reply["flags"]) == ("writer", "An answer.", [])
    last = server.requests[-1]
    assert (last["messages"], last["max_tokens"]) == ([{"role": "user", "content": "Name a prime."}], 64)
    assert "authorization: bearer secret" in server.heads[-1]
