"""What is derived from a framework's classes once it is there, how files are loaded, and what is sent.

Stand-ins have the signatures of AReaL 1.0.4, SkyRL 0.3.0, OpenRLHF 0.11.2 and NeMo Gym of September 2026.
"""

import asyncio
import importlib.util
import inspect
import json
import pickle
import subprocess
import sys
from types import ModuleType
from typing import Any

import pytest
from pydantic import BaseModel

from grm_service.client import AsyncClient, NoVerdict
from grm_service.integrations import areal, nemo_gym, openrlhf, skyrl, trl

TURNS = [{"role": "user", "content": "What is 5 + 6?"}]
CHATML = "<|im_start|>user\nWhat is 5 + 6?<|im_end|>\n<|im_start|>assistant\n"
GARBAGE = "please garbage"

pytestmark = pytest.mark.usefixtures("configured")


@pytest.fixture
def asked(monkeypatch):
    """What is sent, one body after the other."""
    bodies = []
    send = AsyncClient._judged

    async def listen(self, body):
        bodies.append(body)
        return await send(self, body)

    monkeypatch.setattr(AsyncClient, "_judged", listen)
    return bodies


@pytest.fixture
def stand_in(monkeypatch):
    """Puts modules of a framework that is not installed where it is imported from."""

    def _stand_in(path, **contents):
        parts = path.split(".")
        for depth in range(1, len(parts)):
            parent = ".".join(parts[:depth])
            if parent not in sys.modules:
                monkeypatch.setitem(sys.modules, parent, ModuleType(parent))
        module = ModuleType(path)
        module.__dict__.update(contents)
        monkeypatch.setitem(sys.modules, path, module)

    yield _stand_in
    for derived, name in ((areal, "GRMWorkflow"), (skyrl, "GRMEnv"), (nemo_gym, "GRMResourcesServer")):
        vars(derived).pop(name, None)


