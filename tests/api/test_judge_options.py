"""Every judge option reaches the judge through every door: HTTP routes, dialect URLs, commands, Python."""

import json
from dataclasses import fields
from urllib.parse import urlencode

import pytest
from typer.testing import CliRunner

from grm_service import Judge
from grm_service.cli import app
from grm_service.client import NoVerdict
from grm_service.errors import BadTask
from grm_service.serving.service import Service
from grm_service.types import JudgeOptions, PrincipleSpec
from tests.waiting import until

QUERY, ANSWERS = "Name a prime.", ["11", "12"]
PRINCIPLES = PrincipleSpec("fixed", "helpfulness")
VALUES = {
    "k": 3,
    "k_meta": 0,
    "seed": 7,
    "temperature": 0.25,
    "max_tokens": 99,
    "thinking_tokens": 77,
    "score": "soft",
    "stop": "exact",
    "timeout_s": 33.0,
    "principles": PRINCIPLES,
}
CHATML = f"<|im_start|>user\n{QUERY}<|im_end|>\n<|im_start|>assistant\n11<|im_end|>"
TURNS = [{"role": "user", "content": QUERY}, {"role": "assistant", "content": "11"}]
OUTPUT = {"output": [{"type": "message", "content": [{"type": "output_text", "text": "11"}]}]}
GYM = {"responses_create_params": {"input": [TURNS[0]]}, "response": OUTPUT}
JSON_DOORS = {
    "/v1/rewards": {"query": QUERY, "responses": ANSWERS},
    "/v1/rewards/batch": {"query": QUERY, "responses": ANSWERS},
    "/v1/improve": {
        "query": QUERY,
        "draft": "11",
        "n": 0,
        "rounds": 0,
        "second_opinion": {"principles": {"mode": "fixed", "set": "honesty"}},
    },
}
# The policy has a temperature and a length of its own there.
IMPROVE = {"temperature": "critique_temperature", "max_tokens": "critique_tokens"}
URL_DOORS = {
    "/v1/rewards/single": {"query": QUERY, "response": "11"},
    "/get_reward": {"query": [CHATML], "prompts": [CHATML.removesuffix("11<|im_end|>")]},
    "/slime": {"prompt": QUERY, "response": "11"},
    "/classify": {"model": "m", "input": CHATML},
    "/v1/embeddings": {"model": "m", "input": CHATML},
    "/verify": GYM,
    "/compare": {"conversation_history": TURNS[:1], "response_objs": [OUTPUT, OUTPUT]},
    "/v1/chat/completions": {"model": "m", "messages": TURNS},
    "/rerank": {"query": QUERY, "documents": ANSWERS},
    "/score": {"text_1": QUERY, "text_2": ANSWERS},
    "/predict": {"inputs": [[QUERY, "11"]]},
}
COMMANDS = {
    "judge": ["judge", "request.json"],
    "eval": ["eval", "items.jsonl", "--out", "run"],
    "improve": ["improve", "improve.json"],
    "pairs": ["pairs", "prompts.jsonl", "--out", "run"],
    "probe": ["probe"],
}
FLAGS = {"improve": IMPROVE, "pairs": IMPROVE}
FILES = {
    "request.json": {"query": QUERY, "responses": ANSWERS},
    "improve.json": JSON_DOORS["/v1/improve"],
    "prompts.jsonl": {"prompt": QUERY, "drafts": ANSWERS},
    "items.jsonl": {
        "id": "1",
        "messages": TURNS[:1],
        "responses": ANSWERS,
        "preferred": 0,
    },
}


class Stop(BadTask):
    """Ends a judgement before it begins."""


@pytest.fixture
def tasks(monkeypatch):
    """Return the tasks that reach the service; none is judged."""
    received = []

    async def judge(self, task, on_event=None, requester=None):
        received.append(task)
        raise Stop("not judged in this test")

    monkeypatch.setattr(Service, "judge", judge)
    return received


def assert_reached(tasks):
    """Compare every option of the first task that reached the service with the value that was set."""
    options = tasks[0].options
    assert options.timeout_s == pytest.approx(VALUES["timeout_s"], abs=10), "what is left of it"
    derived = {"timeout_s": options.timeout_s, "seed": options.seed}
    assert options == JudgeOptions(**VALUES | derived)
    assert options.seed != JudgeOptions().seed  # items and probes derive seeds of their own from it


def as_json(renamed=None):
    names = renamed or {}
    fields = VALUES | {"principles": {"mode": "fixed", "set": "helpfulness"}}
    return {names.get(name, name): value for name, value in fields.items()}


URL_OPTIONS = VALUES | {"principles": "helpfulness", "mode": "fixed"}
AS_IN_A_URL = urlencode(URL_OPTIONS)


def test_values_cover_all_options():
    assert VALUES.keys() == {field.name for field in fields(JudgeOptions)}
    defaults = JudgeOptions()
    assert not [name for name, value in VALUES.items() if value == getattr(defaults, name)]


@pytest.mark.anyio
@pytest.mark.parametrize("path", JSON_DOORS)
async def test_json_options(serve, tasks, path):
    body = JSON_DOORS[path] | as_json(IMPROVE if path == "/v1/improve" else None)
    async with serve() as client:
        await client.post(path, json=[body] if path.endswith("batch") else body)
    assert_reached(tasks)


@pytest.mark.anyio
@pytest.mark.parametrize("path", URL_DOORS)
async def test_url_options(serve, tasks, path):
    async with serve() as client:
        await client.post(path, params={"window_s": 0} | URL_OPTIONS, json=URL_DOORS[path])
    assert_reached(tasks)


@pytest.mark.anyio
async def test_dialect_default_options(serve, tasks):
    async with serve(dialect_options=AS_IN_A_URL) as client:
        await client.post("/v1/rewards/single?window_s=0", json=URL_DOORS["/v1/rewards/single"])
    assert_reached(tasks)


@pytest.mark.anyio
async def test_scheduled_probe_options(serve, tasks):
    async with serve(probe_every_s=60.0, probe_options=AS_IN_A_URL):
        await until(lambda: tasks)
    assert_reached(tasks)


@pytest.mark.parametrize("command", COMMANDS)
def test_flags(tasks, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    for file, content in FILES.items():
        (tmp_path / file).write_text(json.dumps(content) + "\n")
    flags = FLAGS.get(command, {})
    arguments = COMMANDS[command]
    for name, value in (VALUES | {"principles": "fixed:helpfulness"}).items():
        arguments = [*arguments, f"--{flags.get(name, name).replace('_', '-')}", str(value)]
    result = CliRunner().invoke(app, arguments, env={"GRM_ENGINE": "scripted"})
    assert tasks, result.output
    assert_reached(tasks)


def test_python_options(tasks, tmp_path):
    trail = {"audit_url": f"sqlite:///{tmp_path}/a.db", "audit_key_file": tmp_path / "a.key"}
    with Judge.load(engine="scripted", **trail) as judge, pytest.raises(NoVerdict):
        judge.rewards(QUERY, ANSWERS, **as_json())
    assert_reached(tasks)
