"""Retries of the client, its deadline, and its failures."""

import asyncio
import json
import pickle
import time

import pytest

from grm_service.client import AsyncClient, Client, NoVerdict, asynchronous
from tests.client.answers import CUT, HANG, Answers, problem, verdict
from tests.waiting import HANG_S

pytestmark = pytest.mark.anyio
PAIR = ["eleven", "twelve"]


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(asynchronous, "_GRACE_S", 0.1)


@pytest.fixture
def no_pauses(monkeypatch):
    monkeypatch.setattr(asynchronous.backoff, "pause_s", lambda min_s, attempt: 0.0)


async def failure_of(server, timeout_s=5.0):
    """Return the failure of a request to the server."""
    async with AsyncClient(server.url, timeout_s=timeout_s) as client:
        with pytest.raises(NoVerdict) as refusal:
            await client.rewards("q", PAIR)
    return refusal.value


async def test_retry_states_the_remaining_time():
    async with (
        Answers(problem(429, "overloaded", Retry_After="1"), verdict()) as server,
        AsyncClient(server.url) as client,
    ):
        assert (await client.rewards("q", PAIR, k=2)).rewards == (7.0, 3.0)
    first, second = server.times
    assert second - first >= 1.0
    original, again = map(json.loads, server.bodies)
    assert original.pop("timeout_s") - again.pop("timeout_s") >= 1.0
    assert original == again


async def test_retry_after_beyond_the_deadline_fails():
    async with Answers(problem(503, "not_ready", Retry_After="600")) as server:
        start = time.monotonic()
        failed = await failure_of(server, timeout_s=300.0)
    assert (failed.code, failed.status, failed.retryable) == ("not_ready", 503, True)
    assert failed.detail == "because"
    assert time.monotonic() - start < HANG_S
    assert len(server.bodies) == 1


async def test_dropped_connection_is_retried(no_pauses):
    async with Answers(CUT, CUT, verdict()) as server, AsyncClient(server.url) as client:
        assert (await client.rewards("q", PAIR)).rewards == (7.0, 3.0)
    assert len(server.bodies) == 3
    assert len(set(server.bodies)) == 1, "the service recognizes a repeated request by its bytes"


async def test_unreachable_service_fails_at_the_deadline():
    async with Answers(verdict()) as gone:
        pass
    failed = await failure_of(gone, timeout_s=1.0)
    assert (failed.code, failed.status, failed.retryable) == ("unreachable", None, True)
    assert gone.url in failed.detail


async def test_wrong_address_fails_long_before_the_deadline(no_pauses):
    async with Answers(verdict()) as gone:
        pass
    async with AsyncClient(gone.url, timeout_s=10 * HANG_S, connect_timeout_s=0.2) as client:
        start = time.monotonic()
        with pytest.raises(NoVerdict, match="is the address right") as failed:
            await client.rewards("q", PAIR)
    assert time.monotonic() - start < HANG_S
    assert (failed.value.code, failed.value.retryable) == ("unreachable", True)
    assert gone.url in failed.value.detail


async def test_service_that_was_reached_may_restart(monkeypatch):
    """After one answer, the time limit of a judgement counts, and not the one for the first connection."""
    sleep = asyncio.sleep
    monkeypatch.setattr(asynchronous.backoff, "pause_s", lambda min_s, attempt: 31.0)
    monkeypatch.setattr(asyncio, "sleep", lambda seconds: sleep(0))
    async with Answers(CUT, verdict(), CUT, CUT, verdict()) as server, AsyncClient(server.url) as client:
        with pytest.raises(NoVerdict, match="unreachable"):
            await client.rewards("q", PAIR)
        await client.rewards("q", PAIR)
        assert (await client.rewards("q", PAIR)).rewards == (7.0, 3.0)
    assert len(server.bodies) == 5


@pytest.mark.parametrize("kind", [AsyncClient, Client])
def test_pickled_client_has_its_options(kind):
    client = kind("http://localhost:1", timeout_s=5.0, connect_timeout_s=3.0, concurrency=2)
    again = pickle.loads(pickle.dumps(client))
    assert again._factory.args == client._factory.args
    assert again._factory.keywords == client._factory.keywords | {"connect_timeout_s": 3.0}


async def test_failed_judgement_is_tried_three_times(no_pauses):
    async with Answers(problem(502, "all_unreadable")) as server:
        assert (await failure_of(server)).code == "all_unreadable"
    assert len(server.bodies) == 3


async def test_permanent_failure_is_not_retried():
    async with Answers(problem(422, "text_too_long", retryable=False)) as server:
        failed = await failure_of(server)
    assert (failed.code, failed.status, failed.retryable) == ("text_too_long", 422, False)
    assert len(server.bodies) == 1


async def test_proxy_error_is_retried(no_pauses):
    down = (502, "<html>Bad gateway</html>", {})
    async with Answers(*[down] * 9, verdict()) as server, AsyncClient(server.url) as client:
        assert (await client.rewards("q", PAIR)).rewards == (7.0, 3.0)
    assert len(server.bodies) == 10


async def test_no_answer_ends_after_the_deadline(impatient):
    async with Answers(HANG) as server:
        start = time.monotonic()
        failed = await failure_of(server, timeout_s=0.5)
    assert (failed.code, failed.status) == ("out_of_time", None)
    assert time.monotonic() - start >= 0.5
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
async def test_invalid_reply_is_an_error(answer):
    async with Answers(answer) as server:
        failed = await failure_of(server)
    assert failed.code == "unreadable_reply"
    assert not failed.retryable
    assert server.url in failed.detail
    assert len(server.bodies) == 1


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "http://x:port", "ftp://x", ""])
async def test_invalid_url_fails_at_once(url):
    async with AsyncClient(url) as client:
        with pytest.raises(NoVerdict, match="not a valid URL") as refusal:
            await client.rewards("q", PAIR)
    assert not refusal.value.retryable


async def test_non_json_values_are_not_sent():
    async with Answers(verdict()) as server, AsyncClient(server.url) as client:
        for wrong in ({"temperature": float("nan")}, {"reference": object()}):
            with pytest.raises(NoVerdict) as refusal:
                await client.rewards("q", PAIR, **wrong)
            assert refusal.value.code == "invalid_request"
    assert not server.bodies
