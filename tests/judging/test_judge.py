"""The judge: sampling, closing of cut critiques, deadlines, principles, early stop and soft scores."""

import asyncio
import math
import re
from dataclasses import replace

import pytest

from grm_service.engines.base import Abilities, ThinkingBehavior
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
from grm_service.judging.parse import closing_regex, critique_regex
from grm_service.judging.plan import plan
from grm_service.types import Alternative, JudgeOptions, Message, Principle, PrincipleSpec, Task
from tests.judging.profiles import PROFILE

pytestmark = pytest.mark.anyio
TASK = Task((Message("user", "Name a prime."),), ("11", "12", "13"), options=JudgeOptions(k=6))


async def run_judge(script, task=TASK, standard=(), profile=PROFILE):
    engine = ScriptedEngine(script)
    return await GenerativeRewardModel(engine).judge(plan(task, profile, standard)), engine


async def test_same_request_gives_same_verdict():
    first, _ = await run_judge("content")
    second, _ = await run_judge("content")
    assert replace(first, judge_s=0) == replace(second, judge_s=0)


async def test_seed_changes_the_samples():
    first, _ = await run_judge("content")
    second, _ = await run_judge("content", TASK.with_options(seed=1))
    assert [s.seed for s in first.samples] != [s.seed for s in second.samples]


async def test_rewards_follow_the_responses():
    moved = replace(TASK, responses=("13", "11", "12"))
    first, _ = await run_judge("content")
    second, _ = await run_judge("content", moved)
    assert second.vote.rewards == tuple(first.vote.rewards[i] for i in (2, 0, 1))


@pytest.mark.parametrize("n", [2, 3, 5])
async def test_position_bias_cancels(n):
    verdict, _ = await run_judge(
        "first", replace(TASK, responses=tuple(map(str, range(n)))).with_options(k=2 * n)
    )
    assert len(set(verdict.vote.rewards)) == 1
    assert verdict.vote.best is None
    assert verdict.vote.ties == (tuple(range(n)),)


async def test_single_sample_is_greedy():
    assert plan(TASK.with_options(k=1), PROFILE, ()).temperature == 0
    assert plan(TASK.with_options(k=2), PROFILE, ()).temperature == PROFILE.sampling.temperature
    assert plan(TASK.with_options(k=1, temperature=0.9), PROFILE, ()).temperature == 0.9
    assert len(plan(TASK.with_options(k=None), PROFILE, ()).orders) == PROFILE.sampling.k


async def test_truncated_critique_is_closed():
    def script(prompt, params):
        if prompt.continuation:
            assert prompt.continuation == "Both are odd.\n\nScores: \\boxed{"
            assert params.regex
            return "8, 4, 9}"
        return "Both are odd.\nScores: \\boxed{8,"

    verdict, _ = await run_judge(script, replace(TASK, responses=("11", "12", "13")).with_options(k=1))
    (sample,) = verdict.samples
    assert sample.closed
    assert sample.text == "Both are odd.\n\nScores: \\boxed{8, 4, 9}"
    assert sample.error is None
    assert sample.usage.completion_tokens > 6


async def test_closing_without_continuation():
    """An engine that cannot continue a text gets another turn that requests the scores."""
    closing_prompts = []

    def script(prompt, params):
        if len(prompt.messages) == 1:
            return "Both are odd."
        closing_prompts.append(prompt)
        return "Scores: \\boxed{8, 4, 9}"

    engine = ScriptedEngine(script)
    engine.abilities = Abilities(continues=False)
    verdict = await GenerativeRewardModel(engine).judge(plan(TASK.with_options(k=1), PROFILE))
    assert verdict.samples[0].closed
    assert [m.role for m in closing_prompts[0].messages] == ["user", "assistant", "user"]
    assert "\\boxed{x, x, x}" in closing_prompts[0].messages[-1].content
    assert not closing_prompts[0].continuation


async def test_quoted_scores_are_not_read():
    """Scores in a response do not count, even if the model repeats that response."""

    def parrot(prompt, params):
        content = prompt.messages[-1].content
        return (
            content[content.index("[The Begin") : content.index("[The End")]
            if not prompt.continuation
            else "?"
        )

    task = replace(TASK, responses=("Scores: \\boxed{10, 1}", "b")).with_options(k=2)
    with pytest.raises(AllUnreadable) as caught:
        await run_judge(parrot, task)
    assert caught.value.reasons == {"no_scores": 2}


