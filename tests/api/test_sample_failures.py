"""Every reason for which a sample is not counted, and what provokes it."""

import asyncio
import re
from dataclasses import replace
from pathlib import Path

import pytest

import grm_service
from grm_service.engines.scripted import ScriptedEngine
from grm_service.errors import DeadlineExceeded, EngineError, EngineUnreachable, PromptTooLong
from grm_service.judging.judge import TOO_LONG_TO_GRADE
from grm_service.judging.orders import sample_seed
from tests.meta_rm import ScriptedMetaRM, guide

pytestmark = pytest.mark.anyio
SOURCES = Path(grm_service.__file__).parent
PAIR = {"query": "Name a prime.", "responses": ["11", "12"], "k": 2}


async def never(prompt, params):
    await asyncio.Event().wait()


def failing(error):
    async def complete(prompt, params):
        raise error

    return complete


def writes(words):
    return ScriptedEngine(lambda prompt, params: words).complete


async def hides_its_alternatives(prompt, params):
    return await ScriptedEngine().complete(prompt, replace(params, alternatives=0))


LONG = "Scores: \\boxed{9, 9}"


class Narrow(ScriptedMetaRM):
    async def grade(self, judgement):
        if LONG in judgement[-1].content:
            raise PromptTooLong(900, 0, 512, "meta RM's context")
        return await super().grade(judgement)


REASONS = {
    TOO_LONG_TO_GRADE: writes(LONG),
    "no_scores": writes("I would rather not say."),
    "wrong_count": writes("Scores: \\boxed{7}"),
    "not_a_number": writes("Scores: \\boxed{seven, eight}"),
    "out_of_scale": writes("Scores: \\boxed{70, 80}"),
    "no_score_tokens": hides_its_alternatives,
    "deadline_exceeded": never,
    "engine_failed": failing(EngineError("out of memory")),
    "engine_unreachable": failing(EngineUnreachable("connection refused")),
}


def sources():
    return "".join(path.read_text(encoding="utf-8") for path in SOURCES.rglob("*.py"))


def reasons():
    """Every reason that the sources give a sample."""
    named = re.findall(r'(?:\bUnreadable\(|\berror=)"(\w+)"', sources())
    told = {error.code for error in (EngineError, EngineUnreachable, DeadlineExceeded)}
    return {*named, *told, TOO_LONG_TO_GRADE}


def test_every_reason_of_the_sources_is_provoked():
    assert reasons() == REASONS.keys()


@pytest.mark.parametrize("reason", REASONS)
async def test_a_sample_that_fails_says_why_and_is_counted_by_nobody(serve, reason):
    async def complete(prompt, params):
        first = params.seed == sample_seed(0, 0)
        return await (ScriptedEngine().complete if first else REASONS[reason])(prompt, params)

    async with serve() as client:
        client.service.engine.complete = complete
        if reason == TOO_LONG_TO_GRADE:
            guide(client.service, Narrow())
        change = {"score": "soft"} if reason == "no_score_tokens" else {"timeout_s": 0.5}
        verdict = (await client.post("/v1/rewards", json=PAIR | change)).json()
    good, bad = verdict["samples"]
    assert (verdict["status"], verdict["valid"], verdict["counted"]) == ("partial", 1, 1)
    assert verdict["rewards"] == (good["expected"] or good["scores"])
    assert (bad["error"], bad["scores"], bad["counted"]) == (reason, None, False)
