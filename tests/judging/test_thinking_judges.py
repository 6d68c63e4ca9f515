"""Judges that think: no draft is a verdict, and cut samples are closed from what they thought."""

import re
from dataclasses import replace

import pytest

from grm_service.engines.base import THINKING_TOKENS, Abilities, ThinkingBehavior
from grm_service.engines.scripted import ScriptedEngine
from grm_service.errors import (
    AllUnreadable,
    ContentFiltered,
    EngineError,
    PrinciplesUnreadable,
    SoftNotServed,
    UpstreamDenied,
    UpstreamRefused,
)
from grm_service.judging.judge import GenerativeRewardModel
from grm_service.judging.plan import plan
from grm_service.profiles.profile import ThinkingSettings
from grm_service.types import JudgeOptions, Message, PrincipleSpec, Task, Thinking
from tests.judging.profiles import PROFILE

pytestmark = pytest.mark.anyio
TASK = Task((Message("user", "Capital of Australia?"),), ("GOOD", "bad"), options=JudgeOptions(k=2))
CAN_ALL = Abilities()
ASKS_ONLY = Abilities(continues=False, constrains=False, alternatives=False, continues_thinking=False)
NO_CONTINUING_AFTER_THINKING = Abilities(continues_thinking=False)
INLINE = ThinkingBehavior(thinks="inline")


def scores(prompt, good=9, bad=2):
    texts = re.findall(r"Response \d+\]\n(\w+)\n", prompt.messages[-1].content)
    if not texts:
        texts = re.findall(r"Response \d+\]\n(\w+)\n", prompt.messages[0].content)
    return ", ".join(str(good if text == "GOOD" else bad) for text in texts)


class Judge(ScriptedEngine):
    """Writes `text`, with the scores in {right} and, the other way round, in {draft}.

    Continuations and questions for the scores are answered with the right scores.
    """

    def __init__(self, text, abilities=CAN_ALL, thinking=INLINE, finish="stop", field=None):
        super().__init__(self._script)
        self.text, self.finish, self.field = text, finish, field
        self.abilities, self.thinking = abilities, thinking
        self.requests = []

    def _script(self, prompt, params):
        if "\\boxed{" in prompt.continuation:
            written = prompt.continuation.rpartition("\\boxed{")[2]
            return scores(prompt).removeprefix(written) + "}"
        if len(prompt.messages) > 1:
            return f"Only the scores.</think>Scores: \\boxed{{{scores(prompt)}}}"
        return self.text.format(right=scores(prompt), draft=scores(prompt, 2, 9))

    async def complete(self, prompt, params):
        self.requests.append((prompt, params))
        completion = await super().complete(prompt, params)
        first = not prompt.continuation and len(prompt.messages) == 1
        thinking = self.field.format(draft=scores(prompt, 2, 9)) if self.field and first else None
        return replace(
            completion,
            finish_reason=self.finish if first else "stop",
            thinking=None if thinking is None else Thinking(thinking, cut=not completion.text),
        )


async def judge(engine, task=TASK, profile=PROFILE, standard=()):
    return await GenerativeRewardModel(engine).judge(plan(task, profile, standard))


DRAFT = "First impression:\nScores: \\boxed{{{draft}}}\nWait, that is the wrong way round."
ANSWER = "Specific Criteria:\n1. Truth\nAnalysis: Fine.\nScores: \\boxed{{{right}}}"


@pytest.mark.parametrize(
    "text",
    [
        f"<think>\n{DRAFT}\n</think>\n\n{ANSWER}",
        f"{DRAFT}\n</think>\n\n{ANSWER}",
        f"[THINK]{DRAFT}[/THINK]{ANSWER}",
        f"<think>{DRAFT}</think>{ANSWER}\n<think>{DRAFT}</think>",
    ],
)
async def test_draft_is_not_the_verdict(text):
    verdict = await judge(Judge(text))
    assert verdict.vote.rewards == (9, 2)
    assert verdict.status == "ok"
    for sample in verdict.samples:
        assert "First impression" in sample.thinking.text
        assert "First impression" not in sample.text
        assert [p.text for p in sample.critique.principles] == ["Truth"]
        assert not sample.closed