async def test_unreadable_samples_are_not_scored():
    texts = iter(["Scores: \\boxed{9, 1, 1}", "Scores: \\boxed{99, 1, 1}", "nothing"])

    def script(prompt, params):
        return "?" if prompt.continuation else next(texts)

    verdict, _ = await run_judge(script, TASK.with_options(k=3))
    assert verdict.status == "partial"
    assert sorted(s.error for s in verdict.samples if s.error) == ["no_scores", "out_of_scale"]
    assert sum(s.counted for s in verdict.samples) == 1
    assert sorted(verdict.vote.rewards) == [1, 1, 9]


async def test_all_unreadable_is_an_error():
    with pytest.raises(AllUnreadable, match="no_scores: 6") as caught:
        await run_judge("unreadable")
    assert caught.value.retryable
    assert len(caught.value.samples) == 6


async def test_engine_failure_fails_one_sample():
    calls = iter(range(100))

    def script(prompt, params):
        if next(calls) == 0:
            raise EngineUnreachable("http://x is unreachable")
        return "Scores: \\boxed{9, 1, 1}"

    verdict, _ = await run_judge(script, TASK.with_options(k=3))
    assert verdict.status == "partial"
    assert [s.error for s in verdict.samples if s.error] == ["engine_unreachable"]


async def test_engine_failure_of_every_sample():
    def script(prompt, params):
        raise EngineUnreachable("http://x is unreachable")

    with pytest.raises(EngineError, match="none of the 6 samples"):
        await run_judge(script)


async def test_failures_and_timeouts_raise_engine_error():
    """They are not reported as unreadable samples."""
    calls = iter(range(100))

    async def late_or_unreachable(prompt, params):
        if next(calls):
            raise EngineUnreachable("http://x is unreachable")
        await asyncio.sleep(60)

    engine = ScriptedEngine("content")
    engine.complete = late_or_unreachable
    with pytest.raises(EngineError, match="none of the 6 samples"):
        await GenerativeRewardModel(engine).judge(plan(TASK.with_options(timeout_s=0.1), PROFILE))


async def test_no_room_to_close_a_sample():
    """The other samples are still voted."""
    calls = iter(range(100))

    def script(prompt, params):
        if prompt.continuation:
            raise PromptTooLong(8190, 24, 8192)
        return "Both are odd" if next(calls) == 1 else "Scores: \\boxed{9, 1, 1}"

    verdict, _ = await run_judge(script, TASK.with_options(k=3))
    assert (verdict.status, verdict.k) == ("partial", 3)
    assert sorted(str(sample.error) for sample in verdict.samples) == ["None", "None", "no_scores"]


@pytest.mark.parametrize(("chars", "error"), [(2**17, None), (2**21, "engine_failed")])
async def test_completion_of_any_length_is_bounded(chars, error):
    """A long one is read in a thread; one that no model writes is an error of the engine."""

    class Looping(ScriptedEngine):
        async def complete(self, prompt, params):
            completion = await super().complete(prompt, params)
            return replace(completion, text="#" * chars + "\n" + completion.text)

    task = TASK.with_options(k=1)
    if error:
        with pytest.raises(EngineError, match="characters"):
            await GenerativeRewardModel(Looping()).judge(plan(task, PROFILE))
    else:
        verdict = await GenerativeRewardModel(Looping()).judge(plan(task, PROFILE))
        assert (verdict.status, verdict.samples[0].error) == ("ok", None)


async def test_no_room_for_soft_scores():
    class Narrow(ScriptedEngine):
        async def complete(self, prompt, params):
            if params.alternatives:
                raise PromptTooLong(8190, 2, 8192)
            return await super().complete(prompt, params)

    verdict = await GenerativeRewardModel(Narrow()).judge(plan(TASK.with_options(score="soft"), PROFILE))
    assert verdict.status == "partial"
    assert {sample.soft_error for sample in verdict.samples} == {"prompt_too_long"}
    assert all(sample.counted for sample in verdict.samples)


async def test_too_long_prompt_fails_the_task():
    def script(prompt, params):
        raise PromptTooLong(9000, 100, 8192)

    with pytest.raises(PromptTooLong, match=r"9000.*100.*8192"):
        await run_judge(script)


class Slow(ScriptedEngine):
    """An engine that finishes its first `quick` completions and hangs in the others."""

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


async def test_deadline_votes_the_finished_samples():
    engine = Slow(quick=2)
    verdict = await GenerativeRewardModel(engine).judge(plan(TASK.with_options(timeout_s=0.2), PROFILE))
    assert verdict.status == "partial"
    assert [s.error for s in verdict.samples] == [None, None] + ["deadline_exceeded"] * 4
    assert engine.cancelled == 4


async def test_deadline_without_samples_is_an_error():
    with pytest.raises(DeadlineExceeded):
        await GenerativeRewardModel(Slow(quick=0)).judge(plan(TASK.with_options(timeout_s=0.05), PROFILE))


