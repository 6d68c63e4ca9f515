"""Trajectories are sampled as the judge serves, once, and resumed to the same data."""

import asyncio

import pytest

from grm_service.engines.scripted import ScriptedEngine
from grm_service.errors import BadTask, EngineError
from grm_service.judging.prompt import render
from grm_service.training.rejection_sampling import choose
from grm_service.training.sampling import sample_all
from grm_service.training.trajectories import TrajectoryFile, read
from grm_service.types import Params
from tests.training.conftest import ITEMS, SHORT, item, setup

pytestmark = pytest.mark.anyio


def obliging(prompt, params: Params):
    """Always wrong, unless it is told the best response."""
    _, _, told = prompt.messages[-1].content.partition("The best response is: Response ")
    best = int(told) if told else 0
    scores = ", ".join("8" if i == best else "3" for i in (1, 2))
    return f"Scores: \\boxed{{{scores}}}"


async def test_each_item_has_its_samples_in_balanced_orders_with_their_outcome(sampled):
    found = await sampled()
    assert sorted(tried.item for tried in found) == sorted(each.id for each in ITEMS)
    by_id = {each.id: each for each in ITEMS}
    for tried in found:
        plain = [each for each in tried.trajectories if each.origin == "sampled"]
        assert len(plain) == 3
        assert {each.order for each in plain[:2]} == {(0, 1), (1, 0)}
        for each in plain:
            best = by_id[tried.item].correct[0]
            assert each.right == (each.scores[best] > each.scores[1 - best])
    first = [tried.trajectories[0].order for tried in found]
    assert len(set(first)) == 2, "else the best response would have one place"


async def test_what_is_never_right_is_told_the_best_response_once(sampled):
    found = await sampled(engine=ScriptedEngine(obliging))
    for tried in found:
        assert [each.origin for each in tried.trajectories] == ["sampled"] * 3 + ["hinted"]
        assert [each.right for each in tried.trajectories] == [False] * 3 + [True]
    assert all(each.trajectory.origin == "hinted" for each in choose(ITEMS, found).examples)


async def test_without_hints_nobody_is_told(sampled):
    engine = ScriptedEngine(obliging)
    found = await sampled(engine=engine, hints=False)
    assert {len(tried.trajectories) for tried in found} == {3}
    assert not any("The best response is" in prompt.messages[-1].content for prompt in engine.prompts)


async def test_the_hint_is_the_only_thing_added_to_the_prompt(sampled):
    engine = ScriptedEngine(obliging)
    (tried,) = await sampled(items=ITEMS[:1], engine=engine)
    order = tried.trajectories[-1].order
    texts = [ITEMS[0].responses[i] for i in order]
    asked = render(SHORT, ITEMS[0].messages, texts, control_tokens=engine.control_tokens)
    hint = f"\n\nThe best response is: Response {order.index(0) + 1}"
    assert engine.prompts[-1].messages[-1].content == asked.messages[-1].content + hint


async def test_an_interrupted_run_goes_on_to_the_same_data(tmp_path):
    async def run(file, engine, at_once=3):
        with TrajectoryFile(file, setup()) as out:
            await sample_all(ITEMS, out, engine, SHORT, at_once)

    class Dying(ScriptedEngine):
        async def complete(self, prompt, params):
            if len(self.prompts) == 20:
                raise asyncio.CancelledError
            return await super().complete(prompt, params)

    whole, torn = tmp_path / "whole.jsonl", tmp_path / "torn.jsonl"
    await run(whole, ScriptedEngine("content"))
    with pytest.raises(asyncio.CancelledError):
        await run(torn, Dying("content"))
    assert 0 < len(read(torn)[1]) < len(ITEMS)
    with torn.open("a") as file:
        file.write('{"item":"maths:9","dig')  # a kill in the middle of a line
    again = ScriptedEngine("content")
    await run(torn, again, at_once=1)
    assert len(again.prompts) < 3 * len(ITEMS)
    found, expected = ({each.item: each for each in read(file)[1]} for file in (torn, whole))
    assert found == expected
    assert choose(ITEMS, found.values()).rates == choose(ITEMS, expected.values()).rates


async def test_a_file_is_not_gone_on_with_otherwise(tmp_path, sampled):
    await sampled()
    with (
        pytest.raises(BadTask, match="was sampled otherwise"),
        TrajectoryFile(tmp_path / "trajectories.jsonl", setup(samples=4)),
    ):
        pass


async def test_a_failure_of_the_engine_ends_the_run_and_is_no_wrong_judgement(tmp_path):
    class Failing(ScriptedEngine):
        async def complete(self, prompt, params):
            raise EngineError("out of memory")

    with (
        TrajectoryFile(tmp_path / "t.jsonl", setup()) as out,
        pytest.raises(EngineError, match="run it again to go on"),
    ):
        await sample_all(ITEMS, out, Failing(), SHORT, 2)
    assert read(tmp_path / "t.jsonl")[1] == []


async def test_more_responses_than_a_prompt_takes_are_left_out_with_the_reason(sampled):
    found = await sampled(items=[item(1, n=SHORT.most_responses + 1)])
    assert [(tried.error, tried.trajectories) for tried in found] == [("too_many_responses", ())]


def test_a_file_of_something_else_is_refused(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"id": 1}\n')
    with pytest.raises(BadTask, match="line 1, is not what grm train writes"):
        read(tmp_path / "x.jsonl")
