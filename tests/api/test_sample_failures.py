"""Every error for which a sample is not counted, and an engine that causes it."""

import re
from dataclasses import replace

import pytest

from grm_service.engines.scripted import ScriptedEngine
from grm_service.errors import DeadlineExceeded, EngineError, EngineUnreachable, PromptTooLong
from grm_service.failures import REFUSALS
from grm_service.judging.judge import TOO_LONG_TO_GRADE
from grm_service.judging.orders import sample_seed
from grm_service.judging.sampler import CUT_IN_THINKING
from grm_service.types import Thinking
from tests.api.helpers import failing, never, sources, writing
from tests.meta_rm import ScriptedMetaRM, guide

pytestmark = pytest.mark.anyio
PAIR = {"query": "Name a prime.", "responses": ["11", "12"], "k": 2}


async def think_without_end(prompt, params):
    completion = await writing("Scores: \\boxed{9, 9}")(prompt, params)
    return replace(completion, text="", thinking=Thinking(completion.text, cut=True))


TOO_LONG = "Scores: \\boxed{9, 9}"


class NarrowMetaRM(ScriptedMetaRM):
    async def grade(self, judgement):
        if TOO_LONG in judgement[-1].content:
            raise PromptTooLong(900, 0, 512, "meta RM's context")
        return await super().grade(judgement)


SAMPLE_ERRORS = {
    TOO_LONG_TO_GRADE: writing(TOO_LONG),
    "no_scores": writing("I would rather not say."),
    "wrong_count": writing("Scores: \\boxed{7}"),
    "not_a_number": writing("Scores: \\boxed{seven, eight}"),
    "out_of_scale": writing("Scores: \\boxed{70, 80}"),
    CUT_IN_THINKING: think_without_end,
    "deadline_exceeded": never,
    "engine_failed": failing(EngineError("out of memory")),
    "engine_unreachable": failing(EngineUnreachable("connection refused")),
    **{code: failing(kind("no", "it may not")) for code, kind in REFUSALS.items()},
}


def sample_errors():
    """Return every error of a sample in the sources."""
    literals = re.findall(r'(?:\bUnreadable\(|\berror=)"(\w+)"', sources())
    from_exceptions = {exception.code for exception in (EngineError, EngineUnreachable, DeadlineExceeded)}
    return {*literals, *from_exceptions, *REFUSALS, TOO_LONG_TO_GRADE, CUT_IN_THINKING}


def test_every_sample_error_is_covered():
    assert sample_errors() == SAMPLE_ERRORS.keys()


@pytest.mark.parametrize("error", SAMPLE_ERRORS)
async def test_failed_sample_is_not_counted(serve, error):
    async def complete(prompt, params):
        first = params.seed == sample_seed(0, 0)
        return await (ScriptedEngine().complete if first else SAMPLE_ERRORS[error])(prompt, params)

    async with serve() as client:
        client.service.engine.complete = complete
        if error == TOO_LONG_TO_GRADE:
            guide(client.service, NarrowMetaRM())
        verdict = (await client.post("/v1/rewards", json=PAIR | {"timeout_s": 0.5})).json()
    good, bad = verdict["samples"]
    assert (verdict["status"], verdict["valid"], verdict["counted"]) == ("partial", 1, 1)
    assert verdict["rewards"] == (good["expected"] or good["scores"])
    assert (bad["error"], bad["scores"], bad["counted"]) == (error, None, False)
