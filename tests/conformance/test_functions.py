"""The code that calls the integrations in trainers too heavy to install: ms-swift, AReaL, SkyRL."""

import asyncio
import contextlib
import logging
import uuid
from functools import partial
from itertools import chain
from types import SimpleNamespace
from typing import Generic, TypedDict, TypeVar

import pytest
import torch

from grm_service.client import NoVerdict
from grm_service.integrations import areal, skyrl, swift
from tests.conformance.wheels import defined
from tests.integrations import stand_ins

pytestmark = [pytest.mark.anyio, pytest.mark.conformance]
QUERY = "Name a prime."
ANSWERS = ["11", "twelve", "13", "a prime is a number"]
FAILS = "please garbage"


@pytest.fixture
def stand_in(monkeypatch):
    """Install a stand-in module, which has only names of the real one."""
    yield partial(stand_ins.install, monkeypatch)
    for module, derived in ((areal, "GRMWorkflow"), (skyrl, "GRMEnv")):
        vars(module).pop(derived, None)


def turns(*texts):
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]


SWIFT = "ms_swift==4.6.0"  # the spelling of its wheel


class Rollout(SimpleNamespace):
    """The part of ms-swift's GRPOSample that reward functions read."""

    def to_reward_row(self):
        return {"messages": self.messages, "is_truncated": False, "solution": "11"}


@pytest.fixture
def swift_rewards(stand_in):
    """ms-swift's own function that calls all reward functions, with ours as registered."""
    orms = {}
    batched = defined(
        *(SWIFT, "swift/dataset/preprocessor/core.py", "RowPreprocessor"), _pair_keys=[], chain=chain,
        contextmanager=contextlib.contextmanager,
    )  # fmt: skip
    stand_in("swift.dataset", RowPreprocessor=batched["RowPreprocessor"])
    stand_in("swift.rewards", orms=orms)
    algorithm = defined(
        *(SWIFT, "swift/rl_core/grpo_algorithm.py", "_is_async_reward", "compute_rewards_per_func"),
        torch=torch, nn=torch.nn, logger=logging.getLogger("x"),
    )  # fmt: skip
    swift.register(k=4)

    def rewards(queries, answers):
        samples = [Rollout(messages=turns(q, a)) for q, a in zip(queries, answers, strict=True)]
        function = orms["grm"](args=None)
        return algorithm["compute_rewards_per_func"](samples, [function], None, torch.device("cpu"))[:, 0]

    return rewards


async def test_swift_rewards_of_groups(configured, native, report, swift_rewards):
    rewards = await asyncio.to_thread(swift_rewards, [QUERY] * 4 + ["q"] * 4, ANSWERS * 2)
    expected = await native.rewards(QUERY, ANSWERS) + await native.rewards("q", ANSWERS)
    assert rewards.tolist() == pytest.approx(expected)
    report(SWIFT, "integrations/swift.py", "a group", "judged together")
    with pytest.raises(NoVerdict):
        await asyncio.to_thread(swift_rewards, [QUERY, FAILS], ["11", "11"])
    report(SWIFT, "integrations/swift.py", "unreadable", "raises: the step fails")


AREAL = "areal==1.0.4"


class Chars:
    """A tokenizer of characters."""

    def decode(self, tokens):
        return "".join(map(chr, tokens))


class Engine:
    """An engine with the interface of AReaL's."""

    def __init__(self, answer):
        self.answer = answer

    async def agenerate(self, request):
        tokens = [ord(char) for char in self.answer]
        n = len(tokens)
        return SimpleNamespace(
            input_tokens=request.input_ids, input_len=len(request.input_ids), output_tokens=tokens,
            output_len=n, output_logprobs=[0.0] * n, output_versions=[0] * n,
        )  # fmt: skip


