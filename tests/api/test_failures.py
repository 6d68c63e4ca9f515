"""Every failure of the API: a request that triggers it, its code and status, and docs/failure-codes.md.

The tables below must cover every code in the sources: a new code fails here until a request triggers it.
"""

import asyncio
import hashlib
import re
import sqlite3
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import make_url

import grm_service.integrations.common  # noqa: F401  defines an error
from grm_service.api import body, problems, reading
from grm_service.engines.base import Abilities
from grm_service.engines.remote.http_retry import RetryingClient
from grm_service.errors import EngineError, GRMError, PromptTooLong
from grm_service.serving.keys import APIKey, Keys
from tests.api.helpers import failing, never, sources, writing
from tests.api.test_sample_failures import SAMPLE_ERRORS
from tests.engines.loopback import Loopback
from tests.engines.scripted_server import ScriptedServer, engine
from tests.meta_rm import ScriptedMetaRM, guide
from tests.waiting import until

pytestmark = pytest.mark.anyio
PAGE = Path(__file__).parents[2] / "docs/failure-codes.md"
PAIR = {"query": "Name a prime.", "responses": ["11", "12"], "k": 2}
KEY = {"X-API-Key": "right"}
KEYS = Keys((APIKey("first", hashlib.sha256(b"right").hexdigest(), max_requests=1),))

NOT_OVER_HTTP = {
    "judge_failed": "a base class, never raised itself",
    "client_gone": "the client has disconnected and reads no reply; see test_metrics",
    "unsafe_address": "raised at start, before the server listens",
    "address_unavailable": "raised at start, because the server cannot listen",
    "not_configured": "raised by the integrations in the trainer's process",
    "bad_catalog": "raised at start",
    "bad_setting": "raised at start",
    "model_not_loaded": "raised at start",
}
CASES = []


def case(code, status, rejection=None, **settings):
    """Register a request that fails with `code`; `rejection` is its reason in grm_rejected_total, if any."""

    def add(trigger):
        CASES.append(pytest.param(code, status, rejection, settings, trigger, id=rejection or code))
        return trigger

    return add


def post(client, change=(), path="/v1/rewards", **how):
    return client.post(path, json=PAIR | dict(change), **how)


async def post_behind_a_hanging_request(client, change, headers=None):
    """Return the reply to a request while another one occupies the engine."""
    client.service.engine.complete = never
    first = asyncio.create_task(post(client, headers=headers))
    await until(lambda: client.service.queue.in_flight)
    try:
        return await post(client, {"seed": 1} | change, headers=headers)
    finally:
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)


async def post_to_a_server(client, status, message):
    """Return the reply to a request whose samples a server refuses."""
    remote = engine(ScriptedServer((status, {"json": {"error": {"message": message}}})))
    client.service.engine.complete = remote.complete
    reply = await post(client)
    assert message in reply.json()["detail"]
    return reply


@case("bad_request", 422, "bad_request")
async def fixed_without_principles(client):
    return await post(client, {"principles": {"mode": "fixed"}})


@case("unknown_profile", 404, "unknown_profile")
async def unknown_profile(client):
    return await post(client, {"profile": "nobody"})


@case("unknown_principle_set", 404, "unknown_principle_set")
async def unknown_principle_set(client):
    return await post(client, {"principles": {"set": "nothing"}})


@case("unknown_verdict", 404, "unknown_verdict")
async def unknown_verdict(client):
    return await client.get("/v1/verdicts/vd_none")


@case("profile_not_served", 409, "profile_not_served")
async def profile_of_another_model(client):
    return await post(client, {"profile": "deepseek-grm-27b"})


@case("soft_not_served", 422, "soft_not_served")
async def soft_without_logprobs(client):
    client.service.engine.abilities = Abilities(alternatives=False)
    return await post(client, {"score": "soft"})


@case("meta_rm_not_served", 422, "meta_rm_not_served")
async def k_meta_without_a_meta_rm(client):
    return await post(client, {"k_meta": 1})


@case("text_too_long", 422, "text_too_long", max_text_chars=100)
async def long_text(client):
    return await post(client, {"query": "x" * 101})


@case("too_much_text", 422, "too_much_text", max_prompt_chars=1000)
async def long_prompts(client):
    return await post(client, {"query": "x" * 51, "k": 20})