async def test_reasoning_field_is_not_the_verdict():
    verdict = await judge(Judge(ANSWER, thinking=ThinkingBehavior("field"), field=DRAFT))
    assert verdict.vote.rewards == (9, 2)
    assert "First impression" in verdict.samples[0].thinking.text


@pytest.mark.parametrize("finish", ["stop", "length"])
async def test_text_that_repeats_the_reasoning_field(finish):
    engine = Judge(f"{DRAFT}\n\n{ANSWER}", ASKS_ONLY, ThinkingBehavior("field"), field=DRAFT)
    verdict = await judge(engine)
    assert verdict.vote.rewards == (9, 2)
    assert all("First impression" not in sample.text for sample in verdict.samples)
    verdict = await judge(Judge(DRAFT, ASKS_ONLY, ThinkingBehavior("field"), finish, field=DRAFT))
    assert verdict.vote.rewards == (9, 2)
    assert {sample.closed_reason for sample in verdict.samples} == {"cut_in_thinking"}


async def test_cut_thinking_that_a_parser_did_not_recognize():
    verdict = await judge(Judge(DRAFT, ASKS_ONLY, ThinkingBehavior("field"), "length"))
    assert verdict.vote.rewards == (9, 2)
    assert {sample.closed_reason for sample in verdict.samples} == {"cut_in_thinking"}


@pytest.mark.parametrize("finish", ["stop", "length"])
async def test_profile_that_does_not_turn_thinking_off(finish):
    """A text that ends is an answer, but one that was cut is thinking in spite of the profile."""
    off = {"chat_template_kwargs": {"enable_thinking": False}}
    profile = replace(PROFILE, thinking=ThinkingSettings(tokens=0, off=off))
    engine = Judge(ANSWER if finish == "stop" else DRAFT, thinking=ThinkingBehavior("inline", opened=True))
    engine.finish = finish
    verdict = await judge(engine, profile=profile)
    assert verdict.vote.rewards == (9, 2)
    assert all(sample.closed == (finish == "length") for sample in verdict.samples)


class Refusing(Judge):
    """A server that refuses some prompts: by default, to continue an answer after thinking."""

    refused = staticmethod(lambda prompt: prompt.thinking is not None)

    async def complete(self, prompt, params):
        if self.refused(prompt):
            raise UpstreamRefused("the server refused", "not in the chat")
        return await super().complete(prompt, params)


@pytest.mark.parametrize("text", [f"<think>{DRAFT}", f"<think>{DRAFT}</think>The first is better."])
async def test_refused_closing_is_asked_for(text):
    verdict = await judge(Refusing(text))
    assert verdict.vote.rewards == (9, 2)
    assert all(sample.closed and sample.error_detail is None for sample in verdict.samples)


async def test_refused_question_leaves_the_reason():
    engine = Refusing(f"<think>{DRAFT}", ASKS_ONLY)
    engine.refused = lambda prompt: len(prompt.messages) > 1
    with pytest.raises(AllUnreadable, match=r"cut_in_thinking: 2.*not in the chat"):
        await judge(engine)


@pytest.mark.parametrize("kind", [ContentFiltered, UpstreamDenied])
async def test_filter_of_the_closing_is_the_error(kind):
    class Filtering(Judge):
        async def complete(self, prompt, params):
            if prompt.continuation:
                raise kind("refused")
            return await super().complete(prompt, params)

    with pytest.raises(EngineError) as raised:
        await judge(Filtering("The first is better."))
    assert raised.value.code == kind.code


@pytest.mark.parametrize("behavior", [ThinkingBehavior(), INLINE])
async def test_question_for_scores_has_room_to_think(behavior):
    """Whether the start noticed that the judge thinks or not."""
    engine = Judge(f"<think>{DRAFT}", ASKS_ONLY, behavior, finish="length")
    assert (await judge(engine, TASK.with_options(thinking_tokens=50))).vote.rewards == (9, 2)
    room = THINKING_TOKENS if behavior.thinks is None else None
    assert engine.requests[-1][1].thinking_tokens == room


CUT = [
    (f"<think>\n{DRAFT}", INLINE),
    (DRAFT, ThinkingBehavior("inline", opened=True)),
    (DRAFT, INLINE),
]


