"""The default service: a real process, the real model and the curl command it prints."""

import json
import os
import signal
import subprocess
import time
import urllib.request

import pytest

from grm_service.engines.files.convert import convert
from grm_service.engines.files.weights import ensure_safetensors
from tests.real.pairs import PAIRS
from tests.waiting import HANG_S

pytestmark = pytest.mark.timeout(600)


def test_printed_curl_command_works(default):
    done = subprocess.run(
        ["bash", "-c", default.curl], capture_output=True, text=True, check=True, timeout=120
    )
    reply = json.loads(done.stdout)
    assert reply["status"] == "ok"
    assert len(reply["rewards"]) == 2
    assert reply["valid"] == reply["k"]


def test_readyz_names_engine_and_profile(default):
    with urllib.request.urlopen(default.url + "/readyz") as reply:
        ready = json.load(reply)
    assert ready["engine"] == "openvino"
    assert ready["profile"] == "smollm2-judge"


@pytest.mark.slow
def test_same_seed_same_samples(default):
    body = {"query": PAIRS[0][0], "responses": PAIRS[0][1:], "k": 1, "seed": 7}
    # Different timeouts make these different requests, so no verdict is replayed.
    first, second = [default.post("/v1/rewards", body | {"timeout_s": s})[1] for s in (100, 101)]
    assert first["id"] != second["id"]
    assert first["samples"] == second["samples"]


def test_control_tokens_in_a_response(default):
    body = {"query": PAIRS[-1][0], "responses": PAIRS[-1][1:], "k": 4}
    status, reply = default.post("/v1/rewards", body)
    assert status == 200
    assert reply["valid"] == 4


def test_too_long_prompt_names_the_limit(default):
    status, problem = default.post("/v1/rewards", {"query": "q", "responses": ["word " * 9000]})
    assert status == 422
    assert problem["code"] == "prompt_too_long"
    assert "8192" in problem["detail"]


@pytest.mark.slow
def test_principles_from_the_query(default):
    status, reply = default.post("/v1/principles", {"query": "How do I learn to cook?"})
    assert status == 200, reply
    assert reply["principles"]


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_stops_on_signal(running, stop):
    with running("--engine", "scripted") as server:
        os.kill(server.process.pid, stop)
        assert server.process.wait(60) == 0


def test_limit_on_onednn_is_heeded(running, smollm):
    """OpenVINO chooses a precision by the processor alone, and would fail at the first step."""
    with running(ONEDNN_MAX_CPU_ISA="AVX2") as server:
        status, _ = server.post("/v1/rewards", {"query": "q", "responses": ["a", "b"], "k": 1})
    assert status == 200


@pytest.mark.slow
def test_limit_on_onednn_is_heeded_with_quantised_weights(running, smollm, tmp_path):
    """It would also choose products of 8 bits."""
    convert(ensure_safetensors(smollm.gguf, smollm.cache), tmp_path / "model.gguf", encoding="q8_0")
    with running(ONEDNN_MAX_CPU_ISA="AVX2", GRM_MODEL=str(tmp_path / "model.gguf")) as server:
        status, _ = server.post("/v1/rewards", {"query": "q", "responses": ["a", "b"], "k": 1})
    assert status == 200


def test_disconnect_cancels_samples(default):
    """The samples of a disconnected client do not delay the next request."""
    body = {"query": "Tell me a long story.", "responses": ["Once", "Twice"], "k": 64, "max_tokens": 2000}
    with pytest.raises(TimeoutError):
        default.post("/v1/rewards", body, timeout=2)
    before = time.monotonic()
    status, _ = default.post("/v1/rewards", {"query": "q", "responses": ["a"], "k": 1, "max_tokens": 8})
    assert status == 200
    assert time.monotonic() - before < HANG_S


@pytest.mark.slow
def test_samples_are_readable(default):
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
