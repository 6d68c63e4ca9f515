"""The service as a newcomer meets it: a real process, the real model, the printed curl line."""

import json
import os
import signal
import subprocess
import time
import urllib.request

import pytest

from tests.real.pairs import PAIRS

pytestmark = pytest.mark.timeout(600)


def test_the_printed_curl_line_works_when_pasted(default):
    done = subprocess.run(
        ["bash", "-c", default.curl], capture_output=True, text=True, check=True, timeout=120
    )
    reply = json.loads(done.stdout)
    assert reply["status"] == "ok"
    assert len(reply["rewards"]) == 2
    assert reply["valid"] == reply["k"]


def test_it_is_ready_and_says_what_runs(default):
    with urllib.request.urlopen(default.url + "/readyz") as reply:
        ready = json.load(reply)
    assert ready["engine"] == "openvino"
    assert ready["profile"] == "smollm2-judge"


def test_the_same_seed_gives_the_same_samples(default):
    body = {"query": PAIRS[0][0], "responses": PAIRS[0][1:], "k": 1, "seed": 7}
    # With another timeout it is another request, and no verdict is given again.
    first, second = [default.post("/v1/rewards", body | {"timeout_s": s})[1] for s in (100, 101)]
    assert first["id"] != second["id"]
    assert first["samples"] == second["samples"]


def test_control_text_in_a_response_is_judged_as_text(default):
    body = {"query": PAIRS[-1][0], "responses": PAIRS[-1][1:], "k": 4}
    status, reply = default.post("/v1/rewards", body)
    assert status == 200
    assert reply["valid"] == 4


def test_what_does_not_fit_the_context_names_the_sizes(default):
    status, problem = default.post("/v1/rewards", {"query": "q", "responses": ["word " * 9000]})
    assert status == 422
    assert problem["code"] == "prompt_too_long"
    assert "8192" in problem["detail"]


def test_principles_from_the_query_alone(default):
    status, reply = default.post("/v1/principles", {"query": "How do I learn to cook?"})
    assert status == 200, reply
    assert reply["principles"]


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_it_stops_when_it_is_told(running, stop):
    with running("--engine", "scripted") as server:
        os.kill(server.process.pid, stop)
        assert server.process.wait(20) == 0


def test_a_client_that_goes_away_has_its_samples_cancelled(default):
    """The next request is not held up by the one that nobody waits for any more."""
    body = {"query": "Tell me a long story.", "responses": ["Once", "Twice"], "k": 64, "max_tokens": 2000}
    with pytest.raises(TimeoutError):
        default.post("/v1/rewards", body, timeout=2)
    before = time.monotonic()
    status, _ = default.post("/v1/rewards", {"query": "q", "responses": ["a"], "k": 1, "max_tokens": 8})
    assert status == 200
    assert time.monotonic() - before < 30


@pytest.mark.slow
def test_at_least_95_percent_of_samples_are_readable(default):
    samples = []
    for query, *responses in PAIRS:
        status, reply = default.post("/v1/rewards", {"query": query, "responses": responses, "k": 8})
        assert status == 200, reply
        samples += reply["samples"]
    readable = sum(sample["scores"] is not None for sample in samples)
    closed = sum(sample["closed"] for sample in samples)
    print(f"\nreadable: {readable} of {len(samples)}, closed by the service: {closed}")
    assert len(samples) == 160
    assert readable >= 0.95 * len(samples)
