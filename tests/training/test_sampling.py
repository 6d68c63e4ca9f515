"""Trajectories are sampled with the serving prompt, and an interrupted run resumes to the same data."""

import asyncio
import json
from dataclasses import asdict, replace

import pytest

from grm_service.engines.scripted import ScriptedEngine
from grm_service.errors import BadTask, ContentFiltered, EngineError, UpstreamDenied, UpstreamRefused
from grm_service.judging.prompt import render
from grm_service.training.rejection_sampling import select
from grm_service.training.sampling import sample_all
from grm_service.training.trajectories import TrajectoryFile, read_trajectories
from grm_service.types import Params, Principle, PrincipleSpec, Thinking
from tests.api.helpers import failing
from tests.training.conftest import ITEMS, SHORT, item, setup

pytestmark = pytest.mark.anyio


def needs_hint(prompt, params: Params):
    """Judge wrong, unless the prompt has the best response."""
    _, _, hint = prompt.messages[-1].content.partition("The best response is: Response ")
    best = int(hint) if hint else 0
    scores = ", ".join("8" if i == best else "3" for i in (1, 2))
    return f"Scores: \\boxed{{{scores}}}"


async def test_samples_in_balanced_orders(sampled):
    trajectories = await sampled()
    assert sorted(each.item for each in trajectories) == sorted(each.id for each in ITEMS)
    by_id = {each.id: each for each in ITEMS}
    for of_item in trajectories:
        plain = [each for each in of_item.trajectories if each.origin == "sampled"]
        assert len(plain) == 3
        assert {each.order for each in plain[:2]} == {(0, 1), (1, 0)}
        for each in plain:
            best = by_id[of_item.item].correct[0]
            assert each.right == (each.scores[best] > each.scores[1 - best])
    first = [of_item.trajectories[0].order for of_item in trajectories]
    assert len(set(first)) == 2, "else the best response would always be at one position"


async def test_thinking_is_stored_apart(sampled, tmp_path):
    engine = ScriptedEngine(
        lambda prompt, params: "<think>Scores: \\boxed{3, 8}</think>Scores: \\boxed{8, 3}"
    )
    trajectories = await sampled(engine=engine)
    for each in trajectories[0].trajectories:
        assert each.text == "Scores: \\boxed{8, 3}"
        assert each.thinking == Thinking("Scores: \\boxed{3, 8}")
    assert read_trajectories(tmp_path / "trajectories.jsonl")[1] == trajectories


async def test_cut_thinking_is_no_judgement(sampled):
    engine = ScriptedEngine(lambda prompt, params: "<think>Scores: \\boxed{8, 3}")
    trajectories = await sampled(engine=engine, hints=False)
    assert {each.error for of_item in trajectories for each in of_item.trajectories} == {"cut_in_thinking"}
    assert select(ITEMS, trajectories).examples == []


async def test_files_without_thinking_are_read(sampled, tmp_path):
    trajectories = await sampled()
    file = tmp_path / "trajectories.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    del lines[0]["thinking_tokens"]
    for line in lines[1:]:
        for each in line["trajectories"]:
            del each["thinking"]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert read_trajectories(file)[1] == trajectories
    assert await sampled() == trajectories, "and the run resumes"


async def test_hint_after_wrong_samples(sampled):
    trajectories = await sampled(engine=ScriptedEngine(needs_hint))
    for of_item in trajectories:
        assert [each.origin for each in of_item.trajectories] == ["sampled"] * 3 + ["hinted"]
        assert [each.right for each in of_item.trajectories] == [False] * 3 + [True]
    assert all(each.trajectory.origin == "hinted" for each in select(ITEMS, trajectories).examples)


COMPARING = replace(SHORT, comparison="\nAnalysis: Response #{{best}} is best, because")


def prefers_the_first(prompt, params):
    """Write criteria and name the first response; give a reason for whatever response is named."""
    if prompt.continuation:
        return " it is right. And it\nScores: \\boxed{5, 5}"
    return "Specific Criteria:\n1. Right\nAnalysis: Response #1 is best, because.\nScores: \\boxed{8, 3}"