@pytest.mark.parametrize(("text", "behavior"), CUT)
async def test_cut_thinking_is_continued(text, behavior):
    engine = Judge(text, thinking=behavior, finish="length")
    verdict = await judge(engine)
    assert verdict.vote.rewards == (9, 2)
    for sample in verdict.samples:
        assert (sample.closed, sample.closed_reason) == (True, "cut_in_thinking")
    closings = [prompt for prompt, _ in engine.requests if prompt.continuation]
    assert all("First impression" in prompt.thinking.text for prompt in closings)
    assert all(prompt.continuation.strip() == "Scores: \\boxed{" for prompt in closings)


@pytest.mark.parametrize("abilities", [ASKS_ONLY, NO_CONTINUING_AFTER_THINKING])
@pytest.mark.parametrize(("text", "behavior"), CUT)
async def test_cut_thinking_is_asked_for_scores(text, behavior, abilities):
    engine = Judge(text, abilities, behavior, finish="length")
    verdict = await judge(engine, replace(TASK, options=JudgeOptions(k=2, thinking_tokens=700)))
    assert verdict.vote.rewards == (9, 2)
    assert {s.closed_reason for s in verdict.samples} == {"cut_in_thinking"}
    prompt, params = engine.requests[-1]
    assert "First impression" in prompt.messages[-2].content
    assert params.thinking_tokens is None  # the default room: 700 were too few


