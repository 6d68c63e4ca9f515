"""OpenRLHF's SingleTurnAgentExecutor, which generates, asks for the reward and hands both to the trainer."""

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
from tests.conformance.wheels import Hurried, defined

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
    """The trainer's experiences of a prompt's responses, each of which asks by itself."""
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


async def test_a_prompts_samples_are_judged_as_a_group(url, native, told):
    made = await sampled(f"{url}/get_reward?k=4&group=4", QUERY, ANSWERS)
    found = [experience.rewards.item() for experience in made]
    assert found == pytest.approx(await native.rewards(QUERY, ANSWERS, reference="11"))
    assert {experience.info["group_size"].item() for experience in made} == {4}
    assert all(0 <= experience.scores.item() <= 1 for experience in made)
    told(WHEEL, "/get_reward", "a group", "4 calls, 1 verdict")


async def test_it_is_held_while_the_line_is_full(crowded, told):
    (made,) = await sampled(f"{crowded.client.base_url}/get_reward?k=2&window_s=0", QUERY, ["11"])
    assert 1 <= made.rewards.item() <= 10
    assert await crowded.answered("/get_reward", 200) == 1, "answered at its first call"
    assert await crowded.refused() >= 1
    told(WHEEL, "/get_reward", "a full line", "held: 1 call, then its reward")


async def test_what_nobody_could_read_is_no_reward_in_the_trainer(url, native, told):
    clock = Hurried()
    (made,) = await sampled(f"{url}/get_reward?k=2&window_s=0", "please garbage", ["11"], clock)
    assert made.rewards is None
    assert clock.pauses == [1] * 5
    assert await native.answered("/get_reward", 502) == 5
    told(WHEEL, "/get_reward", "nobody can read it", "502, asked 5 times, then no reward: the step fails")
    (made,) = await sampled(f"{url}/get_reward?k=2&window_s=0&fallback=5.5", "please garbage", ["11"], clock)
    assert made.rewards.item() == 5.5
    assert made.info["judged"].item() == 0


async def test_the_integrations_file_is_one_that_it_loads(configured, native, told):
    made = await sampled(integration.__file__, QUERY, ["11"])
    assert made[0].rewards.item() == pytest.approx(
        (await native.rewards(QUERY, ["11"], k=None, reference="11"))[0]
    )
    told(WHEEL, "integrations/openrlhf.py", "a group", "1 call, judged alone")
    (made,) = await sampled(integration.__file__, "please garbage", ["11"])
    assert made.rewards is None
    told(WHEEL, "integrations/openrlhf.py", "nobody can read it", "no reward: the step fails")