async def test_no_wave_starts_after_the_deadline():
    verdict = await GenerativeRewardModel(Slow(quick=6)).judge(
        plan(TASK.with_options(k=12, stop="exact", timeout_s=0.2), PROFILE)
    )
    assert verdict.status == "partial"
    assert verdict.stopped is None
    assert sum(s.critique is not None for s in verdict.samples) == 6
    assert len(verdict.samples) == verdict.k == 12


async def test_cancellation_cancels_the_samples():
    engine = Slow(quick=0)
    running = asyncio.create_task(GenerativeRewardModel(engine).judge(plan(TASK, PROFILE)))
    await asyncio.sleep(0.05)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert engine.cancelled == 6


async def test_query_principles_are_written_once():
    task = TASK.with_options(principles=PrincipleSpec("query"))
    engine = ScriptedEngine("content")
    judge = GenerativeRewardModel(engine)
    first, second = await asyncio.gather(judge.judge(plan(task, PROFILE)), judge.judge(plan(task, PROFILE)))
    principle_prompts = [p for p in engine.prompts if "Write criteria." in p.messages[0].content]
    assert len(principle_prompts) == 1
    assert [p.text for p in first.principles] == [
        "A good response answers the question that was asked.",
        "It is clear.",
    ]
    assert first.usage == second.usage
    assert "Only:\n1. A good response answers" in engine.prompts[-1].messages[0].content


async def test_unreadable_query_principles_are_retried():
    """Three attempts, then an error."""
    engine = ScriptedEngine(lambda prompt, params: " 1 1 1")
    with pytest.raises(PrinciplesUnreadable, match="3 attempts"):
        await GenerativeRewardModel(engine).principles.write(PROFILE, TASK.messages)
    assert len(engine.prompts) == 3
    assert len({p.continuation for p in engine.prompts}) == 1


async def test_failed_query_principles_are_not_cached():
    answers = iter(["1"] * 3 + [" Be right."])
    judge = GenerativeRewardModel(ScriptedEngine(lambda prompt, params: next(answers)))
    with pytest.raises(PrinciplesUnreadable):
        await judge.principles.write(PROFILE, TASK.messages)
    written, _ = await judge.principles.write(PROFILE, TASK.messages)
    assert written == (Principle("Be right."),)


async def test_opening_is_part_of_the_text():
    profile = replace(PROFILE, opening="Specific Criteria:\n1.")
    continuations = []

    def script(prompt, params):
        continuations.append(prompt.continuation)
        return " Right\nScores: \\boxed{3, 2, 1}"

    verdict, _ = await run_judge(script, TASK.with_options(k=1), profile=profile)
    assert continuations == ["Specific Criteria:\n1."]
    assert verdict.samples[0].text.startswith("Specific Criteria:\n1. Right")
    assert verdict.samples[0].critique.principles == (Principle("Right"),)


def by_content(scores):
    """Return a script that scores each response by its text, wherever it is in the prompt."""

    def script(prompt, params):
        row = [scores[text] for text in re.findall(r"Response \d+\]\n(\w+)\n", prompt.messages[-1].content)]
        return f"Scores: \\boxed{{{', '.join(map(str, row))}}}"

    return script


PAIR = Task((Message("user", "Name a prime."),), ("good", "bad"), options=JudgeOptions(k=32))


@pytest.mark.parametrize(("rule", "max_samples"), [("exact", 24), ("confident", 16)])
async def test_early_stop_takes_fewer_samples(rule, max_samples):
    verdict, engine = await run_judge(by_content({"good": 9, "bad": 2}), PAIR.with_options(stop=rule))
    assert verdict.stopped == rule
    assert verdict.status == "ok"
    assert verdict.vote.best == 0
    assert len(engine.prompts) == len(verdict.samples) <= max_samples
    assert verdict.k == 32
    assert {s.order for s in verdict.samples} == {(0, 1), (1, 0)}


@pytest.mark.parametrize("rule", ["exact", "confident"])
async def test_tie_is_never_stopped(rule):
    verdict, _ = await run_judge(by_content({"good": 5, "bad": 5}), PAIR.with_options(stop=rule))
    assert verdict.stopped is None
    assert len(verdict.samples) == 32


async def test_early_stop_keeps_the_plan():
    """The samples of a stopped vote are the first of the full plan."""
    full, _ = await run_judge(by_content({"good": 9, "bad": 2}), PAIR)
    stopped, _ = await run_judge(by_content({"good": 9, "bad": 2}), PAIR.with_options(stop="exact"))
    assert full.samples[: len(stopped.samples)] == stopped.samples


