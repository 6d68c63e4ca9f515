"""Classes derived from a framework's own, loading by file path, and the requests that are sent.

Stand-ins are checked against the recorded names of the real modules (stand_ins.py).
"""

import asyncio
import importlib.util
import inspect
import json
import pickle
import subprocess
import sys
from enum import StrEnum
from functools import partial
from typing import Any, ClassVar

import pytest
from pydantic import BaseModel

from grm_service.client import AsyncClient, NoVerdict
from grm_service.integrations import areal, nemo_gym, openrlhf, skyrl, trl
from tests.integrations import stand_ins

TURNS = [{"role": "user", "content": "What is 5 + 6?"}]
CHATML = "<|im_start|>user\nWhat is 5 + 6?<|im_end|>\n<|im_start|>assistant\n"
GARBAGE = "please garbage"

pytestmark = pytest.mark.usefixtures("configured")


@pytest.fixture
def requests(monkeypatch):
    """The bodies that the client sends, in order."""
    bodies = []
    send = AsyncClient._judge

    async def record(self, body):
        bodies.append(body)
        return await send(self, body)

    monkeypatch.setattr(AsyncClient, "_judge", record)
    return bodies


@pytest.fixture
def stand_in(monkeypatch):
    """Install modules that stand in for a framework that is not installed."""

    yield partial(stand_ins.install, monkeypatch)
    for derived, name in ((areal, "GRMWorkflow"), (skyrl, "GRMEnv"), (nemo_gym, "GRMResourcesServer")):
        vars(derived).pop(name, None)


