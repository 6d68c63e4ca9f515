"""A judge that writes Chinese, with a Chinese profile and with one that has none of its labels."""

from dataclasses import replace

import pytest

from grm_service.engines.base import Abilities
from grm_service.engines.scripted import ScriptedEngine
from grm_service.judging.judge import GenerativeRewardModel
from grm_service.judging.plan import plan
from grm_service.profiles.profile import Closing, Sections
from grm_service.types import JudgeOptions, Message, Task
from tests.judging.profiles import PROFILE

pytestmark = pytest.mark.anyio
TASK = Task((Message("user", "说一个质数。"),), ("十一", "十二"), options=JudgeOptions(k=2))
CHINESE = replace(
    PROFILE,
    sections=Sections("评判标准", "分析"),
    closing=Closing("\n\n评分：\\boxed{", "只写评分，形式为 \\boxed{{{boxed}}}"),
)
CRITIQUE = "评判标准：\n1. 正确（权重：100%）\n分析：只有一个是质数。"


def box(prompt):
    content = prompt.messages[0].content
    return "9，2" if content.index("十一") < content.index("十二") else "2，9"


async def run_judge(script, profile, continues, **options):
    engine = ScriptedEngine(script)
    engine.abilities = Abilities(continues=continues)
    return await GenerativeRewardModel(engine).judge(plan(TASK.with_options(**options), profile)), engine


@pytest.mark.parametrize("continues", [True, False])
@pytest.mark.parametrize("profile", [CHINESE, PROFILE])
async def test_answer_needs_no_second_call(profile, continues):
    verdict, engine = await run_judge(
        lambda prompt, params: f"{CRITIQUE}\n评分：\\boxed{{{box(prompt)}}}", profile, continues
    )
    assert verdict.vote.rewards == (9, 2)
    assert len(engine.prompts) == 2
    assert not any(sample.closed for sample in verdict.samples)


async def test_sections_of_the_profile():
    verdict, _ = await run_judge(
        lambda prompt, params: f"{CRITIQUE}\n评分：\\boxed{{{box(prompt)}}}", CHINESE, True
    )
    critique = verdict.samples[0].critique
    assert [(each.text, each.weight) for each in critique.principles] == [("正确", 1)]
    assert critique.analysis == "只有一个是质数。"


async def test_closing_of_the_profile():
    def script(prompt, params):
        return f"{box(prompt)}}}" if prompt.continuation else f"{CRITIQUE}\n评分：\\boxed{{"

    verdict, _ = await run_judge(script, CHINESE, True)
    assert verdict.vote.rewards == (9, 2)
    assert all(sample.text.startswith(f"{CRITIQUE}\n\n评分：\\boxed{{") for sample in verdict.samples)


async def test_request_for_the_scores():
    def script(prompt, params):
        return f"评分：\\boxed{{{box(prompt)}}}" if len(prompt.messages) > 1 else CRITIQUE

    verdict, engine = await run_judge(script, CHINESE, False)
    assert verdict.vote.rewards == (9, 2)
    assert engine.prompts[-1].messages[-1].content == "只写评分，形式为 \\boxed{x, x}"


async def test_soft_scores_at_each_number():
    def script(prompt, params):
        if not prompt.continuation:
            return f"{CRITIQUE}\n评分：\\boxed{{{box(prompt)}}}"
        written = prompt.continuation.rpartition("\\boxed{")[2]
        return box(prompt).split("，")[written.count("，")]

    verdict, _ = await run_judge(script, CHINESE, True, score="soft")
    # The scripted engine has probability 0.25 for the number below the one it writes.
    assert verdict.vote.rewards == (8.75, 1.75)
