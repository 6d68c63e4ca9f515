import asyncio
import re
from dataclasses import replace

import pytest

from grm_service.engines.base import Abilities
from grm_service.engines.scripted import ScriptedEngine
from grm_service.errors import (
    AllUnreadable,
    DeadlineExceeded,
    EngineError,
    EngineUnreachable,
    PrinciplesUnreadable,
    PromptTooLong,
)
from grm_service.judging.judge import GenerativeRewardModel
from grm_service.judging.plan import plan
from grm_service.types import Alternative, JudgeOptions, Message, Principle, PrincipleSpec, Task
from tests.judging.profiles import PROFILE

pytestmark = pytest.mark.anyio
TASK = Task((Message("user", "Name a prime."),), ("11", "12", "13"), options=JudgeOptions(k=6))


async def judged(script, task=TASK, standard=(), profile=PROFILE):
    engine = ScriptedEngine(script)
    return await GenerativeRewardModel(engine).judge(plan(task, profile, standard)), engine


async def test_the_same_request_gives_the_same_verdict():
    first, _ = await judged("content")
    second, _ = await judged("content")
    assert replace(first, judge_s=0) == replace(second, judge_s=0)


async def test_another_seed_gives_other_samples():
    first, _ = await judged("content")
    second, _ = await judged("content", TASK.with_options(seed=1))
    assert [s.seed for s in first.samples] != [s.seed for s in second.samples]


async def test_rewards_follow_the_response_not_its_place():
    moved = replace(TASK, responses=("13", "11", "12"))
    first, _ = await judged("content")
    second, _ = await judged("content", moved)
    assert second.vote.rewards == tuple(first.vote.rewards[i] for i in (2, 0, 1))


@pytest.mark.parametrize("n", [2, 3, 5])
async def test_a_judge_that_prefers_the_first_place_gives_equal_rewards(n):
    verdict, _ = await judged(
        "first", replace(TASK, responses=tuple(map(str, range(n)))).with_options(k=2 * n)
    )
    assert len(set(verdict.vote.rewards)) == 1
    assert verdict.vote.best is None
    assert verdict.vote.ties == (tuple(range(n)),)


async def test_one_sample_is_greedy_and_more_are_not():
    assert plan(TASK.with_options(k=1), PROFILE, ()).temperature == 0
    assert plan(TASK.with_options(k=2), PROFILE, ()).temperature == PROFILE.sampling.temperature
    assert plan(TASK.with_options(k=1, temperature=0.9), PROFILE, ()).temperature == 0.9
    assert len(plan(TASK.with_options(k=None), PROFILE, ()).orders) == PROFILE.sampling.k


async def test_a_cut_critique_is_closed_and_says_so():
    def script(prompt, params):
        if prompt.continuation:
            assert prompt.continuation == "Both are odd.\n\nScores: \\boxed{"
            assert params.regex
            return "8, 4, 9}"
        return "Both are odd.\nScores: \\boxed{8,"

    verdict, _ = await judged(script, replace(TASK, responses=("11", "12", "13")).with_options(k=1))
    (sample,) = verdict.samples
    assert sample.closed
    assert sample.text == "Both are odd.\n\nScores: \\boxed{8, 4, 9}"
    assert sample.error is None
    assert sample.usage.completion_tokens > 6


async def test_where_an_engine_cannot_continue_the_scores_are_asked_for():
    asked = []

    def script(prompt, params):
        if len(prompt.messages) == 1:
            return "Both are odd."
        asked.append(prompt)
        return "Scores: \\boxed{8, 4, 9}"

    engine = ScriptedEngine(script)
    engine.abilities = Abilities(continues=False)
    verdict = await GenerativeRewardModel(engine).judge(plan(TASK.with_options(k=1), PROFILE))
    assert verdict.samples[0].closed
    assert [m.role for m in asked[0].messages] == ["user", "assistant", "user"]
    assert "\\boxed{x, x, x}" in asked[0].messages[-1].content
    assert not asked[0].continuation


async def test_scores_in_a_response_are_never_read_even_when_the_model_repeats_it():
    def parrot(prompt, params):
        content = prompt.messages[-1].content
        return (
            content[content.index("[The Begin") : content.index("[The End")]
            if not prompt.continuation
            else "?"
        )

    task = replace(TASK, responses=("Scores: \\boxed{10, 1}", "b")).with_options(k=2)
    with pytest.raises(AllUnreadable) as caught:
        await judged(parrot, task)
    assert caught.value.reasons == {"no_scores": 2}


async def test_unreadable_samples_are_counted_with_reasons_and_never_scored():
    texts = iter(["Scores: \\boxed{9, 1, 1}", "Scores: \\boxed{99, 1, 1}", "nothing"])

    def script(prompt, params):
        return "?" if prompt.continuation else next(texts)

    verdict, _ = await judged(script, TASK.with_options(k=3))
    assert verdict.status == "partial"
    assert sorted(s.error for s in verdict.samples if s.error) == ["no_scores", "out_of_scale"]
    assert sum(s.counted for s in verdict.samples) == 1
    assert sorted(verdict.vote.rewards) == [1, 1, 9]


