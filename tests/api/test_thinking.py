"""Thinking in replies, streams, records and metrics, and the requests that a model that thinks refuses."""

import json
from dataclasses import replace

import pytest

from grm_service.client.verdict import parse_verdict
from grm_service.engines.base import Abilities, ThinkingBehavior
from grm_service.engines.scripted import SCRIPTS
from grm_service.profiles.profile import ThinkingSettings
from tests.api.helpers import read_metrics
from tests.api.test_stream import EVENTS, read

pytestmark = pytest.mark.anyio
PAIR = {"query": "Name a prime.", "responses": ["11", "12"], "k": 2}
DRAFT = "A secret draft: \\boxed{1, 10}"
INLINE = ThinkingBehavior(thinks="inline")
LOSES_THINKING = Abilities(continues_thinking=False)


def thinks(prompt, params):
    """Write a draft, then the scripted critique; continue a critique without one."""
    text = SCRIPTS["content"](prompt, params)
    return text if "\\boxed{" in prompt.continuation else f"<think>\n{DRAFT}\n</think>\n\n{text}"


def cut(prompt, params):
    """Write a draft that does not end; continue it with the scripted scores."""
    return SCRIPTS["content"](prompt, params) if "\\boxed{" in prompt.continuation else f"<think>{DRAFT}"


async def judged(client, script=thinks, **more):
    client.service.engine._write = script
    reply = await client.post("/v1/rewards", json=PAIR | more)
    assert reply.status_code == 200, reply.text
    return reply.json()


async def test_thinking_is_apart_from_text(serve):
    async with serve() as client:
        plain = (await client.post("/v1/rewards", json=PAIR)).json()
        reply = await judged(client, seed=1)
    assert [sample["thinking"] for sample in plain["samples"]] == [None, None]
    for sample in reply["samples"]:
        assert sample["thinking"] == DRAFT
        assert "draft" not in sample["text"]
        assert not sample["thinking_cut"]
        assert (sample["closed_reason"], sample["soft_error"]) == (None, None)


async def test_cut_thinking_has_a_reason(serve):
    async with serve() as client:
        reply = await judged(client, cut)
        metrics = await read_metrics(client)
    for sample in reply["samples"]:
        assert (sample["thinking"], sample["thinking_cut"]) == (DRAFT, True)
        assert (sample["closed"], sample["closed_reason"]) == (True, "cut_in_thinking")
    assert metrics["grm_samples_total", "closed"] == 2


async def test_soft_errors_have_a_reason(serve):
    async with serve() as client:
        client.service.engine.abilities = LOSES_THINKING
        scripts = iter([thinks])
        reply = await judged(client, lambda *asked: next(scripts, SCRIPTS["content"])(*asked), score="soft")
    lost, scored = sorted(reply["samples"], key=lambda sample: sample["soft_error"] is None)
    assert (lost["expected"], lost["soft_error"]) == (None, "soft_not_served")
    assert lost["scores"]
    assert scored["expected"]


async def test_thinking_is_streamed_and_left_out(serve):
    async with serve() as client:
        client.service.engine._write = thinks
        events = read(await client.post("/v1/rewards", json=PAIR, headers=EVENTS))
        short = await client.post("/v1/rewards", json=PAIR | {"detail": "rewards"}, headers=EVENTS)
        (bare,) = [data for name, data in read(short) if name == "verdict"]
        reply = await judged(client, detail="rewards")
    assert [data["thinking"] for name, data in events if name == "sample"] == [DRAFT, DRAFT]
    assert "draft" not in json.dumps(bare)
    assert "draft" not in json.dumps(reply)


async def test_client_has_the_thinking(serve):
    async with serve() as client:
        reply = await judged(client, cut)
    sample = parse_verdict(reply, 2).samples[0]
    assert (sample.thinking, sample.thinking_cut, sample.closed_reason) == (DRAFT, True, "cut_in_thinking")
    for name in ("thinking", "thinking_cut", "closed_reason", "soft_error"):
        for each in reply["samples"]:
            del each[name]  # as in the reply of an older service
    assert parse_verdict(reply, 2).samples[0].thinking is None