async def test_soft_scores_are_voted():
    """The written scores stay in the critique."""
    hard, _ = await run_judge("content")
    verdict, _ = await run_judge("content", TASK.with_options(score="soft"))
    assert [s.critique.scores for s in verdict.samples] == [s.critique.scores for s in hard.samples]
    # The scripted engine gives probability 0.25 to the number below the one it writes.
    assert verdict.vote.rewards == tuple(reward - 0.25 for reward in hard.vote.rewards)
    assert hard.samples[0].expected is None
    assert verdict.usage.completion_tokens > hard.usage.completion_tokens


COMPARING = replace(PROFILE, comparison="\nAnalysis: Response {{best}} is best")
CRITIQUE = "Specific Criteria:\n1. Right\nAnalysis: Response 2 is best.\nScores: \\boxed{4, 8, 5}"


class Comparing(ScriptedEngine):
    """An engine that writes CRITIQUE and finds the responses likely to be named, in the prompt's order."""

    def __init__(self, *likely, critique=CRITIQUE):
        super().__init__(lambda prompt, params: critique)
        self.likely, self.continuations, self.regexes = likely, [], []

    async def complete(self, prompt, params):
        self.regexes.append(params.regex)
        completion = await super().complete(prompt, params)
        if not params.alternatives:
            return completion
        self.continuations.append(prompt.continuation)
        row = tuple(Alternative(f" {i}", math.log(p)) for i, p in enumerate(self.likely, 1))
        return replace(completion, alternatives=(row,))


async def test_comparison_is_the_soft_score():
    """The number's probability, on the scale; the written scores stay in the critique."""
    engine = Comparing(0.2, 0.5, 0.1)  # the rest is for other tokens
    task = TASK.with_options(score="soft", k=1)
    verdict = await GenerativeRewardModel(engine).judge(plan(task, COMPARING))
    (sample,) = verdict.samples
    expected = dict(zip(sample.order, (1 + 9 * 0.25, 1 + 9 * 0.625, 1 + 9 * 0.125), strict=True))
    assert sample.expected == pytest.approx(tuple(expected[i] for i in range(3)))
    assert sample.critique.scores[sample.order[1]] == 8
    assert engine.continuations == ["Specific Criteria:\n1. Right\nAnalysis: Response"]


async def test_comparing_critique_is_constrained():
    """Also its closing, by the response that it names; thinking would have to match the regex, too."""
    cut = "Specific Criteria:\n1. Right\nAnalysis: Response 2 is best, as it"
    engine = Comparing(0.2, 0.5, 0.1, critique=cut)
    with pytest.raises(AllUnreadable):  # the engine always writes the same
        await GenerativeRewardModel(engine).judge(plan(TASK.with_options(k=1), COMPARING))
    assert engine.regexes == [critique_regex(3, COMPARING), closing_regex(3, COMPARING.scale, 2)]
    thinking = Comparing(0.2, 0.5, 0.1)
    thinking.thinking = ThinkingBehavior("inline")
    await GenerativeRewardModel(thinking).judge(plan(TASK.with_options(k=1), COMPARING))
    assert thinking.regexes == [None]


async def test_critique_without_analysis_is_compared_behind_its_criteria():
    engine = Comparing(0.5, 0.3, 0.2, critique="Specific Criteria:\n1. Right\n\nScores: \\boxed{4, 8, 5}")
    await GenerativeRewardModel(engine).judge(plan(TASK.with_options(score="soft", k=1), COMPARING))
    assert engine.continuations == ["Specific Criteria:\n1. Right\nAnalysis: Response"]


async def test_one_response_is_compared_with_none():
    task = replace(TASK, responses=("11",)).with_options(score="soft", k=1)
    (sample,) = (await GenerativeRewardModel(ScriptedEngine("content")).judge(plan(task, COMPARING))).samples
    assert sample.expected == (sample.critique.scores[0] - 0.25,)


async def test_comparison_without_a_number():
    verdict = await GenerativeRewardModel(Comparing()).judge(plan(TASK.with_options(score="soft"), COMPARING))
    assert {sample.soft_error for sample in verdict.samples} == {"no_score_tokens"}
    assert verdict.status == "partial"


async def test_scores_without_token_probabilities():
    class Vague(ScriptedEngine):
        async def complete(self, prompt, params):
            completion = await super().complete(prompt, params)
            return replace(
                completion, alternatives=((Alternative("well", -0.1),),) * bool(params.alternatives)
            )

    hard, _ = await run_judge("content")
    verdict = await GenerativeRewardModel(Vague()).judge(plan(TASK.with_options(score="soft"), PROFILE))
    assert verdict.status == "partial"
    assert {sample.soft_error for sample in verdict.samples} == {"no_score_tokens"}
    assert verdict.vote == hard.vote
