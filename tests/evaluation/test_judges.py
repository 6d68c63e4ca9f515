"""Judging items: failures of the engine, and the options that reach a judge."""

import contextlib

import pytest
from pydantic import TypeAdapter

from grm_service.client.failure import NoVerdict
from grm_service.errors import (
    ContentFiltered,
    DeadlineExceeded,
    EngineError,
    EngineUnreachable,
    PromptRefused,
    UpstreamDenied,
    UpstreamRefused,
)
from grm_service.evaluation.dataset import Item
from grm_service.evaluation.judges import local_judge, remote_judge
from grm_service.evaluation.markdown import render_report
from grm_service.evaluation.report import measure
from grm_service.evaluation.run_folder import EvalSetup, SampleResult
from grm_service.factory import open_service
from grm_service.settings import Settings
from grm_service.types import JudgeOptions, Message, PrincipleSpec
from tests.api.helpers import failing

pytestmark = pytest.mark.anyio
ITEM = Item("0", "s", (Message("user", "Name a prime."),), ("11", "12"), (0,))
SETUP = EvalSetup(profile="smollm2-judge", engine="scripted", k=4)


@pytest.mark.parametrize("script", ["content", "unreadable"])
async def test_engine_failure_ends_the_run(script, tmp_path):
    trail = {"audit_url": f"sqlite:///{tmp_path}/a.db", "audit_key_file": tmp_path / "a.key"}
    service = open_service(Settings(engine="scripted", script=script, **trail))
    complete, calls = service.engine.complete, iter(range(100))

    async def away_once(prompt, params):
        if next(calls) == 0:
            raise EngineUnreachable("http://x is away")
        return await complete(prompt, params)

    service.engine.complete = away_once
    await service.start()
    try:
        with pytest.raises(EngineError, match="engine_unreachable"):
            await local_judge(service)(ITEM, SETUP)
        again = await local_judge(service)(
            Item("1", *[getattr(ITEM, n) for n in ("source", "messages")], ("1", "2"), (0,)), SETUP
        )
    finally:
        await service.close()
    assert again.error == (None if script == "content" else "all_unreadable")


@pytest.mark.parametrize("error", [UpstreamRefused, ContentFiltered])
async def test_refused_item_is_counted(error, tmp_path):
    async with judging(tmp_path, error("http://x refused the request", "no such words")) as judge:
        assert (await judge(ITEM, SETUP)).error == error.code


async def test_prompt_refused_as_too_long_is_counted(tmp_path):
    async with judging(tmp_path, PromptRefused("http://x refused the prompt", "too long")) as judge:
        assert (await judge(ITEM, SETUP)).error == "prompt_too_long"


async def test_refused_key_ends_the_run(tmp_path):
    async with judging(tmp_path, UpstreamDenied("http://x refuses every request", "bad key")) as judge:
        with pytest.raises(UpstreamDenied, match="bad key"):
            await judge(ITEM, SETUP)


@pytest.mark.parametrize("code", [UpstreamRefused.code, ContentFiltered.code, PromptRefused.code])
async def test_item_refused_at_a_service_is_counted(code):
    assert (await remote_judge(Refusing(code))(ITEM, FULL)).error == code


async def test_key_refused_at_a_service_ends_the_run():
    with pytest.raises(NoVerdict):
        await remote_judge(Refusing(UpstreamDenied.code))(ITEM, FULL)


@contextlib.asynccontextmanager
async def judging(tmp_path, error):
    """Yield a judge whose engine fails."""
    trail = {"audit_url": f"sqlite:///{tmp_path}/a.db", "audit_key_file": tmp_path / "a.key"}
    service = open_service(Settings(engine="scripted", **trail))
    service.engine.complete = failing(error)
    await service.start()
    try:
        yield local_judge(service)
    finally:
        await service.close()


FULL = EvalSetup(
    "p",
    "e",
    4,
    "soft",
    "fixed",
    "helpfulness",
    0.7,
    300,
    3,
    k_meta=2,
    stop="none",
    timeout_s=9.0,
    thinking_tokens=99,
)


def test_every_option_reaches_the_judge():
    spec = PrincipleSpec("fixed", "helpfulness")
    assert FULL.item_options(ITEM) == JudgeOptions(
        k=4,
        k_meta=2,
        seed=ITEM.seed(3),
        temperature=0.7,
        max_tokens=300,
        thinking_tokens=99,
        score="soft",
        stop="none",
        timeout_s=9.0,
        principles=spec,
    )


class Refusing:
    """A client of a service that refuses every request, with the requests."""

    def __init__(self, code="bad_request"):
        self.code, self.requests = code, []

    async def rewards(self, query, responses, **options):
        self.requests.append(options)
        raise NoVerdict(self.code, "refused")


async def test_every_option_reaches_the_service():
    client = Refusing()
    with pytest.raises(NoVerdict):
        await remote_judge(client)(ITEM, FULL)
    assert client.requests == [
        {
            "priority": "eval",
            "profile": "p",
            "k": 4,
            "k_meta": 2,
            "seed": ITEM.seed(3),
            "temperature": 0.7,
            "max_tokens": 300,
            "thinking_tokens": 99,
            "score": "soft",
            "stop": "none",
            "timeout_s": 9.0,
            "principles": {"mode": "fixed", "set": "helpfulness"},
        }
    ]


async def test_deadline_fails_item_only_if_set():
    judge = remote_judge(Refusing(DeadlineExceeded.code))
    assert (await judge(ITEM, FULL)).error == "deadline_exceeded"
    with pytest.raises(NoVerdict):
        await judge(ITEM, SETUP)


async def test_closings_are_counted_by_reason(tmp_path):
    trail = {"audit_url": f"sqlite:///{tmp_path}/a.db", "audit_key_file": tmp_path / "a.key"}
    service = open_service(Settings(engine="scripted", **trail))

    def write(prompt, params):
        drafts = "<think>Scores: \\boxed{1, 9}"
        return "9, 1}" if prompt.continuation.endswith("{") else drafts

    service.engine._write = write
    await service.start()
    try:
        result = await local_judge(service)(ITEM, SETUP)
    finally:
        await service.close()
    assert {(s.closed, s.closed_reason, s.error) for s in result.samples} == {(True, "cut_in_thinking", None)}
    reading = measure([result], SETUP, [4]).reading
    assert (reading.closed, reading.closed_reasons) == (1.0, {"cut_in_thinking": 4})
    assert "100.0% finished by the closing (cut_in_thinking 4)" in render_report(
        measure([result], SETUP, [4]), []
    )


def test_samples_of_older_runs_are_read():
    old = '{"order": [0, 1], "scores": [9, 1], "error": null, "closed": true, "tokens": 5, "grade": null}'
    sample = TypeAdapter(SampleResult).validate_json(old)
    assert (sample.closed, sample.closed_reason, sample.soft_error) == (True, None, None)