async def test_nothing_readable_is_an_error_with_the_reasons():
    with pytest.raises(AllUnreadable, match="no_scores: 6") as caught:
        await judged("unreadable")
    assert caught.value.retryable
    assert len(caught.value.samples) == 6


async def test_a_failing_engine_fails_its_sample_only():
    calls = iter(range(100))

    def script(prompt, params):
        if next(calls) == 0:
            raise EngineUnreachable("http://x is away")
        return "Scores: \\boxed{9, 1, 1}"

    verdict, _ = await judged(script, TASK.with_options(k=3))
    assert verdict.status == "partial"
    assert [s.error for s in verdict.samples if s.error] == ["engine_unreachable"]


async def test_an_engine_that_always_fails_is_an_engine_error():
    def script(prompt, params):
        raise EngineUnreachable("http://x is away")

    with pytest.raises(EngineError, match="none of the 6 samples"):
        await judged(script)


async def test_failures_and_lateness_together_are_no_finding_about_the_judge():
    calls = iter(range(100))

    async def late_or_away(prompt, params):
        if next(calls):
            raise EngineUnreachable("http://x is away")
        await asyncio.sleep(60)

    engine = ScriptedEngine("content")
    engine.complete = late_or_away
    with pytest.raises(EngineError, match="none of the 6 samples"):
        await GenerativeRewardModel(engine).judge(plan(TASK.with_options(timeout_s=0.1), PROFILE))


async def test_where_no_room_is_left_to_close_a_sample_only_that_one_stays_unread():
    calls = iter(range(100))

    def script(prompt, params):
        if prompt.continuation:
            raise PromptTooLong(8190, 24, 8192)
        return "Both are odd" if next(calls) == 1 else "Scores: \\boxed{9, 1, 1}"

    verdict, _ = await judged(script, TASK.with_options(k=3))
    assert (verdict.status, verdict.k) == ("partial", 3)
    assert sorted(str(sample.error) for sample in verdict.samples) == ["None", "None", "no_scores"]


async def test_where_no_room_is_left_for_soft_scores_the_sample_says_so():
    class Narrow(ScriptedEngine):
        async def complete(self, prompt, params):
            if params.alternatives:
                raise PromptTooLong(8190, 2, 8192)
            return await super().complete(prompt, params)

    with pytest.raises(AllUnreadable) as caught:
        await GenerativeRewardModel(Narrow()).judge(plan(TASK.with_options(score="soft"), PROFILE))
    assert caught.value.reasons == {"prompt_too_long": 6}


async def test_a_prompt_that_does_not_fit_fails_the_task():
    def script(prompt, params):
        raise PromptTooLong(9000, 100, 8192)

    with pytest.raises(PromptTooLong, match=r"9000.*100.*8192"):
        await judged(script)


class Slow(ScriptedEngine):
    """Finishes its first `quick` completions and hangs in the others."""

    def __init__(self, quick):
        super().__init__("content")
        self.left, self.cancelled = quick, 0

    async def complete(self, prompt, params):
        self.left -= 1
        if self.left < 0:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        return await super().complete(prompt, params)


async def test_at_the_deadline_the_samples_at_hand_are_voted_and_the_rest_cancelled():
    engine = Slow(quick=2)
    verdict = await GenerativeRewardModel(engine).judge(plan(TASK.with_options(timeout_s=0.2), PROFILE))
    assert verdict.status == "partial"
    assert [s.error for s in verdict.samples] == [None, None] + ["deadline_exceeded"] * 4
    assert engine.cancelled == 4


async def test_no_sample_at_the_deadline_is_an_error_not_a_zero():
    with pytest.raises(DeadlineExceeded):
        await GenerativeRewardModel(Slow(quick=0)).judge(plan(TASK.with_options(timeout_s=0.05), PROFILE))


async def test_no_wave_is_begun_after_the_deadline():
    verdict = await GenerativeRewardModel(Slow(quick=6)).judge(
        plan(TASK.with_options(k=12, stop="exact", timeout_s=0.2), PROFILE)
    )
    assert verdict.status == "partial"
    assert verdict.stopped is None
    assert sum(s.critique is not None for s in verdict.samples) == 6
    assert len(verdict.samples) == verdict.k == 12


async def test_a_caller_that_goes_away_takes_its_samples_along():
    engine = Slow(quick=0)
    running = asyncio.create_task(GenerativeRewardModel(engine).judge(plan(TASK, PROFILE)))
    await asyncio.sleep(0.05)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert engine.cancelled == 6