def test_imports_are_light():
    names = ["trl", "verl", "slime", "swift", "openrlhf", "areal", "skyrl", "nemo_gym"]
    code = (
        "import sys, json, importlib\n"
        f"for name in {names}: importlib.import_module('grm_service.integrations.' + name)\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    heavy = {"torch", "numpy", "fastapi", "starlette", "pydantic", "sqlalchemy", "transformers", "ray"}
    assert not (heavy | set(names)) & set(json.loads(loaded))


def test_openrlhf_loads_the_file_by_path(requests):
    spec = importlib.util.spec_from_file_location("reward_func", openrlhf.__file__)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    call = asyncio.to_thread(module.reward_func, [CHATML + "It is 11.<|im_end|>"], [CHATML], ["11"])
    reply = asyncio.run(call)
    assert reply["rewards"] == reply["scores"]
    assert (requests[0]["query"], requests[0]["responses"]) == (TURNS, ["It is 11."])
    assert requests[0]["reference"] == "11"


class RLVRWorkflow:
    def __init__(
        self,
        reward_fn,
        gconfig,
        tokenizer,
        enable_thinking=False,
        get_input_ids_fn=None,
        data_extract_prompt_fn=None,
    ):
        self.async_reward_fn = "AReaL's pool of processes, with its 15 s"

    async def _compute_rewards(self, resp, prompt_str, task_data):
        return await self.async_reward_fn(prompt_str, resp, [1], [2], **task_data)


def test_areal_workflow_bypasses_the_pool(stand_in, requests, run):
    stand_in("areal.workflow.rlvr", RLVRWorkflow=RLVRWorkflow)
    workflow = areal.GRMWorkflow(gconfig=None, tokenizer=None, options={"k": 3})
    assert isinstance(workflow, RLVRWorkflow)
    row = {"messages": TURNS, "answer": "11", "options": ["A", "B"], "client": "a column"}
    assert isinstance(run(workflow._compute_rewards("It is 11.<|im_end|>", "unused", row)), float)
    assert (requests[0]["query"], requests[0]["responses"]) == (TURNS, ["It is 11."])
    assert (requests[0]["reference"], requests[0]["k"]) == ("11", 3)
    assert "options" not in requests[0]
    with pytest.raises(NoVerdict):
        run(workflow._compute_rewards("a", GARBAGE, {}))


class BaseTextEnv:
    def __init__(self):
        self.turns = 0


def test_skyrl_environment_has_one_turn(stand_in, requests):
    stand_in("skyrl_gym.envs.base_text_env", BaseTextEnv=BaseTextEnv)
    extras = {"reward_spec": {"ground_truth": "11"}, "max_turns": 1}
    env = skyrl.GRMEnv(env_config={"k": 2}, extras=extras)
    assert isinstance(env, BaseTextEnv)
    assert env.init(TURNS) == (TURNS, {})
    output = env.step("It is 11.<|im_end|>")
    assert isinstance(output["reward"], float)
    assert (output["done"], output["observations"], output["metadata"]) == (True, [], {})
    assert (requests[0]["query"], requests[0]["responses"], requests[0]["k"]) == (TURNS, ["It is 11."], 2)
    assert requests[0]["reference"] == "11"
    env.init([{"role": "user", "content": GARBAGE}])
    with pytest.raises(NoVerdict):
        env.step("a")


class BaseVerifyRequest(BaseModel):
    responses_create_params: dict[str, Any]
    response: dict[str, Any]


class BaseVerifyResponse(BaseVerifyRequest):
    reward: float


class ReverifyMode(StrEnum):
    STATELESS = "stateless"
    UNKNOWN = "unknown"


class BaseResourcesServerConfig(BaseModel):
    REVERIFY_MODE: ClassVar[ReverifyMode] = ReverifyMode.UNKNOWN


class SimpleResourcesServer(BaseModel):
    config: BaseResourcesServerConfig

    async def get_reverify_mode(self):
        return self.config.REVERIFY_MODE


class JudgeError(Exception):
    """NeMo Gym's own: it tags the row `judge_failed` and leaves it out."""


def gym_server():
    """Create the server as Gym does: its settings have the type of its field."""
    kind = nemo_gym.GRMResourcesServer
    return kind(config=kind.model_fields["config"].annotation())


def verify(row):
    server = gym_server()
    kind = inspect.get_annotations(server.verify)["body"]  # FastAPI reads the body by this annotation
    return asyncio.run(server.verify(kind.model_validate(row)))


@pytest.fixture
def gym(stand_in):
    stand_in(
        "nemo_gym.base_resources_server",
        BaseResourcesServerConfig=BaseResourcesServerConfig,
        BaseVerifyRequest=BaseVerifyRequest,
        BaseVerifyResponse=BaseVerifyResponse,
        ReverifyMode=ReverifyMode,
        SimpleResourcesServer=SimpleResourcesServer,
    )
    stand_in("nemo_gym.judge", JudgeError=JudgeError)


def test_nemo_gym_may_judge_rows_again(gym, run):
    assert run(gym_server().get_reverify_mode()) == "stateless"


def test_nemo_gym_returns_the_row(gym, requests):
    message = {
        "type": "message",
        "role": "assistant",
        "content": [{"type": "output_text", "text": "It is 11."}],
    }
    row = {
        "responses_create_params": {"input": TURNS, "model": "policy"},
        "response": {"output": [{"type": "reasoning", "summary": []}, message]},
        "principles": ["Be right."],
        "_ng_task_index": 0,
    }
    answer = verify(row).model_dump()
    assert isinstance(answer.pop("reward"), float)
    assert answer == row
    assert (requests[0]["query"], requests[0]["responses"]) == (TURNS, ["It is 11."])
    assert requests[0]["principles"]["items"] == [{"text": "Be right."}]
    with pytest.raises(JudgeError, match="all_unreadable"):
        verify({**row, "responses_create_params": {"input": GARBAGE}})


def test_nemo_gym_tags_judging_failures_only(gym, monkeypatch):
    async def broken(row):
        raise KeyError("a bug")

    monkeypatch.setattr(nemo_gym, "judge", broken)
    with pytest.raises(KeyError):
        verify({"responses_create_params": {"input": TURNS}, "response": {"output": []}})


def test_references_separate_groups(run, requests):
    completions = [[{"role": "assistant", "content": text}] for text in ("11", "12", "11", "12")]
    run(trl.grm_reward(prompts=[TURNS] * 4, completions=completions, reference=["a", "a", "b", "b"]))
    assert sorted((body["reference"], len(body["responses"])) for body in requests) == [("a", 2), ("b", 2)]


def test_empty_principle_fields_are_dropped(run, requests):
    row = {"mode": "self", "set": "helpfulness", "items": None}
    rewards = run(trl.grm_reward(prompts=["q"] * 2, completions=["a", "b"], principles=[row] * 2))
    assert None not in rewards
    assert requests[0]["principles"] == {"mode": "self", "set": "helpfulness"}


def test_tool_turns_are_judged_as_blocks(run, requests):
    called = [
        {"role": "assistant", "content": "Let me see.", "tool_calls": [{"function": {"name": "add"}}]},
        {"role": "tool", "content": "11"},
        {"role": "assistant", "content": [{"type": "text", "text": "It is 11."}]},
    ]
    run(trl.grm_reward(prompts=[TURNS], completions=[called]))
    assert requests[0]["responses"] == [
        "Let me see.\n\n```tool call: add\n{}\n```\n\n```tool result\n11\n```\n\nIt is 11."
    ]


def test_custom_reward_can_be_pickled(run, requests, url):
    own = pickle.loads(pickle.dumps(trl.GRMReward(AsyncClient(url), {"k": 3})))
    assert len(run(own(prompts=["q"] * 2, completions=["a", "b"]))) == 2
    assert requests[0]["k"] == 3