async def test_comparison_is_continued_with_the_best(tmp_path):
    """The prompt is that of serving, criteria and reason are the judge's own, and the scores agree."""
    engine, file = ScriptedEngine(prefers_the_first), tmp_path / "t.jsonl"
    with TrajectoryFile(file, setup(samples=1)) as out:
        await sample_all(ITEMS, out, engine, COMPARING, 4)
    hinted = 0
    by_id = {each.id: each for each in ITEMS}
    for of_item in read_trajectories(file)[1]:
        *_, last = of_item.trajectories
        assert last.right
        assert last.text.startswith("Specific Criteria:\n1. Right\nAnalysis: Response #")
        assert last.origin == ("sampled" if last.order[0] in by_id[of_item.item].correct else "hinted")
        if last.origin == "hinted":
            assert last.text.endswith("#2 is best, because it is right.\n\nScores: \\boxed{3, 8}")
        hinted += last.origin == "hinted"
    assert 0 < hinted < len(ITEMS)
    assert not any("The best response is" in prompt.messages[-1].content for prompt in engine.prompts)


@pytest.mark.parametrize(
    "text",
    [
        "Specific Criteria:\n1. Right\nAnalysis: Response #2 is best.\nScores: \\boxed{8, 3}",
        "Specific Criteria:\n1. Right\nAnalysis: Response #3 is best.\nScores: \\boxed{8, 3}",
        "Specific Criteria:\n1. Right\nAnalysis: The first is best.\nScores: \\boxed{8, 3}",
        "Specific Criteria:\n1. Right\nAnalysis: Response #1 is best.\nScores: \\boxed{3, 8}",
    ],
    ids=["another", "none", "without a number", "against its scores"],
)
async def test_comparison_must_name_the_best(tmp_path, text):
    engine, file = ScriptedEngine(lambda prompt, params: text), tmp_path / "t.jsonl"
    with TrajectoryFile(file, setup(samples=2, hints=False)) as out:
        await sample_all([item(1)], out, engine, COMPARING, 4)
    (of_item,) = read_trajectories(file)[1]
    first = [each for each in of_item.trajectories if each.order == (0, 1)]
    assert [each.right for each in first] == [False]


async def test_without_hints(sampled):
    engine = ScriptedEngine(needs_hint)
    trajectories = await sampled(engine=engine, hints=False)
    assert {len(of_item.trajectories) for of_item in trajectories} == {3}
    assert not any("The best response is" in prompt.messages[-1].content for prompt in engine.prompts)


async def test_hint_is_appended_to_prompt(sampled):
    engine = ScriptedEngine(needs_hint)
    (of_item,) = await sampled(items=ITEMS[:1], engine=engine)
    order = of_item.trajectories[-1].order
    texts = [ITEMS[0].responses[i] for i in order]
    prompt = render(SHORT, ITEMS[0].messages, texts, control_tokens=engine.control_tokens)
    hint = f"\n\nThe best response is: Response {order.index(0) + 1}"
    assert engine.prompts[-1].messages[-1].content == prompt.messages[-1].content + hint


async def test_judge_options_reach_the_engine(sampled):
    params = []

    def judge(prompt, each):
        params.append(each)
        return needs_hint(prompt, each)

    engine = ScriptedEngine(judge)
    fixed = PrincipleSpec("fixed", None, (Principle("Be brief, says the caller."),))
    await sampled(
        items=ITEMS[:1], engine=engine, temperature=0.25, max_tokens=48, thinking_tokens=9, principles=fixed
    )
    assert {(each.temperature, each.max_tokens, each.thinking_tokens) for each in params} == {(0.25, 48, 9)}
    assert all("Be brief, says the caller." in each.messages[-1].content for each in engine.prompts)


async def test_query_principles_are_written_first(sampled):
    def judge(prompt, params):
        writes = "Response 1" not in prompt.messages[-1].content
        return "1. Counts every step" if writes else needs_hint(prompt, params)

    engine = ScriptedEngine(judge)
    await sampled(items=ITEMS[:1], engine=engine, hints=False, principles=PrincipleSpec("query"))
    assert len(engine.prompts) == 4
    assert all("Counts every step" in each.messages[-1].content for each in engine.prompts[1:])


