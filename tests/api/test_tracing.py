"""Spans, as a local collector receives them over OTLP/HTTP."""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import threading

import httpx
import pytest

from grm_service import tracing
from grm_service.api.schemas import RewardRequest
from grm_service.errors import EngineError, MissingExtra
from grm_service.serving.keys import add, load
from tests.api.collector import Collector
from tests.engines.loopback import Loopback
from tests.waiting import HANG_S, until

pytestmark = pytest.mark.anyio
PAIR = {"query": "Name a prime.", "responses": ["11", "12"], "k": 4}
TRACE, PARENT = 32 * "a", 16 * "b"
TRACEPARENT = {"traceparent": f"00-{TRACE}-{PARENT}-01"}


@pytest.fixture
def collector():
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def traced(collector, monkeypatch):
    """Return a context manager that exports spans to the collector, and flushes them at its end."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    return tracing.exporting


async def test_spans_continue_the_traceparent(serve, traced, collector):
    with traced():
        async with serve() as client:
            verdict = (await client.post("/v1/rewards", json=PAIR, headers=TRACEPARENT)).json()
    assert {span["trace"] for span in collector.spans} == {TRACE}
    (request,) = collector.named("POST /v1/rewards")
    (judgement,) = collector.named("judgement")
    samples = collector.named("sample")
    assert (request["parent"], judgement["parent"]) == (PARENT, request["id"])
    assert {sample["parent"] for sample in samples} == {judgement["id"]}
    assert (request["kind"], judgement["kind"]) == ("SERVER", "INTERNAL")
    assert (request["http.route"], request["http.response.status_code"]) == ("/v1/rewards", 200)
    assert (judgement["grm.verdict"], judgement["grm.profile"]) == (verdict["id"], "smollm2-judge")
    assert (judgement["grm.k"], judgement["grm.valid"], judgement["grm.replay"]) == (4, 4, "miss")
    assert sorted(sample["grm.sample"] for sample in samples) == [0, 1, 2, 3]
    assert {sample["gen_ai.request.model"] for sample in samples} == {"scripted-content"}
    spent = verdict["usage"]["completion_tokens"]
    assert sum(sample["gen_ai.usage.output_tokens"] for sample in samples) == spent
    assert judgement["gen_ai.usage.output_tokens"] == spent
    assert not any(span["failed"] for span in collector.spans)
    for sample in samples:
        assert judgement["started"] <= sample["started"] <= sample["ended"] <= judgement["ended"]


async def test_new_trace_without_traceparent(serve, traced, collector, log_lines):
    """The log lines have its id."""
    with traced():
        async with serve() as client:
            await client.get("/v1/profiles")
    (span,) = collector.spans
    assert (span["name"], span["parent"]) == ("GET /v1/profiles", "")
    assert {line["trace_id"] for line in log_lines() if "trace_id" in line} == {span["trace"]}


async def test_health_checks_have_no_spans(serve, traced, collector):
    with traced():
        async with serve() as client:
            for path in ("/livez", "/readyz", "/metrics"):
                assert (await client.get(path)).status_code == 200
    assert collector.spans == []


async def test_sample_span_duration(serve, gated_engine, traced, collector):
    with traced():
        async with serve() as client:
            request = asyncio.create_task(client.post("/v1/rewards", json=PAIR))
            await until(lambda: gated_engine.calls == 4)
            await asyncio.sleep(0.1)
            gated_engine.gate.set()
            await request
    assert all(sample["seconds"] >= 0.1 for sample in collector.named("sample"))


async def test_spans_have_no_texts_or_keys(serve, traced, collector, tmp_path):
    def leak_the_prompt(prompt, params):
        raise EngineError(f"no answer to {prompt.messages[-1].content}")

    key = add(tmp_path / "keys.yaml", "first")
    secret = {"query": "tellnobody", "responses": ["quietone", "hushhush"], "principles": {"mode": "fixed"}}
    secret["principles"]["items"] = [{"text": "keptsecret"}]
    with traced():
        async with serve(keys=load(tmp_path / "keys.yaml")) as client:
            await client.post(f"/t/{key}/v1/rewards", json=secret | {"k": 2})
            await client.post(f"/t/{key}/v1/rewards", json=secret | {"k": 2, "profile": "whoknows"})
            await client.post("/v1/rewards", json=secret, headers={"X-API-Key": "grm_guessed"})
            client.service.engine._write = lambda prompt, params: "<think>thoughtalone"
            await client.post(f"/t/{key}/v1/rewards", json=secret | {"k": 2, "seed": 2})
            client.service.engine._write = leak_the_prompt
            await client.post(f"/t/{key}/v1/rewards", json=secret | {"k": 2, "seed": 1})
    assert len(collector.named("POST /v1/rewards")) == 4
    everything = b"".join(collector.bodies)
    for word in ("tellnobody", "quietone", "hushhush", "keptsecret", "whoknows", "thoughtalone", key):
        assert word.encode() not in everything
    assert b"grm_guessed" not in everything
    assert all(span["events"] == 0 for span in collector.spans)


async def test_failed_spans_have_error_types(serve, traced, collector):
    def broken(prompt, params):
        raise EngineError("out of memory")

    with traced():
        async with serve(script="unreadable") as client:
            await client.post("/v1/rewards", json=PAIR | {"k": 1})
            client.service.engine._write = broken
            await client.post("/v1/rewards", json=PAIR | {"k": 1, "seed": 1})
            await client.post("/v1/rewards", json=PAIR | {"profile": "nobody"})
            client.service.engine.complete = None
            await client.post("/v1/rewards", json=PAIR | {"k": 1, "seed": 2})

    def errors(name):
        spans = sorted(collector.named(name), key=lambda span: span["started"])
        return [(span["error.type"], span["failed"]) for span in spans]

    assert errors("sample") == [("no_scores", True), ("engine_failed", True), ("internal", True)]
    judgements = [("all_unreadable", True), ("engine_failed", True), ("unknown_profile", True)]
    assert errors("judgement") == [*judgements, ("internal", True)]
    # By OTel's conventions, a client error is no failure of the server's span.
    requests = [("all_unreadable", True), ("engine_failed", True), ("unknown_profile", False)]
    assert errors("POST /v1/rewards") == [*requests, ("internal", True)]


async def test_cancelled_spans_name_the_cause(serve, gated_engine, traced, collector):
    with traced():
        async with serve() as client:
            await client.post("/v1/rewards", json=PAIR | {"timeout_s": 0.1})
            abandoned = asyncio.create_task(
                client.service.judge(RewardRequest(**PAIR | {"seed": 1}).to_task())
            )
            await until(lambda: gated_engine.calls == 8)
            abandoned.cancel()
            await asyncio.gather(abandoned, return_exceptions=True)
            await until(lambda: gated_engine.cancelled == 8)
    ends = [sample["error.type"] for sample in collector.named("sample")]
    assert sorted(ends) == ["cancelled"] * 4 + ["deadline_exceeded"] * 4
    ends = [judgement["error.type"] for judgement in collector.named("judgement")]
    assert sorted(ends) == ["cancelled", "deadline_exceeded"]


async def test_replayed_judgement_has_no_samples(serve, gated_engine, traced, collector):
    """It has no token usage either, whether the request joined a running one or was replayed."""
    with traced():
        async with serve() as client:
            requests = [asyncio.create_task(client.post("/v1/rewards", json=PAIR)) for _ in range(2)]
            await until(lambda: gated_engine.calls == 4 and client.service._single_flight._running)
            gated_engine.gate.set()
            await asyncio.gather(*requests)
            await client.post("/v1/rewards", json=PAIR)
    by_replay = {judgement["grm.replay"]: judgement for judgement in collector.named("judgement")}
    assert set(by_replay) == {"miss", "join", "hit"}
    assert {sample["parent"] for sample in collector.named("sample")} == {by_replay["miss"]["id"]}
    assert [replay for replay, span in by_replay.items() if "gen_ai.usage.input_tokens" in span] == ["miss"]


async def test_upstream_requests_join_the_trace(serve, traced, collector):
    upstream = await Loopback().open()
    try:
        with traced():
            async with serve(engine="openai", openai_base_url=upstream.url) as client:
                before = len(upstream.heads)
                await client.post("/v1/rewards", json=PAIR, headers=TRACEPARENT)
                principles = {"query": "Name a prime."}
                await client.post("/v1/principles", json=principles, headers=TRACEPARENT)
    finally:
        await upstream.kill()
    joined = [re.search(r"traceparent: 00-(\w+)-(\w+)-01", head) for head in upstream.heads[before:]]
    assert {match[1] for match in joined} == {TRACE}
    client_spans = collector.named("sample") + collector.named("principles")
    assert {match[2] for match in joined} == {span["id"] for span in client_spans}
    assert collector.named("principles")
    assert {span["kind"] for span in client_spans} == {"CLIENT"}


async def test_disabled_tracing_sends_nothing(serve, monkeypatch, collector):
    """The SDK is not even imported."""
    endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
    for off in ({}, endpoint | {"OTEL_SDK_DISABLED": "true"}, endpoint | {"OTEL_TRACES_EXPORTER": "none"}):
        with monkeypatch.context() as patched:
            for name, value in off.items():
                patched.setenv(name, value)
            with tracing.exporting():
                async with serve() as client:
                    assert (await client.post("/v1/rewards", json=PAIR)).status_code == 200
    assert collector.spans == []
    script = "import grm_service.cli.serve, grm_service.api.server, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert "grm_service.tracing" in loaded
    assert "opentelemetry.sdk" not in loaded


def test_missing_otel_extra(monkeypatch, traced):
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(MissingExtra, match=r"pip install 'grm-service\[otel\]'"), traced():
        pass


async def test_unreachable_collector_does_not_block(serve, monkeypatch):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"http://127.0.0.1:{port}/v1/traces")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "600")
    monkeypatch.setattr(tracing, "_FLUSH_S", 0.1)
    async with asyncio.timeout(HANG_S):
        with tracing.exporting():
            async with serve() as client:
                assert (await client.post("/v1/rewards", json=PAIR)).status_code == 200


def test_serve_flushes_spans_on_exit(collector):
    # FastAPI's own spans contain whole paths, so they stay off even if enabled.
    wanted = {"OTEL_RESOURCE_ATTRIBUTES": "a=b", "FASTAPI_OTEL_AUTO_CONFIGURE": "true"}
    environment = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, **wanted}
    command = [sys.executable, "-m", "grm_service", "serve", "--engine", "scripted", "--port", "0"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            lines = iter(process.stderr.readline, "")
            url = next(match[1] for line in lines if (match := re.search(r"serving on (http\S+?),? ", line)))
            path = "/t/grm_quiet/v1/rewards"
            assert httpx.post(url + path, json=PAIR, headers=TRACEPARENT, timeout=60).status_code == 200
            process.send_signal(signal.SIGTERM)
            process.stderr.read()
            assert process.wait(60) == 0
        finally:
            process.kill()
    assert {span["trace"] for span in collector.spans} == {TRACE}
    names = sorted(span["name"] for span in collector.spans)
    assert names == ["POST /v1/rewards", "judgement", *["sample"] * 4]
    assert b"grm_quiet" not in b"".join(collector.bodies)
    assert collector.resources[0]["service.name"] == "grm-service"
    assert collector.resources[0]["a"] == "b"