async def test_stored_verdicts_have_the_thinking(serve):
    async with serve() as client:
        reply = await judged(client, thinking_tokens=50)
        stored = (await client.get(f"/v1/verdicts/{reply['id']}")).json()
    assert stored["verdict"]["samples"] == reply["samples"]
    assert stored["request"]["thinking_tokens"] == 50


async def test_stored_thinking_is_hashed_without_texts(serve):
    async with serve(audit_text=False) as client:
        reply = await judged(client)
        stored = (await client.get(f"/v1/verdicts/{reply['id']}")).text
    assert "draft" not in stored
    assert json.loads(stored)["verdict"]["samples"][0]["thinking"].startswith("sha256:")


async def test_readyz_has_the_thinking(serve):
    async with serve() as client:
        engine = client.service.engine
        before = (await client.get("/readyz")).json()
        engine.thinking, engine.abilities = ThinkingBehavior("field", opened=True), LOSES_THINKING
        engine.dropped_fields = ("seed", "top_p")
        ready = (await client.get("/readyz")).json()
    assert before["thinking"] == {"thinks": None, "opened": False, "can_disable": False}
    assert before["dropped_fields"] == {}
    assert ready["thinking"] == {"thinks": "field", "opened": True, "can_disable": False}
    assert ready["lacks"] == ["continues_thinking"]
    assert ready["dropped_fields"] == {
        "seed": "verdicts cannot be reproduced",
        "top_p": "the server's own value applies",
    }


OFF_IN_PROFILE = ThinkingSettings(off={"chat_template_kwargs": {"enable_thinking": False}})
CAN_DISABLE = ThinkingBehavior("inline", can_disable=True)


@pytest.mark.parametrize(
    ("thinking", "settings", "served"),
    [
        (INLINE, ThinkingSettings(), False),
        (ThinkingBehavior("field", opened=True), ThinkingSettings(), False),
        (ThinkingBehavior(), ThinkingSettings(), True),
        (CAN_DISABLE, ThinkingSettings(), True),
        (INLINE, OFF_IN_PROFILE, True),
    ],
)
@pytest.mark.parametrize("door", ["request", "profile", "dialect"])
async def test_thinking_off_needs_a_way(serve, thinking, settings, served, door):
    async with serve() as client:
        service = client.service
        service.engine.thinking = thinking
        tokens = 0 if door == "profile" else None
        profile = replace(service.profile, thinking=replace(settings, tokens=tokens))
        service.validator._default = profile
        asked = {} if door == "profile" else {"thinking_tokens": 0}
        if door == "dialect":
            reply = await client.post("/v1/rewards/single", params={"window_s": 0} | asked, json=SINGLE)
        else:
            reply = await client.post("/v1/rewards", json=PAIR | asked)
    assert reply.status_code == (200 if served else 422), reply.text
    if not served:
        assert "thinking.off" in reply.json()["detail"]


SINGLE = {"query": "Name a prime.", "response": "11"}


@pytest.mark.parametrize(
    ("thinking", "abilities", "tokens", "words"),
    [
        (INLINE, LOSES_THINKING, None, "thinking"),
        (CAN_DISABLE, LOSES_THINKING, 100, "thinking"),
        (CAN_DISABLE, LOSES_THINKING, 0, None),
        (INLINE, Abilities(), None, None),
        (ThinkingBehavior(), LOSES_THINKING, None, None),
        (ThinkingBehavior(), Abilities(continues=False), None, "logprobs"),
        (INLINE, Abilities(alternatives=False), None, "logprobs"),
    ],
)
async def test_soft_needs_the_thinking(serve, thinking, abilities, tokens, words):
    async with serve() as client:
        client.service.engine.thinking, client.service.engine.abilities = thinking, abilities
        reply = await client.post("/v1/rewards", json=PAIR | {"score": "soft", "thinking_tokens": tokens})
    if words is None:
        assert reply.status_code == 200, reply.text
    else:
        assert (reply.status_code, reply.json()["code"]) == (422, "soft_not_served")
        assert words in reply.json()["detail"]
        assert "'hard'" in reply.json()["detail"]
