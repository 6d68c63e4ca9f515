"""The client against the real service, over a socket."""

import asyncio
import pickle
import re
import subprocess
import sys
import time
from dataclasses import FrozenInstanceError, astuple

import httpx
import pytest

from grm_service.client import AsyncClient, Client, NoVerdict
from grm_service.client.asynchronous import _body
from grm_service.serving.keys import add
from tests.faults.test_faults import served

PAIR = ["eleven", "twelve"]
HEAVY = ("torch", "numpy", "fastapi", "starlette", "pydantic", "sqlalchemy", "uvicorn")


def test_verdict_has_all_fields(service):
    with Client(service) as client:
        verdict = client.rewards("What is 5 + 6?", PAIR, k=4, principles={"set": "helpfulness"})
    assert len(verdict.rewards) == len(verdict.std) == len(verdict.ranking) == 2
    assert verdict.status == "ok"
    assert verdict.id.startswith("vd_")
    assert (verdict.k, verdict.valid, verdict.counted) == (4, 4, 4)
    assert verdict.created.tzinfo is not None
    assert verdict.constitution.startswith("sha256:")
    assert verdict.principles[0].text
    scores = [sample.scores for sample in verdict.samples]
    assert verdict.rewards == tuple(sum(column) / 4 for column in zip(*scores, strict=True))
    assert verdict.usage.completion_tokens > 0
    with pytest.raises(FrozenInstanceError):
        verdict.rewards = (0.0, 0.0)


def test_query_may_be_a_conversation(service):
    turns = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "What is 5 + 6?"},
    ]
    with Client(service) as client:
        verdict = client.rewards(turns, [{"id": "a", "content": "eleven"}, {"id": "b", "content": "12"}])
    assert verdict.response_ids == ("a", "b")


def test_messages_take_the_place_of_query():
    body = _body({"query": [{"role": "user", "content": "q"}], "response": "r", "reference": None})
    assert list(body) == ["messages", "response"]


def test_samples_can_be_left_out(service):
    with Client(service) as client:
        assert client.rewards("q", PAIR, detail="rewards").samples is None


def test_single_responses_form_a_group(service):
    answers = ["eleven", "twelve", "11 + 0"]

    async def one_by_one():
        async with AsyncClient(service) as client:
            calls = (client.single("Which is 11?", answer, group=3, window_s=30, k=2) for answer in answers)
            return await asyncio.gather(*calls)

    with Client(service) as client:
        together = client.rewards("Which is 11?", answers, k=2).rewards
        alone = client.single("Which is eleven?", "eleven", window_s=0, k=2)
        with pytest.raises(NoVerdict) as refused:
            client.single("Which is 11?", "eleven", groups=3)
    singles = asyncio.run(one_by_one())
    assert sorted(single.raw for single in singles) == pytest.approx(sorted(together))
    assert {single.group_size for single in singles} == {3}
    assert (alone.group_size, alone.agreement, alone.judged) == (1, -1, 1)
    assert refused.value.status == 422


def test_shaped_rewards_beside_raw_ones(service):
    shaping = {"transform": "centered", "length_penalty": {"per_1000": 100.0}}
    with Client(service) as client:
        plain, shaped = client.rewards("q", PAIR), client.rewards("q", PAIR, shaping=shaping)
    assert plain.shaped is None
    assert shaped.rewards == plain.rewards
    mean = sum(plain.rewards) / 2
    assert shaped.shaped.transformed == tuple(reward - mean for reward in plain.rewards)
    assert shaped.shaped.length_penalty == pytest.approx((-0.6, -0.6))
    assert shaped.shaped.rewards == tuple(map(sum, zip(*astuple(shaped.shaped)[:2], strict=True)))


def test_large_group_samples_have_partial_scores(service):
    responses = [f"answer {i}" for i in range(16)]
    with Client(service) as client:
        verdict = client.rewards("q", responses, k=5)
    assert len(verdict.rewards) == 16
    for sample in verdict.samples:
        scored = {i for i, score in enumerate(sample.scores) if score is not None}
        assert scored == set(sample.order) < set(range(16))


def test_written_principles_can_be_sent_back(service):
    with Client(service) as client:
        written = client.principles("What is 5 + 6?")
        assert written.principles
        items = [{"text": principle.text, "weight": principle.weight} for principle in written.principles]
        verdict = client.rewards("What is 5 + 6?", PAIR, principles={"mode": "fixed", "items": items})
    assert verdict.principles == written.principles


def test_unreadable_samples_raise_with_reasons(service):
    with Client(service) as client, pytest.raises(NoVerdict) as failure:
        client.rewards("please garbage", PAIR, k=2)
    failed = failure.value
    assert (failed.code, failed.status, failed.retryable) == ("all_unreadable", 502, True)
    assert sum(failed.reasons.values()) == 2


def test_service_enforces_the_client_timeout(service):
    start = time.monotonic()
    with Client(service, timeout_s=1.0) as client, pytest.raises(NoVerdict) as failure:
        client.rewards("please hang", PAIR)
    assert (failure.value.code, failure.value.status) == ("deadline_exceeded", 504)
    assert time.monotonic() - start > 0.9


def test_invalid_field_is_named(service):
    with Client(service) as client, pytest.raises(NoVerdict, match=r"invalid_request: k: .*64"):
        client.rewards("q", PAIR, k=65)


def test_missing_key_is_unauthorized(tmp_path, monkeypatch):
    path = tmp_path / "keys.yaml"
    key = add(path, "trainer")
    monkeypatch.setenv("GRM_KEYS_FILE", str(path))
    with served() as (url, _):
        with Client(url, key) as client:
            assert client.rewards("q", PAIR).rewards
        with Client(url) as client, pytest.raises(NoVerdict) as failure:
            client.rewards("q", PAIR)
    assert (failure.value.code, failure.value.status) == ("unauthorized", 401)


def test_full_queue_is_waited_out():
    items = [{"query": f"q {i}", "responses": PAIR} for i in range(12)]
    with served("--delay", "0.2", "--waiting", "1") as (url, _), Client(url) as client:
        results = client.batch(items, k=64, detail="rewards", timeout_s=60)
        assert not [result for result in results if isinstance(result, NoVerdict)]
        counted = httpx.get(url + "/metrics").text
    assert re.search(r"grm_\w+_total\{.*(overloaded|line_full).*\} [1-9]", counted), "no request was refused"


def test_client_and_failure_can_be_pickled(service):
    with pickle.loads(pickle.dumps(Client(service))) as client:
        assert client.rewards("q", PAIR).rewards
    assert isinstance(pickle.loads(pickle.dumps(AsyncClient(service))), AsyncClient)
    failed = pickle.loads(pickle.dumps(NoVerdict("overloaded", "full", 429, True)))
    assert (failed.code, failed.detail, failed.status, str(failed)) == (
        "overloaded",
        "full",
        429,
        "overloaded: full",
    )


def test_import_is_light():
    code = f"import sys, grm_service.client; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