@pytest.fixture
def episode(stand_in):
    """Run an episode of the workflow derived from AReaL's own."""

    @contextlib.asynccontextmanager
    async def phase(_):
        yield

    def pool(_):
        return "AReaL's pool of processes, with its 15 s"

    counted = SimpleNamespace(get=lambda scope: SimpleNamespace(scalar=lambda **_: None))
    workflow = defined(
        *(AREAL, "areal/workflow/rlvr.py", "RLVRWorkflow"),
        RolloutWorkflow=object, torch=torch, uuid=uuid, atrace_session_phase=phase, stats_tracker=counted,
        default_get_input_ids_fn=None, default_data_extract_prompt_fn=None, AsyncRewardWrapper=pool,
        trace_session=lambda name: lambda method: method, session_context=lambda: lambda method: method,
        workflow_context=SimpleNamespace(stat_scope=lambda: "x"), ModelRequest=SimpleNamespace,
    )  # fmt: skip
    stand_in("areal.workflow.rlvr", RLVRWorkflow=workflow["RLVRWorkflow"])
    config = SimpleNamespace(new=lambda n_samples: None)
    config.new_with_stop_and_pad_token_ids = lambda tokenizer: config

    async def run(query, answer, **options):
        workflow = areal.GRMWorkflow(
            options=options,
            gconfig=config,
            tokenizer=Chars(),
            get_input_ids_fn=lambda chat, tokenizer, thinking: [ord(char) for char in chat[0]["content"]],
            data_extract_prompt_fn=lambda row: row["messages"],
        )
        return await workflow.arun_episode(Engine(answer), {"messages": turns(query), "answer": "11"})

    return run


async def test_areal_workflow(configured, native, report, episode):
    tensors = await episode(QUERY, "11<|im_end|>")
    expected = await native.rewards(QUERY, ["11"], k=None, reference="11")
    assert tensors["rewards"].tolist() == pytest.approx(expected)
    report(AREAL, "integrations/areal.py", "a group", "each judged alone")
    group = [episode(QUERY, f"{answer}<|im_end|>", k=2, group=4) for answer in ANSWERS]
    together = [tensors["rewards"].item() for tensors in await asyncio.gather(*group)]
    assert together == pytest.approx(await native.rewards(QUERY, ANSWERS, k=2, reference="11"))
    report(AREAL, "integrations/areal.py, group=4", "a group", "4 calls, 1 verdict")
    with pytest.raises(NoVerdict):
        await episode(FAILS, "11")
    report(AREAL, "integrations/areal.py", "unreadable", "raises: the trajectory is dropped")


SKYRL = "skyrl==0.3.0"


@pytest.fixture
def environment(stand_in):
    """Create the environment derived from SkyRL's own base."""
    types = {"TypedDict": TypedDict, "Generic": Generic}
    types |= {"ObsType": TypeVar("ObsType"), "ActType": TypeVar("ActType")}
    core = defined(SKYRL, "skyrl_gym/core.py", "Env", **types)
    stubs = types | {"Env": core["Env"], "ConversationType": list}
    base = defined(SKYRL, "skyrl_gym/envs/base_text_env.py", "BaseTextEnv", **stubs)
    stand_in("skyrl_gym.envs.base_text_env", BaseTextEnv=base["BaseTextEnv"])
    return lambda **options: skyrl.GRMEnv({"k": 2, **options}, {"reward_spec": {"ground_truth": "11"}})


async def test_skyrl_environment_has_one_turn(configured, native, report, environment):
    env = environment()
    prompt, _ = env.init(turns(QUERY))
    output = await asyncio.to_thread(env.step, "11<|im_end|>")
    assert prompt == turns(QUERY)
    assert [output["reward"]] == await native.rewards(QUERY, ["11"], k=2, reference="11")
    assert output["done"]
    assert env.get_metrics() == {}
    env.close()
    report(SKYRL, "integrations/skyrl.py", "a group", "each judged alone")
    steps = []
    for answer in ANSWERS:
        sibling = environment(group=4)
        sibling.init(turns(QUERY))
        steps.append(asyncio.to_thread(sibling.step, answer))
    together = [output["reward"] for output in await asyncio.gather(*steps)]
    assert together == pytest.approx(await native.rewards(QUERY, ANSWERS, k=2, reference="11"))
    report(SKYRL, "integrations/skyrl.py, group=4", "a group", "4 calls, 1 verdict")
    env.init(turns(FAILS))
    with pytest.raises(NoVerdict):
        await asyncio.to_thread(env.step, "11")
    report(SKYRL, "integrations/skyrl.py", "unreadable", "raises: SkyRL stops")