@case("prompt_too_long", 422, "prompt_too_long")
async def prompt_beyond_the_context(client):
    client.service.engine.complete = failing(PromptTooLong(9000, 512, 8192))
    return await post(client)


@case("idempotency_key_reused", 422, "idempotency_key_reused")
async def one_key_for_two_requests(client):
    key = {"Idempotency-Key": "seven"}
    await post(client, headers=key)
    return await post(client, {"seed": 1}, headers=key)


@case("invalid_request", 422, "invalid_request")
async def invalid_field(client):
    return await post(client, {"k": 0})


@case("unreadable_body", 400, "unreadable_body")
async def invalid_gzip(client):
    return await post(client, headers={"Content-Encoding": "gzip"})


@case("too_slow", 408, "too_slow")
async def stalled_body(client):
    async def pieces():
        yield b'{"query":'
        await asyncio.Event().wait()

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(body, "_PATIENCE_S", 0.05)
        return await client.post("/v1/rewards", content=pieces())


@case("too_large", 413, "too_large", max_body_bytes=1024)
async def large_body(client):
    return await post(client, {"query": "x" * 2000})


@case("unsupported_encoding", 415, "unsupported_encoding")
async def unknown_encoding(client):
    return await post(client, headers={"Content-Encoding": "br"})


@case("not_found", 404, "not_found")
async def unknown_path(client):
    return await client.get("/v2/rewards")


@case("method_not_allowed", 405, "method_not_allowed")
async def wrong_method(client):
    return await client.get("/v1/rewards")


@case("unauthorized", 401, "unauthorized", keys=KEYS)
async def missing_key(client):
    return await post(client)


@case("overloaded", 429, "line_full", max_samples=2, max_waiting=1)
async def full_queue(client):
    client.service.engine.complete = never
    waiting = [asyncio.create_task(post(client, {"seed": seed})) for seed in range(2)]
    await until(lambda: client.service.queue.waiting)
    try:
        return await post(client, {"seed": 2})
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


@case("overloaded", 429, "caller_share", keys=KEYS)
async def caller_over_its_limit(client):
    return await post_behind_a_hanging_request(client, {}, KEY)


@case("deadline_exceeded", 504, "shed", max_samples=2)
async def deadline_in_the_queue(client):
    return await post_behind_a_hanging_request(client, {"timeout_s": 0.05})


@case("deadline_exceeded", 504)
async def deadline_before_any_sample(client):
    client.service.engine.complete = never
    return await post(client, {"timeout_s": 0.05})


@case("not_ready", 503, "not_ready")
async def engine_not_ready(client):
    client.service.engine.ready = False
    return await post(client)


@case("draining", 503, "draining")
async def draining_server(client):
    client.service.drain()
    return await post(client)


@case("temporary_storage_full", 503, "temporary_storage_full")
async def full_temporary_folder(client):
    client.app_state.spools._left = 0
    return await post(client, path="/v1/rewards/batch")


@case("audit_unavailable", 503, "audit_unavailable")
async def unwritable_trail(client):
    path = Path(make_url(client.service.trail.store.database.name).database)
    path.rename(path.with_name("moved.db"))
    return await post(client)


@case("read_too_long", 422, "read_too_long")
async def endless_list(client):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "MAX_READ_S", 0.0)
        return await client.get("/v1/verdicts")


@case("audit_broken", 503, "audit_broken")
async def tampered_trail(client):
    path = make_url(client.service.trail.store.database.name).database
    assert (await post(client)).status_code == 200
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE anchors SET seal = 'forged' WHERE name = 'head'")
    connection.close()
    failed = await post(client, {"seed": 1})
    ready = await client.get("/readyz")
    assert (ready.status_code, ready.json()["code"]) == (503, "audit_broken")
    assert "not sealed" in ready.json()["detail"]
    assert "grm_audit_broken 1.0" in (await client.get("/metrics")).text
    return failed


@case("all_unreadable", 502, script="unreadable")
async def unreadable_samples(client):
    return await post(client)


@case("siblings_missing", 503, "siblings_missing")
async def rank_of_a_single_response(client):
    return await client.post(
        "/slime?window_s=0&transform=rank", json={"prompt": "Name a prime.", "response": "11"}
    )


