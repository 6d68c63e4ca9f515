"""What the client tries again, for how long, and what it says where there is no verdict."""

import json
import time

import pytest

from grm_service.client import AsyncClient, NoVerdict, asynchronous
from tests.client.answers import CUT, HANG, Answers, problem, verdict

pytestmark = pytest.mark.anyio
PAIR = ["eleven", "twelve"]


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(asynchronous, "_GRACE_S", 0.1)


@pytest.fixture
def no_pauses(monkeypatch):
    monkeypatch.setattr(asynchronous.pauses, "pause_s", lambda asked_s, tries: 0.0)


async def refused(server, timeout_s=5.0):
    async with AsyncClient(server.url, timeout_s=timeout_s) as client:
        with pytest.raises(NoVerdict) as refusal:
            await client.rewards("q", PAIR)
    return refusal.value


async def test_a_busy_service_is_asked_again_when_it_says_with_the_time_that_is_left():
    async with (
        Answers(problem(429, "overloaded", Retry_After="1"), verdict()) as server,
        AsyncClient(server.url) as client,
    ):
        assert (await client.rewards("q", PAIR, k=2)).rewards == (7.0, 3.0)
    first, second = server.times
    assert 1.0 <= second - first < 2.5
    asked, again = map(json.loads, server.bodies)
    assert asked.pop("timeout_s") - again.pop("timeout_s") == pytest.approx(second - first, abs=0.2)
    assert asked == again


async def test_a_service_that_wants_more_patience_than_there_is_time_is_not_waited_for():
    async with Answers(problem(503, "not_ready", Retry_After="30")) as server:
        began = time.monotonic()
        failed = await refused(server, timeout_s=3.0)
    assert (failed.code, failed.status, failed.retryable) == ("not_ready", 503, True)
    assert failed.detail == "because"
    assert time.monotonic() - began < 1.0
    assert len(server.bodies) == 1


async def test_a_cut_connection_is_tried_again(no_pauses):
    async with Answers(CUT, CUT, verdict()) as server, AsyncClient(server.url) as client:
        assert (await client.rewards("q", PAIR)).rewards == (7.0, 3.0)
    assert len(server.bodies) == 3
    assert len(set(server.bodies)) == 1, "what was judged already is known by its bytes"


async def test_a_service_that_nobody_reaches_is_unreachable_when_the_time_is_up():
    async with Answers(verdict()) as gone:
        pass
    began = time.monotonic()
    failed = await refused(gone, timeout_s=1.0)
    assert (failed.code, failed.status, failed.retryable) == ("unreachable", None, True)
    assert gone.url in failed.detail
    assert time.monotonic() - began < 1.5


async def test_a_judgement_that_failed_is_tried_three_times(no_pauses):
    async with Answers(problem(502, "all_unreadable")) as server:
        assert (await refused(server)).code == "all_unreadable"
    assert len(server.bodies) == 3


async def test_what_is_not_retryable_is_asked_once():
    async with Answers(problem(422, "text_too_long", retryable=False)) as server:
        failed = await refused(server)
    assert (failed.code, failed.status, failed.retryable) == ("text_too_long", 422, False)
    assert len(server.bodies) == 1


async def test_a_proxy_without_a_service_behind_it_is_asked_until_the_time_is_up(no_pauses):
    down = (502, "<html>Bad gateway</html>", {})
    async with Answers(*[down] * 9, verdict()) as server, AsyncClient(server.url) as client:
        assert (await client.rewards("q", PAIR)).rewards == (7.0, 3.0)
    assert len(server.bodies) == 10


async def test_no_answer_ends_shortly_after_the_time_that_the_service_was_told(impatient):
    async with Answers(HANG) as server:
        began = time.monotonic()
        failed = await refused(server, timeout_s=0.5)
    assert (failed.code, failed.status) == ("out_of_time", None)
    assert 0.5 <= time.monotonic() - began < 1.5
    assert b'"timeout_s": 0.5' in server.bodies[0]


@pytest.mark.parametrize(
    "answer",
    [
        verdict(rewards=[None, None]),
        verdict(rewards=[7.0, float("nan")]),
        verdict(rewards=[7.0]),
        verdict(rewards=["7", "3"]),
        (200, {"rewards": [7.0, 3.0]}, {}),
        (200, [], {}),
        (200, "<html>", {}),
        (404, "<html>", {}),
        (302, "", {"Location": "/elsewhere"}),
    ],
    ids=["null", "nan", "too few", "texts", "bare", "list", "page", "other server", "redirect"],
)
async def test_an_answer_that_is_no_verdict_is_an_error_and_never_a_reward(answer):
    async with Answers(answer) as server:
        failed = await refused(server)
    assert failed.code == "unreadable_reply"
    assert not failed.retryable
    assert server.url in failed.detail
    assert len(server.bodies) == 1


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "http://x:port", "ftp://x", ""])
async def test_what_is_no_address_is_said_at_once(url):
    async with AsyncClient(url) as client:
        with pytest.raises(NoVerdict, match="no address") as refusal:
            await client.rewards("q", PAIR)
    assert not refusal.value.retryable


async def test_what_cannot_be_written_as_json_is_not_sent():
    async with Answers(verdict()) as server, AsyncClient(server.url) as client:
        for wrong in ({"temperature": float("nan")}, {"reference": object()}):
            with pytest.raises(NoVerdict) as refusal:
                await client.rewards("q", PAIR, **wrong)
            assert refusal.value.code == "invalid_request"
    assert not server.bodies
