"""NeMo Gym's clients by their description, and verifiers' task for NeMo Gym's servers by its own code."""

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
GYM, WHEEL = "NeMo Gym, by its description", "verifiers==0.4.0"
TASKSET = "verifiers/v1/tasksets/nemo_gym"
QUERY = "Name a prime."
ANSWERS = ["11", "twelve", "13", "a prime is a number"]


def asked(query):
    return {"input": [{"role": "user", "content": query}], "temperature": 1.0}


def said(answer):
    content = [{"type": "output_text", "text": answer, "annotations": []}]
    message = {"id": "m", "type": "message", "role": "assistant", "status": "completed", "content": content}
    return {"id": "r", "object": "response", "output": [{"type": "reasoning", "summary": []}, message]}


async def verified(url, query, answers, wish=""):
    """Gym's collector: rows with their indices; the whole answer is kept as the rollout."""
    async with aiohttp.ClientSession() as session:

        async def one(index, answer):
            row = {
                "responses_create_params": asked(query),
                "response": said(answer),
                "expected": ["11", "13"],
                **{"_ng_task_index": 0, "_ng_rollout_index": index},
                **{"_ng_group_id": "g", "_ng_group_attempt": 0},
            }
            async with session.post(f"{url}/verify{wish}", json=row) as reply:
                reply.raise_for_status()
                rollout = await reply.json()
            assert {name: rollout[name] for name in row} == row, "the row comes back as it went"
            return rollout

        return await asyncio.gather(*(one(i, answer) for i, answer in enumerate(answers)))


async def test_gym_gets_its_rows_back_with_the_rewards_of_a_group(url, native, told):
    rollouts = await verified(url, QUERY, ANSWERS, "?k=4&group=4")
    assert [each["reward"] for each in rollouts] == pytest.approx(await native.rewards(QUERY, ANSWERS))
    told(GYM, "/verify", "a group", "4 calls, 1 verdict, rows echoed")
    objects = [said(answer) for answer in ANSWERS]
    body = {"conversation_history": asked(QUERY)["input"], "response_objs": objects}
    compared = (await native.client.post("/compare?k=4", json=body)).json()
    assert compared["rewards"] == pytest.approx([each["reward"] for each in rollouts])
    told(GYM, "/compare", "a group", "1 call, 1 verdict")


async def test_gym_is_held_while_the_line_is_full(crowded, told):
    (rollout,) = await verified(str(crowded.client.base_url), QUERY, ["11"], "?k=2&window_s=0")
    assert "_ng_failure_class" not in rollout
    assert await crowded.refused() >= 1
    told(GYM, "/verify", "a full line", "held: 1 call, then its reward")


async def test_gym_masks_what_nobody_could_read(url, told):
    (rollout,) = await verified(url, "please garbage", ["11"], "?k=2&window_s=0")
    assert rollout["_ng_failure_class"] == "judge_failed"
    assert rollout["instance_config"]["mask_sample"] is True
    told(GYM, "/verify", "nobody can read it", "200, judge_failed, mask_sample")


@dataclass
class AssistantMessage:
    content: str
    tool_calls: tuple = ()
    provider_state: tuple = ()
    reasoning_content: str = "It asks for a prime."


class Trace:
    """A rollout of one turn."""

    id = "t"

    def __init__(self, answer, state):
        node = SimpleNamespace(message=AssistantMessage(answer), sampled=True, timestamp=0.0)
        self.branches, self.state = [SimpleNamespace(nodes=[node])], state
        self.info, self.metrics = {}, {}

    def record_metric(self, name, value):
        self.metrics[name] = value


class Task:
    """Stands in for verifiers' generic class."""

    def __class_getitem__(cls, _):
        return cls


async def rollout(url, query, answer):
    """verifiers' task from its setup to its reward; with the trace that it leaves."""
    state = defined(
        *(WHEEL, f"{TASKSET}/toolset.py", "NeMoGymState"),
        **{"State": BaseModel, "Field": Field, "httpx": httpx},
    )["NeMoGymState"]
    state.model_rebuild(_types_namespace={"Any": Any})
    written = defined(
        *(WHEEL, f"{TASKSET}/response.py", "trace_to_nemo_response"),
        AssistantMessage=AssistantMessage,
        ToolMessage=type(None),
    )
    kind = defined(
        *(WHEEL, f"{TASKSET}/taskset.py", "NeMoGymTask"),
        **dict.fromkeys(("NeMoGymData", "NeMoGymState", "NeMoGymTaskConfig")),
        Task=Task,
        trace_to_nemo_response=written["trace_to_nemo_response"],
        reward=lambda weight: lambda function: function,
    )["NeMoGymTask"]
    task, trace = kind(), Trace(answer, state())
    task.config = SimpleNamespace(resources_url=f"{url}/", headers={}, request_timeout=60.0)
    task.data = SimpleNamespace(row={"responses_create_params": asked(query), "expected": "11"})
    await task.setup(trace, None)
    return await task.nemo_gym(trace), trace


async def test_verifiers_reads_rewards_of_a_group(url, native, told):
    rollouts = await asyncio.gather(*(rollout(url, QUERY, answer) for answer in ANSWERS))
    rewards = [reward for reward, _ in rollouts]
    assert rewards == pytest.approx(await native.rewards(QUERY, ANSWERS, k=None))
    for _, trace in rollouts:
        assert trace.metrics["group_size"] == 4
        assert trace.info["nemo_gym"]["expected"] == "11"
    told(WHEEL, "/seed_session, /verify", "a group", "4 calls, 1 verdict at the window's end")


async def test_verifiers_which_knows_no_mask_gets_an_error(url, told):
    with pytest.raises(httpx.HTTPStatusError, match="502"):
        await rollout(url, "please garbage", "11")
    told(WHEEL, "/seed_session, /verify", "nobody can read it", "502, raises: the rollout is an error")


async def test_verifiers_is_held_while_the_line_is_full(crowded, told):
    reward, _ = await rollout(str(crowded.client.base_url).rstrip("/"), QUERY, "11")
    assert 1 <= reward <= 10
    assert await crowded.refused() >= 1
    told(WHEEL, "/seed_session, /verify", "a full line", "held: 1 call, then its reward")
