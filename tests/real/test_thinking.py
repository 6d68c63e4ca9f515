"""Judges that think: a small model that was trained to, in both engines and behind `transformers serve`.

`make thinking-model` trains it once (tests/real/thinking_model.py); THINKING_MODEL is another folder of it.
"""

import contextlib
import json
import os
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from grm_service.engines.files.convert import convert
from tests.real.thinking_model import BAD, GOOD, PREFILL, PROFILE, QWEN3, R1, REJECTED
from tests.servers import transformers_serve

MODEL = Path(os.environ.get("THINKING_MODEL") or Path(__file__).parents[2] / "build/thinking-model")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not MODEL.is_dir(), reason="there is no model: run make thinking-model"),
]
SERVICES = {
    "openvino": ("openvino", QWEN3),
    "openvino, opened": ("openvino", R1),
    "transformers": ("transformers", QWEN3),
    "transformers, opened": ("transformers", R1),
    "server": ("openai", QWEN3),
    "server, opened": ("openai", R1),
    "server that continues": ("openai", PREFILL),
}
PAIR = {"query": "What is the capital of Australia?", "responses": ["I do not know.", "Canberra."], "k": 4}


@pytest.fixture(scope="module", params=SERVICES)
def service(request, running, tmp_path_factory):
    """A service that judges with the model, with the flags and environment that it was started with."""
    engine, variant = SERVICES[request.param]
    folder, files = tmp_path_factory.mktemp("service"), MODEL / variant
    with contextlib.ExitStack() as stack:
        if engine == "openai":
            url = stack.enter_context(transformers_serve(files, folder / "log"))
            env = {"GRM_OPENAI_BASE_URL": url, "GRM_OPENAI_MODEL": str(files)}
        elif engine == "openvino":
            convert(files, folder / "judge.gguf")
            env = {"GRM_MODEL": str(folder / "judge.gguf")}
        else:
            env = {"GRM_MODEL": str(files)}
        flags = ("--engine", engine, "--profile", str(PROFILE))
        server = stack.enter_context(running(*flags, **env))
        server.flags, server.env, server.variant = flags, env, variant
        with urllib.request.urlopen(server.url + "/readyz") as reply:
            server.ready = json.load(reply)
        yield server


def judged(service, **options):
    status, reply = service.post("/v1/rewards", PAIR | options, timeout=600)
    assert status == 200, reply
    return reply


def box(text):
    """Return the numbers of the only box in a text."""
    (numbers,) = re.findall(r"\\boxed\{([\d, ]+)\}", text)
    return [int(number) for number in numbers.split(",")]


def written(sample):
    """Return the scores of a sample in the order of its prompt."""
    return [sample["scores"][i] for i in sample["order"]]


def test_drafts_are_not_the_verdict(service):
    reply = judged(service)
    assert reply["status"] == "ok"
    for sample in reply["samples"]:
        assert not sample["closed"]
        assert "think>" not in sample["text"] + sample["thinking"]
        assert written(sample) == box(sample["text"])
    assert any(box(sample["thinking"]) != written(sample) for sample in reply["samples"])


def test_soft_scores_follow_the_thinking(service):
    status, reply = service.post("/v1/rewards", PAIR | {"score": "soft"}, timeout=600)
    if {"alternatives", "continues", "continues_thinking"} & set(service.ready["lacks"]):
        assert (status, reply["code"]) == (422, "soft_not_served")
        return
    assert status == 200, reply
    for sample in reply["samples"]:
        assert sample["soft_error"] is None
        # A judge that did not see its thinking would be as likely to prefer the other response.
        (a, b), (c, d) = sample["expected"], sample["scores"]
        assert (a > b) == (c > d)


def continues(service):
    """Return whether an answer is continued after its thinking; else the judge is asked for the scores."""
    return not {"continues", "continues_thinking"} & set(service.ready["lacks"])


@pytest.mark.parametrize("thinking_tokens", [4, 30], ids=["before the draft", "after the draft"])
def test_cut_thinking_is_closed(service, thinking_tokens):
    """So small a judge does not always answer if it is asked for the scores; then it has none."""
    reply = judged(service, thinking_tokens=thinking_tokens, max_tokens=2)
    for sample in reply["samples"]:
        assert sample["closed"] or not continues(service)
        if not sample["closed"]:
            assert (sample["error"], sample["scores"]) == ("cut_in_thinking", None)
            continue
        # Some thinking ends within 30 tokens, and the answer has the other two.
        assert sample["closed_reason"] == ("cut_in_thinking" if sample["thinking_cut"] else "no_scores")
        assert sample["thinking_cut"] or thinking_tokens == 30
        assert written(sample) == box(sample["text"])
        if continues(service):
            assert ("boxed" in sample["thinking"]) == (thinking_tokens == 30)


def test_thinking_can_be_turned_off(service):
    status, reply = service.post("/v1/rewards", PAIR | {"thinking_tokens": 0}, timeout=600)
    if not service.ready["thinking"]["can_disable"]:
        assert status == 422
        assert "thinking.off" in reply["detail"]
        return
    assert status == 200, reply
    for sample in reply["samples"]:
        assert sample["thinking"] is None
        assert written(sample) == box(sample["text"])


def test_principles_are_not_rejected_ones(service):
    reply = judged(service, principles={"mode": "query"})
    assert reply["principles"]
    assert not any(word in each["text"].lower() for word in REJECTED for each in reply["principles"])


def test_readyz_tells_how_it_thinks(service):
    thinking = service.ready["thinking"]
    assert thinking["thinks"] == "inline"
    if "openai" not in service.flags:  # a server is asked once, and the small judge writes stray tags
        assert thinking["opened"] == (service.variant == R1)
    if service.variant == R1:  # its template always opens the thinking
        assert not thinking["can_disable"]
    elif "openai" not in service.flags:  # a server is asked, and the small judge thinks against its template
        assert thinking["can_disable"]


ROWS = (
    ("What is the capital of France?", ["Paris is the capital.", "No idea."], 0),
    ("Who wrote Hamlet?", ["Ask someone else.", "William Shakespeare."], 1),
    ("What do bees make?", ["I do not know.", "Honey."], 1),
)


@pytest.mark.parametrize("closed", [False, True])
def test_eval_reads_the_answers(service, tmp_path, closed):
    items = (
        {
            "id": str(number),
            "source": "own",
            "messages": [{"role": "user", "content": query}],
            "responses": responses,
            "preferred": preferred,
        }
        for number, (query, responses, preferred) in enumerate(ROWS)
    )
    data, out = tmp_path / "data.jsonl", tmp_path / "out"
    data.write_text("".join(json.dumps(item) + "\n" for item in items))
    command = [sys.executable, "-m", "grm_service", "eval", "run", data, "--out", out, "--k", "2"]
    cut = ["--thinking-tokens", "30", "--max-tokens", "2"] if closed else []
    done = subprocess.run(
        [*command, *service.flags, *cut], env={**os.environ, **service.env}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    results = [json.loads(line) for line in (out / "items.jsonl").read_text().splitlines()]
    if continues(service) or not closed:
        assert [result["error"] for result in results] == [None] * len(ROWS)
    samples = [sample for result in results for sample in result["samples"]]
    assert {sample["closed"] or sample["error"] is not None for sample in samples} == {closed}
    # The judge's drafts have other numbers than its verdicts.
    assert closed or {score for sample in samples for score in sample["scores"]} == {GOOD, BAD}