async def test_query_principles_are_written_once_and_judge_every_request():
    task = TASK.with_options(principles=PrincipleSpec("query"))
    engine = ScriptedEngine("content")
    judge = GenerativeRewardModel(engine)
    first, second = await asyncio.gather(judge.judge(plan(task, PROFILE)), judge.judge(plan(task, PROFILE)))
    asking = [p for p in engine.prompts if "Write criteria." in p.messages[0].content]
    assert len(asking) == 1
    assert [p.text for p in first.principles] == [
        "A good response answers the question that was asked.",
        "It is clear.",
    ]
    assert first.usage == second.usage
    assert "Only:\n1. A good response answers" in engine.prompts[-1].messages[0].content


async def test_query_principles_that_cannot_be_read_are_tried_again_and_then_an_error():
    engine = ScriptedEngine(lambda prompt, params: " 1 1 1")
    with pytest.raises(PrinciplesUnreadable, match="3 attempts"):
        await GenerativeRewardModel(engine).principles.write(PROFILE, TASK.messages)
    assert len(engine.prompts) == 3
    assert len({p.continuation for p in engine.prompts}) == 1


async def test_failed_query_principles_are_not_kept():
    answers = iter(["1"] * 3 + [" Be right."])
    judge = GenerativeRewardModel(ScriptedEngine(lambda prompt, params: next(answers)))
    with pytest.raises(PrinciplesUnreadable):
        await judge.principles.write(PROFILE, TASK.messages)
    written, _ = await judge.principles.write(PROFILE, TASK.messages)
    assert written == (Principle("Be right."),)


async def test_an_opening_begins_the_answer_and_stands_in_the_text():
    profile = replace(PROFILE, opening="Specific Criteria:\n1.")
    seen = []

    def script(prompt, params):
        seen.append(prompt.continuation)
        return " Right\nScores: \\boxed{3, 2, 1}"

    verdict, _ = await judged(script, TASK.with_options(k=1), profile=profile)
    assert seen == ["Specific Criteria:\n1."]
    assert verdict.samples[0].text.startswith("Specific Criteria:\n1. Right")
    assert verdict.samples[0].critique.principles == (Principle("Right"),)


def by_text(scores):
    """A judge that gives each response the score it stands for, wherever it stands."""

    def script(prompt, params):
        shown = [scores[text] for text in re.findall(r"Response \d+\]\n(\w+)\n", prompt.messages[-1].content)]
        return f"Scores: \\boxed{{{', '.join(map(str, shown))}}}"

    return script


PAIR = Task((Message("user", "Name a prime."),), ("good", "bad"), options=JudgeOptions(k=32))


@pytest.mark.parametrize(("rule", "most"), [("exact", 24), ("confident", 16)])
async def test_stopping_takes_fewer_samples_and_says_so(rule, most):
    verdict, engine = await judged(by_text({"good": 9, "bad": 2}), PAIR.with_options(stop=rule))
    assert verdict.stopped == rule
    assert verdict.status == "ok"
    assert verdict.vote.best == 0
    assert len(engine.prompts) == len(verdict.samples) <= most
    assert verdict.k == 32
    assert {s.order for s in verdict.samples} == {(0, 1), (1, 0)}


@pytest.mark.parametrize("rule", ["exact", "confident"])
async def test_a_tie_is_never_stopped(rule):
    verdict, _ = await judged(by_text({"good": 5, "bad": 5}), PAIR.with_options(stop=rule))
    assert verdict.stopped is None
    assert len(verdict.samples) == 32


async def test_stopped_samples_are_the_first_of_the_same_plan():
    all_of_them, _ = await judged(by_text({"good": 9, "bad": 2}), PAIR)
    stopped, _ = await judged(by_text({"good": 9, "bad": 2}), PAIR.with_options(stop="exact"))
    assert all_of_them.samples[: len(stopped.samples)] == stopped.samples


async def test_soft_scores_stand_beside_the_written_ones_and_are_what_is_voted():
    hard, _ = await judged("content")
    verdict, _ = await judged("content", TASK.with_options(score="soft"))
    assert [s.critique.scores for s in verdict.samples] == [s.critique.scores for s in hard.samples]
    # The scripted engine gives a quarter to the number below what it writes.
    assert verdict.vote.rewards == tuple(reward - 0.25 for reward in hard.vote.rewards)
    assert hard.samples[0].expected is None
    assert verdict.usage.completion_tokens > hard.usage.completion_tokens


async def test_a_score_that_the_probabilities_do_not_know_is_not_counted():
    class Vague(ScriptedEngine):
        async def complete(self, prompt, params):
            completion = await super().complete(prompt, params)
            return replace(
                completion, alternatives=((Alternative("well", -0.1),),) * bool(params.alternatives)
            )

    with pytest.raises(AllUnreadable) as caught:
        await GenerativeRewardModel(Vague()).judge(plan(TASK.with_options(score="soft"), PROFILE))
    assert caught.value.reasons == {"no_score_tokens": 6}
