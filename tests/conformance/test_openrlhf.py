"""OpenRLHF's SingleTurnAgentExecutor, which generates and fetches the reward, and its samples generator."""

import asyncio
import copy
import itertools
import logging
from array import array
from types import SimpleNamespace

import aiohttp
import pytest
import torch

from grm_service.integrations import openrlhf as integration
from tests.conformance.wheels import FastClock, defined

pytestmark = [pytest.mark.anyio, pytest.mark.conformance]
WHEEL = "openrlhf==0.11.2"
QUERY = "Name a prime."
ANSWERS = ["11", "twelve", "13", "a prime is a number"]


class Tokenizer:
    def __call__(self, text, **_):
        return {"input_ids": [array("q", map(ord, text))]}

    def decode(self, tokens, skip_special_tokens):
        assert not skip_special_tokens
        return "".join(map(chr, tokens))


class Engine:
    def __init__(self, answer):
        self.answer = answer

    async def generate(self, *_, **__):
        tokens = list(map(ord, f"{self.answer}<|im_end|>"))
        return SimpleNamespace(
            outputs=[SimpleNamespace(token_ids=tokens, finish_reason="stop", logprobs=None)]
        )


async def sampled(endpoint, query, answers, clock=asyncio):
    """Return the trainer's experiences for the responses to a prompt; each fetches its own reward."""
    stubs = {"aiohttp": aiohttp, "asyncio": clock, "cycle": itertools.cycle, "deepcopy": copy.deepcopy}
    stubs["logger"] = logging.getLogger("x")
    agent = defined(
        WHEEL, "openrlhf/utils/agent.py", "SingleTurnAgentExecutor", AgentExecutorBase=object, **stubs
    )
    generator = defined(
        *(WHEEL, "openrlhf/trainer/ppo_utils/samples_generator.py", "SamplesGenerator"),
        torch=torch,
        Experience=SimpleNamespace,
    )
    executor = agent["SingleTurnAgentExecutor"](endpoint)
    prompt = f"<|im_start|>user\n{query}<|im_end|>\n<|im_start|>assistant\n"
    sampling = SimpleNamespace(max_tokens=64, logprobs=None)
    outputs = await asyncio.gather(
        *(executor.execute(prompt, "11", sampling, 2048, Tokenizer(), Engine(answer)) for answer in answers)
    )
    process = generator["SamplesGenerator"]._process_response_into_experience
    return [process(None, output) for output in outputs]


async def test_samples_form_a_group(url, native, report):
    experiences = await sampled(f"{url}/get_reward?k=4&group=4", QUERY, ANSWERS)
    rewards = [experience.rewards.item() for experience in experiences]
    assert rewards == pytest.approx(await native.rewards(QUERY, ANSWERS, reference="11"))
    assert {experience.info["group_size"].item() for experience in experiences} == {4}
    assert all(0 <= experience.scores.item() <= 1 for experience in experiences)
    report(WHEEL, "/get_reward", "a group", "4 calls, 1 verdict")


async def test_full_queue_holds_the_request(crowded, report):
    (experience,) = await sampled(f"{crowded.client.base_url}/get_reward?k=2&window_s=0", QUERY, ["11"])
    assert 1 <= experience.rewards.item() <= 10
    assert await crowded.replies("/get_reward", 200) == 1, "answered on the first try"
    assert await crowded.refused() >= 1
    report(WHEEL, "/get_reward", "full queue", "held: 1 call, then its reward")


async def test_unreadable_samples_have_no_reward(url, native, report):
    clock = FastClock()
    (experience,) = await sampled(f"{url}/get_reward?k=2&window_s=0", "please garbage", ["11"], clock)
    assert experience.rewards is None
    assert clock.pauses == [1] * 5
    assert await native.replies("/get_reward", 502) == 5
    report(WHEEL, "/get_reward", "unreadable", "502, 5 tries, then no reward: the step fails")
    (experience,) = await sampled(
        f"{url}/get_reward?k=2&window_s=0&fallback=5.5", "please garbage", ["11"], clock
    )
    assert experience.rewards.item() == 5.5
    assert experience.info["judged"].item() == 0


async def test_integration_file_can_be_loaded(configured, native, report):
    (experience,) = await sampled(integration.__file__, QUERY, ["11"])
    assert experience.rewards.item() == pytest.approx(
        (await native.rewards(QUERY, ["11"], k=None, reference="11"))[0]
    )
    report(WHEEL, "integrations/openrlhf.py", "a group", "1 call, judged alone")
    (experience,) = await sampled(integration.__file__, "please garbage", ["11"])
    assert experience.rewards is None
    report(WHEEL, "integrations/openrlhf.py", "unreadable", "no reward: the step fails")
