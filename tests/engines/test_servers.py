"""A real pair, judged end to end by the servers of `make test-vllm`."""

import json
from pathlib import Path

import pytest

from grm_service.judging.judge import GenerativeRewardModel
from grm_service.judging.plan import plan
from grm_service.profiles.catalog import load_catalog
from grm_service.types import JudgeOptions, Message, Task

pytestmark = [pytest.mark.anyio, pytest.mark.vllm]
PAIR = json.loads((Path(__file__).parents[2] / "examples/pair.json").read_text())


@pytest.fixture(params=["vllm", "llama"])
def server(request):
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("score", ["hard", "soft"])
async def test_a_pair_is_judged(server, score):
    judge = GenerativeRewardModel(server)
    task = Task(
        (Message("user", PAIR["query"]),), tuple(PAIR["responses"]), options=JudgeOptions(k=8, score=score)
    )
    verdict = await judge.judge(plan(task, load_catalog().profile("smollm2-135m")))
    assert verdict.status == "ok"
    assert len({sample.text for sample in verdict.samples}) >= 7
    assert all(1 <= score <= 10 for sample in verdict.samples for score in sample.scores)
    whole = [score == int(score) for sample in verdict.samples for score in sample.scores]
    assert all(whole) if score == "hard" else not any(whole)