@case("response_unread", 502)
async def response_unread_in_every_sample(client):
    complete = client.service.engine.complete

    async def complete_unless_unspeakable(prompt, params):
        words = prompt.messages[-1].content
        return await (writing("nothing") if "unspeakable" in words else complete)(prompt, params)

    client.service.engine.complete = complete_unless_unspeakable
    return await post(client, {"responses": [*map(str, range(11)), "unspeakable"]})


@case("principles_unreadable", 502)
async def unreadable_principles(client):
    client.service.engine._write = lambda prompt, params: " 1 1 1"
    return await client.post("/v1/principles", json={"query": "q"})


@case("engine_failed", 502)
async def failing_engine(client):
    client.service.engine.complete = failing(EngineError("out of memory"))
    return await post(client)


@case("upstream_refused", 422, "upstream_refused")
async def server_that_refuses(client):
    return await post_to_a_server(client, 400, "unknown field 'seed'")


@case("content_filtered", 422, "content_filtered")
async def content_filter(client):
    return await post_to_a_server(client, 400, "the prompt triggered the content management policy")


@case("upstream_denied", 422, "upstream_denied")
async def refused_key(client):
    return await post_to_a_server(client, 401, "incorrect key")


@case("meta_rm_failed", 502)
async def failing_meta_rm(client):
    guide(client.service, ScriptedMetaRM("out of memory"))
    return await post(client)


@case("engine_unreachable", 502)
async def unreachable_server(client):
    server = await Loopback().open()
    await server.kill()
    gone = RetryingClient(server.url, None, 5, 1)

    async def complete(prompt, params):
        await gone.post("/chat/completions", {})

    client.service.engine.complete = complete
    try:
        return await client.post("/v1/principles", json={"query": "q"})
    finally:
        await gone.close()


@case("policy_failed", 502)
async def failing_policy(client):
    client.service.engine.complete = failing(EngineError("out of memory"))
    return await client.post("/v1/improve", json={"query": "q"})


@case("internal", 500)
async def internal_error(client):
    client.service.engine.complete = None
    return await post(client)


@pytest.fixture
def trail_settings(tmp_path):
    return {"audit_url": f"sqlite:///{tmp_path}/audit.db", "audit_key_file": tmp_path / "audit.key"}


def rejections(client):
    families = text_string_to_metric_families(client.service.metrics.text().decode())
    samples = [sample for family in families for sample in family.samples]
    return {s.labels["reason"]: s.value for s in samples if s.name == "grm_rejected_total"}


def documented_codes():
    """Return the rows of docs/failure-codes.md: code or sample error -> its other cells."""
    rows = re.findall(r"^\| `(\w+)` \| (.+) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(dict(rows)) == len(rows)
    return {name: cells.split(" | ") for name, cells in rows}


@pytest.mark.parametrize(("code", "status", "rejection", "settings", "trigger"), CASES)
async def test_failure_has_code_and_status(serve, trail_settings, code, status, rejection, settings, trigger):
    """No failure has rewards; docs/failure-codes.md agrees on status and retryable."""
    async with serve(**trail_settings | settings) as client:
        reply = await trigger(client)
        assert rejections(client) == ({rejection: 1} if rejection else {})
    problem = reply.json()
    assert (reply.status_code, problem["status"], problem["code"]) == (status, status, code)
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.headers["x-request-id"]
    assert ("retry-after" in reply.headers) == (status in (429, 503))
    assert problem["detail"]
    assert set(problem.get("rewards", [])) <= {None}
    assert documented_codes()[code][:2] == [str(status), "yes" if problem["retryable"] else "no"]


def family(error):
    return {error}.union(*map(family, error.__subclasses__()))


def codes():
    """Every code that the sources name."""
    kinds = re.findall(r'_lookup\(self\.\w+, "([a-z ]+)"', sources())
    return (
        {error.code for error in family(GRMError)}
        | {"unknown_" + kind.replace(" ", "_") for kind in kinds}
        | set(re.findall(r'\bproblem\(\s*\d+,\s*"(\w+)"', sources()))
        | problems._STATUS.keys()
        | set(problems._CODES.values())
    )


def test_every_code_is_covered_and_documented():
    covered = {case.values[0] for case in CASES}
    assert codes() - NOT_OVER_HTTP.keys() == covered
    assert documented_codes().keys() == covered | SAMPLE_ERRORS.keys()