async def test_interrupted_run_resumes(tmp_path):
    async def run(file, engine, concurrency=3):
        with TrajectoryFile(file, setup()) as out:
            await sample_all(ITEMS, out, engine, SHORT, concurrency)

    class Killed(ScriptedEngine):
        async def complete(self, prompt, params):
            if len(self.prompts) == 20:
                raise asyncio.CancelledError
            return await super().complete(prompt, params)

    whole, cut = tmp_path / "whole.jsonl", tmp_path / "cut.jsonl"
    await run(whole, ScriptedEngine("content"))
    with pytest.raises(asyncio.CancelledError):
        await run(cut, Killed("content"))
    assert 0 < len(read_trajectories(cut)[1]) < len(ITEMS)
    with cut.open("a") as file:
        file.write('{"item":"maths:9","dig')  # a kill in the middle of a line
    again = ScriptedEngine("content")
    await run(cut, again, concurrency=1)
    assert len(again.prompts) < 3 * len(ITEMS)
    resumed, expected = ({each.item: each for each in read_trajectories(file)[1]} for file in (cut, whole))
    assert resumed == expected
    assert select(ITEMS, resumed.values()).rates == select(ITEMS, expected.values()).rates


@pytest.mark.parametrize(
    ("changed", "message"),
    [({"samples": 4}, "samples 3, now 4"), ({"temperature": 0.9}, r"temperature None, now 0\.9")],
)
async def test_other_options_need_another_file(changed, message, tmp_path, sampled):
    await sampled()
    with (
        pytest.raises(BadTask, match=f"was sampled with other options .{message}"),
        TrajectoryFile(tmp_path / "trajectories.jsonl", setup(**changed)),
    ):
        pass


def test_older_files_resume(tmp_path):
    """Files written before the setup had judge options can be resumed with their defaults."""
    fields = asdict(setup())
    for name in ("temperature", "max_tokens", "score", "principles"):
        del fields[name]
    file = tmp_path / "old.jsonl"
    file.write_text(json.dumps(fields) + "\n")
    with TrajectoryFile(file, setup()) as out:
        assert out.remaining(ITEMS) == ITEMS


def test_principles_survive_the_file(tmp_path):
    fixed = setup(principles=PrincipleSpec("fixed", "helpfulness", (Principle("Helps", 0.5),)))
    for _ in range(2):
        with TrajectoryFile(tmp_path / "t.jsonl", fixed):
            pass
    assert read_trajectories(tmp_path / "t.jsonl")[0] == fixed


async def test_engine_failure_ends_the_run(tmp_path):
    """A failure does not count as a wrong judgement."""

    class Failing(ScriptedEngine):
        async def complete(self, prompt, params):
            raise EngineError("out of memory")

    with (
        TrajectoryFile(tmp_path / "t.jsonl", setup()) as out,
        pytest.raises(EngineError, match="run the command again to resume"),
    ):
        await sample_all(ITEMS, out, Failing(), SHORT, 2)
    assert read_trajectories(tmp_path / "t.jsonl")[1] == []


async def test_too_many_responses(sampled):
    trajectories = await sampled(items=[item(1, n=SHORT.most_responses + 1)])
    assert [(each.error, each.trajectories) for each in trajectories] == [("too_many_responses", ())]


def test_other_files_are_refused(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"id": 1}\n')
    with pytest.raises(BadTask, match="line 1, is not a trajectory of grm train"):
        read_trajectories(tmp_path / "x.jsonl")


@pytest.mark.parametrize("error", [ContentFiltered, UpstreamRefused])
async def test_refused_item_is_counted(sampled, error):
    engine = ScriptedEngine(needs_hint)
    complete, refused = engine.complete, []

    async def complete_or_refuse(prompt, params):
        if ITEMS[0].responses[0] in prompt.messages[-1].content:
            refused.append(params)
            raise error("refused")
        return await complete(prompt, params)

    engine.complete = complete_or_refuse
    first, *others = sorted(await sampled(engine=engine), key=lambda each: each.item != ITEMS[0].id)
    assert (first.error, first.trajectories, len(refused)) == (error.code, (), 3)
    assert all(each.error is None for each in others)


async def test_refused_key_ends_the_sampling(sampled):
    engine = ScriptedEngine(needs_hint)
    engine.complete = failing(UpstreamDenied("http://x refuses every request", "bad key"))
    with pytest.raises(EngineError, match="bad key"):
        await sampled(engine=engine)