async def test_thinking_is_off_when_asked_for_scores():
    """The engine can turn it off, or the profile says how."""
    engine = Judge(
        f"<think>{DRAFT}", ASKS_ONLY, ThinkingBehavior("inline", can_disable=True), finish="length"
    )
    await judge(engine)
    params = engine.requests[-1][1]
    assert (params.thinking_tokens, params.max_tokens) == (0, 24)
    off = {"chat_template_kwargs": {"enable_thinking": False}}
    engine = Judge(f"<think>{DRAFT}", ASKS_ONLY, finish="length")
    await judge(engine, profile=replace(PROFILE, thinking=ThinkingSettings(off=off)))
    params = engine.requests[-1][1]
    assert (params.request_fields, params.max_tokens) == (off, 24 + THINKING_TOKENS // 4)


async def test_closed_thinking_without_scores():
    engine = Judge(f"<think>{DRAFT}</think>\n\nThe first is better.")
    verdict = await judge(engine)
    assert verdict.vote.rewards == (9, 2)
    assert {s.closed_reason for s in verdict.samples} == {"no_scores"}
    prompt = engine.requests[-1][0]
    assert prompt.continuation == "The first is better.\n\nScores: \\boxed{"


async def test_text_without_tags_of_a_thinking_judge():
    """A judge that chose not to think, or whose thinking is off, has answered."""
    assert (await judge(Judge(ANSWER))).vote.rewards == (9, 2)
    off = replace(TASK, options=JudgeOptions(k=2, thinking_tokens=0))
    behavior = ThinkingBehavior("inline", opened=True, can_disable=True)
    verdict = await judge(Judge(ANSWER, thinking=behavior), off)
    assert verdict.vote.rewards == (9, 2)
    assert verdict.samples[0].thinking is None


async def test_profile_says_that_thinking_is_opened():
    settings = ThinkingSettings(opened=True, tags=(("<plan>", "</plan>"),))
    engine = Judge(DRAFT, ASKS_ONLY, ThinkingBehavior())
    verdict = await judge(engine, profile=replace(PROFILE, thinking=settings))
    assert {s.closed_reason for s in verdict.samples} == {"cut_in_thinking"}
    assert verdict.samples[0].thinking.tags == ("<plan>", "</plan>")
    assert verdict.vote.rewards == (9, 2)


async def test_budget_and_fields_of_the_profile():
    settings = ThinkingSettings(
        tokens=300, on={"chat_template_kwargs": {"enable_thinking": True}}, budget_field="thinking_budget"
    )
    engine = Judge(ANSWER)
    await judge(engine, profile=replace(PROFILE, thinking=settings))
    params = engine.requests[0][1]
    assert params.thinking_tokens == 300
    assert params.max_tokens == PROFILE.sampling.max_tokens
    assert params.request_fields == {
        "chat_template_kwargs": {"enable_thinking": True},
        "thinking_budget": 300,
    }


async def test_soft_scores_follow_the_thinking():
    engine = Judge(f"<think>\n{DRAFT}\n</think>\n\n{ANSWER}")
    verdict = await judge(engine, TASK.with_options(score="soft"))
    assert verdict.vote.rewards == (8.75, 1.75)
    soft = [prompt for prompt, params in engine.requests if params.alternatives]
    assert soft
    assert all("First impression" in prompt.thinking.text for prompt in soft)
    assert not any("First impression" in prompt.continuation for prompt in soft)


async def test_soft_scores_that_cannot_follow_thinking():
    engine = Judge(f"<think>\n{DRAFT}\n</think>\n\n{ANSWER}", NO_CONTINUING_AFTER_THINKING)
    with pytest.raises(SoftNotServed, match="thinking"):
        await judge(engine, TASK.with_options(score="soft"))


@pytest.mark.parametrize("failing", [1, 4])
async def test_readable_sample_survives_failed_soft_scores(failing):
    class Failing(Judge):
        async def complete(self, prompt, params):
            soft = [params for _, params in self.requests if params.alternatives]
            if params.alternatives and len(soft) < failing:
                self.requests.append((prompt, params))
                raise EngineError("a refused continuation")
            return await super().complete(prompt, params)

    verdict = await judge(Failing(ANSWER), TASK.with_options(score="soft"))
    assert verdict.status == "partial"
    assert all(sample.counted for sample in verdict.samples)
    lost = [sample for sample in verdict.samples if sample.soft_error]
    assert {sample.soft_error for sample in lost} == {"engine_failed"}
    assert [sample.scores for sample in lost] == [(9, 2)] * len(lost)
    assert verdict.vote.rewards == ((9, 2) if failing == 4 else (8.875, 1.875))


QUERY = replace(TASK, options=JudgeOptions(k=1, principles=PrincipleSpec("query")))
REJECTED = "1. The answer flatters the user? No, a bad one.\n2. Longer answers are"


async def test_principles_come_from_the_answer():
    class Writer(Judge):
        def _script(self, prompt, params):
            if "Write criteria" in prompt.messages[-1].content:
                return f"<think>\n{REJECTED}\n</think>\n\n1. It names the city. (Weight: 80%)\n2. It is true."
            return super()._script(prompt, params)

    verdict = await judge(Writer(ANSWER, ASKS_ONLY), QUERY)
    assert [p.text for p in verdict.principles] == ["It names the city.", "It is true."]


@pytest.mark.parametrize("abilities", [Abilities(), ASKS_ONLY])
async def test_principles_cut_in_their_thinking(abilities):
    class Writer(Judge):
        def _script(self, prompt, params):
            return f"<think>\n{REJECTED}"

    with pytest.raises(PrinciplesUnreadable, match="thinking_tokens"):
        await judge(Writer(ANSWER, abilities), QUERY)


@pytest.mark.parametrize("behavior", [INLINE, ThinkingBehavior("inline", can_disable=True)])
async def test_cut_principles_are_written_without_thinking(behavior):
    """Or with more room for it."""

    class Writer(Judge):
        def _script(self, prompt, params):
            return f"<think>\n{REJECTED}" if params.thinking_tokens == 50 else "1. It is true."

    engine = Writer(ANSWER, ASKS_ONLY, behavior)
    written, _ = await GenerativeRewardModel(engine).principles.write(PROFILE, TASK.messages, (), 50)
    assert [p.text for p in written] == ["It is true."]
    assert [params.thinking_tokens for _, params in engine.requests] == [
        50,
        0 if behavior.can_disable else None,
    ]


async def test_principles_are_written_after_thinking():
    """A continuation would keep the judge from thinking."""
    engine = Judge("1. It is true.\n2. It is short.")
    await GenerativeRewardModel(engine).principles.write(PROFILE, TASK.messages)
    assert engine.requests[0][0].continuation == ""
    await GenerativeRewardModel(engine).principles.write(PROFILE, TASK.messages, (), 0)
    assert engine.requests[1][0].continuation == "1."
