"""verl's RewardLoopWorker, which calls a reward model's engine, and its manager of custom functions."""

import asyncio
import inspect
import logging
from functools import partial
from types import SimpleNamespace

import aiohttp
import numpy as np
import pytest

from grm_service.client import NoVerdict
from grm_service.integrations import verl as integration
from tests.conformance.wheels import FastClock, _source, defined

pytestmark = [pytest.mark.anyio, pytest.mark.conformance]
WHEEL = "verl==0.9.1"
LOOP = "verl/experimental/reward_loop"
QUERY = "Name a prime."
ANSWERS = ["11", "twelve", "13", "a prime is a number"]
ENGINES = {"vllm": "/classify", "sglang": "/v1/embeddings"}
BY_ENGINE = pytest.mark.parametrize(("engine", "route"), ENGINES.items())
END = "<|im_end|>"


class Tokenizer:
    eos_token, bos_token = END, None

    def decode(self, tokens, skip_special_tokens=False):
        text = "".join(chr(int(token)) for token in tokens)
        return text.replace(END, "") if skip_special_tokens else text

    def apply_chat_template(self, chat, add_generation_prompt, tokenize):
        assert not add_generation_prompt
        assert not tokenize
        return "".join(f"<|im_start|>{turn['role']}\n{turn['content']}{END}\n" for turn in chat)


class Batch(list):
    """The part of a DataProto that one sample needs."""

    def __getitem__(self, place):
        item = super().__getitem__(place)
        return Batch(item) if isinstance(place, slice) else item


def sample(query, answer):
    tokens = np.array([ord(char) for char in answer + END])
    row = {
        "raw_prompt": [{"role": "user", "content": query}],
        "data_source": "primes",
        "reward_model": {"ground_truth": "11"},
        "extra_info": {"question": query},
    }
    batch = {"responses": tokens, "attention_mask": np.ones(len(tokens) + 3, int)}
    return Batch([SimpleNamespace(batch=batch, non_tensor_batch=row)])


class Worker:
    """verl's worker without its configuration and Ray."""

    def __init__(self, address, engine, clock=asyncio):
        stubs = {"aiohttp": aiohttp, "asyncio": clock, "logger": logging.getLogger("x")}
        kind = defined(WHEEL, f"{LOOP}/reward_loop.py", "RewardLoopWorker", **stubs)["RewardLoopWorker"]
        self.worker = object.__new__(kind)
        model = SimpleNamespace(enable=True, model_path="judge", rollout=SimpleNamespace(name=engine))
        custom = SimpleNamespace(path=None)
        self.worker.config = SimpleNamespace(
            reward=SimpleNamespace(reward_model=model, custom_reward_function=custom)
        )
        self.worker.reward_router_address = address
        self.worker.input_tokenizer = self.worker.reward_model_tokenizer = Tokenizer()

    async def rewards(self, query, answers):
        scored = await asyncio.gather(*(self.worker.compute_score(sample(query, a)) for a in answers))
        return [each["reward_score"] for each in scored]


def address(client_or_url):
    return str(client_or_url).removeprefix("http://").rstrip("/")


@BY_ENGINE
async def test_engine_client_rewards_of_a_group(url, native, report, engine, route):
    # The router's address has no query parameters, so the window alone decides the group.
    rewards = await Worker(address(url), engine).rewards(QUERY, ANSWERS)
    assert rewards == pytest.approx(await native.rewards(QUERY, ANSWERS, k=None))
    assert await native.last_responses() == 4
    report(WHEEL, route, "a group", "4 calls, 1 verdict at the window's end")


@BY_ENGINE
async def test_full_queue_is_a_retried_503(crowded, report, engine, route):
    (reward,) = await Worker(address(crowded.client.base_url), engine).rewards(QUERY, ["11"])
    assert 1 <= reward <= 10
    assert await crowded.replies(route, 503) >= 1
    assert await crowded.replies(route, 200) == 1
    report(WHEEL, route, "full queue", "503, then 1 s, 2 s, ... and its reward")


@BY_ENGINE
async def test_unreadable_samples_raise(url, native, report, engine, route):
    clock = FastClock()
    with pytest.raises(aiohttp.ClientResponseError) as failure:
        await Worker(address(url), engine, clock).rewards("please garbage", ["11"])
    assert failure.value.status == 502
    assert clock.pauses == [min(2**n, 30) for n in range(15)]
    assert await native.replies(route, 502) == 16
    report(WHEEL, route, "unreadable", "502, 16 tries, then raises: the step fails")


@pytest.mark.parametrize(
    ("name", "file", "why"),
    [("rate_limited", "limited", "reward = 0.0"), ("remote", "remote", "not self.is_async_reward_score")],
)
async def test_managers_to_avoid_exist(name, file, why):
    source = _source(WHEEL, f"{LOOP}/reward_manager/{file}.py")
    assert f'("{name}")\nclass ' in source or f'("{name}")\n@register' in source
    assert why in source
    assert f"`{name}`" in integration.__doc__


class Manager:
    """verl's NaiveRewardManager around the integration."""

    def __init__(self, **reward_kwargs):
        stubs = {"get_event_loop": asyncio.get_running_loop, "ABC": object, "abstractmethod": lambda f: f}
        base = defined(WHEEL, f"{LOOP}/reward_manager/base.py", "RewardManagerBase", **stubs)
        kind = defined(
            *(WHEEL, f"{LOOP}/reward_manager/naive.py", "NaiveRewardManager"),
            RewardManagerBase=base["RewardManagerBase"],
            inspect=inspect,
        )
        function = partial(integration.compute_score, **reward_kwargs)
        self.manager = kind["NaiveRewardManager"](None, Tokenizer(), function)

    async def results(self, query, answers):
        return await asyncio.gather(*(self.manager.run_single(sample(query, answer)) for answer in answers))


async def test_custom_function_manager(configured, native, report):
    results = await Manager(k=4).results(QUERY, ANSWERS)
    alone = [(await native.rewards(QUERY, [answer], reference="11"))[0] for answer in ANSWERS]
    assert [result["reward_score"] for result in results] == pytest.approx(alone)
    assert len({tuple(result["reward_extra_info"]) for result in results}) == 1, (
        "verl needs the same keys for all samples"
    )
    report(WHEEL, "integrations/verl.py", "a group", "4 calls, each judged alone")
    together = await Manager(k=4, group=4).results(QUERY, ANSWERS)
    expected = await native.rewards(QUERY, ANSWERS, reference="11")
    assert [result["reward_score"] for result in together] == pytest.approx(expected)
    assert len({tuple(result["reward_extra_info"]) for result in together}) == 1
    report(WHEEL, "integrations/verl.py, group=4", "a group", "4 calls, 1 verdict")
    with pytest.raises(NoVerdict):
        await Manager(k=2).results("please garbage", ["11"])
    report(WHEEL, "integrations/verl.py", "unreadable", "raises: the step fails")