def test_no_integration_needs_its_framework_or_anything_heavy():
    names = ["trl", "verl", "slime", "swift", "openrlhf", "areal", "skyrl", "nemo_gym"]
    code = (
        "import sys, json, importlib\n"
        f"for name in {names}: importlib.import_module('grm_service.integrations.' + name)\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    heavy = {"torch", "numpy", "fastapi", "starlette", "pydantic", "sqlalchemy", "transformers", "ray"}
    assert not (heavy | set(names)) & set(json.loads(loaded))


def test_openrlhf_loads_the_file_by_its_path_and_calls_it_in_a_thread(asked):
    spec = importlib.util.spec_from_file_location("reward_func", openrlhf.__file__)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    call = asyncio.to_thread(module.reward_func, [CHATML + "It is 11.<|im_end|>"], [CHATML], ["11"])
    said = asyncio.run(call)
    assert said["rewards"] == said["scores"]
    assert (asked[0]["query"], asked[0]["responses"]) == (TURNS, ["It is 11."])
    assert asked[0]["reference"] == "11"


class RLVRWorkflow:
    def __init__(self, reward_fn, gconfig, tokenizer, enable_thinking=False):
        self.async_reward_fn = "AReaL's pool of processes, with its 15 s"

    async def compute(self, prompt_str, completions_str, task_data):
        return await self.async_reward_fn(prompt_str, completions_str, [1], [2], **task_data)


def test_areals_workflow_asks_without_the_pool(stand_in, asked, run):
    stand_in("areal.workflow.rlvr", RLVRWorkflow=RLVRWorkflow)
    workflow = areal.GRMWorkflow(gconfig=None, tokenizer=None, options={"k": 3})
    assert isinstance(workflow, RLVRWorkflow)
    row = {"messages": TURNS, "answer": "11", "options": ["A", "B"], "client": "a column"}
    assert isinstance(run(workflow.compute("unused", "It is 11.<|im_end|>", row)), float)
    assert (asked[0]["query"], asked[0]["responses"]) == (TURNS, ["It is 11."])
    assert (asked[0]["reference"], asked[0]["k"]) == ("11", 3)
    assert "options" not in asked[0]
    with pytest.raises(NoVerdict):
        run(workflow.compute(GARBAGE, "a", {}))


class BaseTextEnv:
    def __init__(self):
        self.turns = 0


def test_skyrls_environment_ends_after_one_judged_turn(stand_in, asked):
    stand_in("skyrl_gym.envs.base_text_env", BaseTextEnv=BaseTextEnv)
    extras = {"reward_spec": {"ground_truth": "11"}, "max_turns": 1}
    env = skyrl.GRMEnv(env_config={"k": 2}, extras=extras)
    assert isinstance(env, BaseTextEnv)
    assert env.init(TURNS) == (TURNS, {})
    output = env.step("It is 11.<|im_end|>")
    assert isinstance(output["reward"], float)
    assert (output["done"], output["observations"], output["metadata"]) == (True, [], {})
    assert (asked[0]["query"], asked[0]["responses"], asked[0]["k"]) == (TURNS, ["It is 11."], 2)
    assert asked[0]["reference"] == "11"
    env.init([{"role": "user", "content": GARBAGE}])
    with pytest.raises(NoVerdict):
        env.step("a")


class BaseVerifyRequest(BaseModel):
    responses_create_params: dict[str, Any]
    response: dict[str, Any]


class BaseVerifyResponse(BaseVerifyRequest):
    reward: float


class SimpleResourcesServer:
    pass


class JudgeError(Exception):
    """NeMo Gym tags the row `judge_failed` and leaves it out."""


async def run_judge(call):
    try:
        return await call
    except Exception as failed:
        raise JudgeError(f"{type(failed).__name__}: {failed}") from failed


def verified(row):
    server = nemo_gym.GRMResourcesServer()
    kind = inspect.get_annotations(server.verify)["body"]  # where FastAPI finds out what to read
    return asyncio.run(server.verify(kind.model_validate(row)))


def test_nemo_gym_gets_the_row_again_with_its_reward_or_its_own_error(stand_in, asked):
    stand_in(
        "nemo_gym.base_resources_server",
        BaseVerifyRequest=BaseVerifyRequest,
        BaseVerifyResponse=BaseVerifyResponse,
        SimpleResourcesServer=SimpleResourcesServer,
    )
    stand_in("nemo_gym.judge", run_judge=run_judge, JudgeError=JudgeError)
    said = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "It is 11."}]}
    row = {
        "responses_create_params": {"input": TURNS, "model": "policy"},
        "response": {"output": [{"type": "reasoning", "summary": []}, said]},
        "principles": ["Be right."],
        "_ng_task_index": 0,
    }
    answer = verified(row).model_dump()
    assert isinstance(answer.pop("reward"), float)
    assert answer == row
    assert (asked[0]["query"], asked[0]["responses"]) == (TURNS, ["It is 11."])
    assert asked[0]["principles"]["items"] == [{"text": "Be right."}]
    with pytest.raises(JudgeError, match="all_unreadable"):
        verified({**row, "responses_create_params": {"input": GARBAGE}})


def test_one_prompt_with_two_references_is_two_groups(run, asked):
    completions = [[{"role": "assistant", "content": text}] for text in ("11", "12", "11", "12")]
    run(trl.grm_reward(prompts=[TURNS] * 4, completions=completions, reference=["a", "a", "b", "b"]))
    assert sorted((body["reference"], len(body["responses"])) for body in asked) == [("a", 2), ("b", 2)]


def test_principles_out_of_a_table_have_no_empty_fields(run, asked):
    row = {"mode": "self", "set": "helpfulness", "items": None}
    rewards = run(trl.grm_reward(prompts=["q"] * 2, completions=["a", "b"], principles=[row] * 2))
    assert None not in rewards
    assert asked[0]["principles"] == {"mode": "self", "set": "helpfulness"}


def test_of_a_turn_with_tools_the_policys_words_are_judged(run, asked):
    called = [
        {"role": "assistant", "content": "Let me see.", "tool_calls": [{"function": {"name": "add"}}]},
        {"role": "tool", "content": "11"},
        {"role": "assistant", "content": [{"type": "text", "text": "It is 11."}]},
    ]
    run(trl.grm_reward(prompts=[TURNS], completions=[called]))
    assert asked[0]["responses"] == ["Let me see.\n\nIt is 11."]


def test_a_reward_of_ones_own_travels_to_workers_with_its_options(run, asked, url):
    own = pickle.loads(pickle.dumps(trl.GRMReward(AsyncClient(url), {"k": 3})))
    assert len(run(own(prompts=["q"] * 2, completions=["a", "b"]))) == 2
    assert asked[0]["k"] == 3
