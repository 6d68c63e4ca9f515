"""NeMo Gym's clients, written from their description, and verifiers' own task for NeMo Gym's servers."""

import asyncio
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import aiohttp
import httpx
import pytest
from pydantic import BaseModel, Field

from tests.conformance.wheels import defined

pytestmark = [pytest.mark.anyio, pytest.mark.conformance]
GYM, WHEEL = "NeMo Gym, from its description", "verifiers==0.4.0"
TASKSET = "verifiers/v1/tasksets/nemo_gym"
QUERY = "Name a prime."
ANSWERS = ["11", "twelve", "13", "a prime is a number"]


def params(query):
    return {"input": [{"role": "user", "content": query}], "temperature": 1.0}


def response(answer):
    content = [{"type": "output_text", "text": answer, "annotations": []}]
    message = {"id": "m", "type": "message", "role": "assistant", "status": "completed", "content": content}
    return {"id": "r", "object": "response", "output": [{"type": "reasoning", "summary": []}, message]}


async def verify(url, query, answers, options=""):
    """Send rows with indices, as Gym's collector, which stores the whole reply as the rollout."""
    async with aiohttp.ClientSession() as session:

        async def one(index, answer):
            row = {
                "responses_create_params": params(query),
                "response": response(answer),
                "expected": ["11", "13"],
                **{"_ng_task_index": 0, "_ng_rollout_index": index},
                **{"_ng_group_id": "g", "_ng_group_attempt": 0},
            }
            async with session.post(f"{url}/verify{options}", json=row) as reply:
                reply.raise_for_status()
                rollout = await reply.json()
            assert {name: rollout[name] for name in row} == row, "the row is returned unchanged"
            return rollout

        return await asyncio.gather(*(one(i, answer) for i, answer in enumerate(answers)))


async def test_gym_rewards_of_a_group(url, native, report):
    rollouts = await verify(url, QUERY, ANSWERS, "?k=4&group=4")
    assert [each["reward"] for each in rollouts] == pytest.approx(await native.rewards(QUERY, ANSWERS))
    report(GYM, "/verify", "a group", "4 calls, 1 verdict, rows echoed")
    objects = [response(answer) for answer in ANSWERS]
    body = {"conversation_history": params(QUERY)["input"], "response_objs": objects}
    compared = (await native.client.post("/compare?k=4", json=body)).json()
    assert compared["rewards"] == pytest.approx([each["reward"] for each in rollouts])
    report(GYM, "/compare", "a group", "1 call, 1 verdict")


async def test_full_queue_holds_gym(crowded, report):
    (rollout,) = await verify(str(crowded.client.base_url), QUERY, ["11"], "?k=2&window_s=0")
    assert "_ng_failure_class" not in rollout
    assert await crowded.refused() >= 1
    report(GYM, "/verify", "full queue", "held: 1 call, then its reward")


async def test_gym_masks_unreadable_samples(url, report):
    (rollout,) = await verify(url, "please garbage", ["11"], "?k=2&window_s=0")
    assert rollout["_ng_failure_class"] == "judge_failed"
    assert rollout["instance_config"]["mask_sample"] is True
    report(GYM, "/verify", "unreadable", "200, judge_failed, mask_sample")


@dataclass
class AssistantMessage:
    content: str
    tool_calls: tuple = ()
    provider_state: tuple = ()
    reasoning_content: str = "It asks for a prime."


class Trace:
    """A single-turn rollout."""

    id = "t"

    def __init__(self, answer, state):
        node = SimpleNamespace(message=AssistantMessage(answer), sampled=True, timestamp=0.0)
        self.branches, self.state = [SimpleNamespace(nodes=[node])], state
        self.info, self.metrics = {}, {}

    def record_metric(self, name, value):
        self.metrics[name] = value


class Task:
    """A stand-in for verifiers' generic class."""

    def __class_getitem__(cls, _):
        return cls


async def rollout(url, query, answer):
    """Run verifiers' task from setup to reward; return the reward and the trace."""
    state = defined(
        *(WHEEL, f"{TASKSET}/toolset.py", "NeMoGymState"),
        **{"State": BaseModel, "Field": Field, "httpx": httpx},
    )["NeMoGymState"]
    state.model_rebuild(_types_namespace={"Any": Any})
    module = defined(
        *(WHEEL, f"{TASKSET}/response.py", "trace_to_nemo_response"),
        AssistantMessage=AssistantMessage,
        ToolMessage=type(None),
    )
    kind = defined(
        *(WHEEL, f"{TASKSET}/taskset.py", "NeMoGymTask"),
        **dict.fromkeys(("NeMoGymData", "NeMoGymState", "NeMoGymTaskConfig")),
        Task=Task,
        trace_to_nemo_response=module["trace_to_nemo_response"],
        reward=lambda weight: lambda function: function,
    )["NeMoGymTask"]
    task, trace = kind(), Trace(answer, state())
    task.config = SimpleNamespace(resources_url=f"{url}/", headers={}, request_timeout=60.0)
    task.data = SimpleNamespace(row={"responses_create_params": params(query), "expected": "11"})
    await task.setup(trace, None)
    return await task.nemo_gym(trace), trace


async def test_verifiers_rewards_of_a_group(url, native, report):
    rollouts = await asyncio.gather(*(rollout(url, QUERY, answer) for answer in ANSWERS))
    rewards = [reward for reward, _ in rollouts]
    assert rewards == pytest.approx(await native.rewards(QUERY, ANSWERS, k=None))
    for _, trace in rollouts:
        assert trace.metrics["group_size"] == 4
        assert trace.info["nemo_gym"]["expected"] == "11"
    report(WHEEL, "/seed_session, /verify", "a group", "4 calls, 1 verdict at the window's end")


async def test_verifiers_gets_an_error(url, report):
    """It does not know masks."""
    with pytest.raises(httpx.HTTPStatusError, match="502"):
        await rollout(url, "please garbage", "11")
    report(WHEEL, "/seed_session, /verify", "unreadable", "502, raises: the rollout is an error")


async def test_full_queue_holds_verifiers(crowded, report):
    reward, _ = await rollout(str(crowded.client.base_url).rstrip("/"), QUERY, "11")
    assert 1 <= reward <= 10
    assert await crowded.refused() >= 1
    report(WHEEL, "/seed_session, /verify", "full queue", "held: 1 call, then its reward")
