"""API keys: in a header or in the path, per-caller limits and usage, access without keys."""

import asyncio
import logging

import pytest

from grm_service.api.access import allowed_hosts
from grm_service.serving.keys import Keys, add, load
from tests.waiting import until

pytestmark = pytest.mark.anyio
PAIR = {"query": "Name a prime.", "responses": ["11", "12"], "k": 4}


@pytest.fixture
def key_file(tmp_path):
    """Return a key file and the keys of its two callers; the second may have one request in flight."""
    path = tmp_path / "keys.yaml"
    return path, add(path, "first"), add(path, "second", max_requests=1)


def bearer(key):
    return {"Authorization": f"Bearer {key}"}


async def test_key_in_header_or_path(serve, key_file):
    path, key, _ = key_file
    async with serve(keys=load(path)) as client:
        for reply in (
            await client.post("/v1/rewards", json=PAIR, headers=bearer(key)),
            await client.post("/v1/rewards", json=PAIR, headers={"X-API-Key": key}),
            await client.post(f"/t/{key}/v1/rewards", json=PAIR),
            await client.post(f"/t/{key}/v1/rewards/batch", json=[PAIR]),
        ):
            assert reply.status_code == 200, reply.text


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/v1/rewards", {}),
        ("/v1/rewards", bearer("grm_wrong")),
        ("/v1/rewards", bearer("")),
        ("/v1/rewards", {"Authorization": "Basic Zmlyc3Q6a2V5"}),
        ("/v1/rewards", {"X-API-Key": "é"}),
        ("/t/grm_wrong/v1/rewards", {}),
        ("/t//v1/rewards", {}),
        ("/v1/profiles", {}),
        ("/t/wrong/t/wrong/v1/rewards", {}),
    ],
)
async def test_missing_or_wrong_key_is_401(serve, key_file, path, headers):
    encoded = {name: value.encode("utf-8") for name, value in headers.items()}
    async with serve(keys=load(key_file[0])) as client:
        reply = await client.post(path, json=PAIR, headers=encoded)
    assert (reply.status_code, reply.json()["code"]) == (401, "unauthorized")
    assert reply.headers["www-authenticate"] == "Bearer"
    assert "wrong" not in reply.text


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/docs", "/redoc", "/openapi.json"])
async def test_health_and_docs_need_no_key(serve, key_file, path):
    async with serve(keys=load(key_file[0])) as client:
        assert (await client.get(path)).status_code == 200


@pytest.mark.parametrize("path", ["/livez/../v1/profiles", "/docs/../v1/profiles", "/livezz"])
async def test_similar_paths_need_a_key(serve, key_file, path):
    async with serve(keys=load(key_file[0])) as client:
        reply = await client.get(path)
    assert reply.status_code in (401, 404)


async def test_path_key_is_stripped_without_keys(serve):
    async with serve() as client:
        assert (await client.post("/t/anything/v1/rewards", json=PAIR)).status_code == 200


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1", "[::1]:8000", "LOCALHOST", ""])
async def test_without_keys_localhost_is_served(serve, host):
    async with serve(hosts=()) as client:
        assert (await client.get("/v1/verdicts", headers={"Host": host})).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example:8000", "127.0.0.1.evil.example", "10.0.0.1", "[::1", "localhost@evil"]
)
async def test_dns_rebinding_is_refused(serve, host):
    """A web page elsewhere could point its own host name at this machine."""
    async with serve(hosts=()) as client:
        reply = await client.get("/v1/verdicts", headers={"Host": host})
    assert (reply.status_code, reply.json()["code"]) == (401, "unauthorized")
    assert "GRM_ALLOWED_HOSTS" in reply.json()["detail"]


@pytest.mark.parametrize(("setting", "status"), [("a, Judge.example", 200), ("*", 200), ("example", 401)])
async def test_allowed_hosts_are_answered(serve, setting, status):
    async with serve(hosts=allowed_hosts(None, setting)) as client:
        reply = await client.get("/v1/verdicts", headers={"Host": "judge.EXAMPLE:8000"})
    assert reply.status_code == status


async def test_health_checks_may_use_any_host(serve):
    async with serve(hosts=()) as client:
        for path, status in {"/livez": 200, "/readyz": 200, "/": 401, "/metrics": 401}.items():
            assert (await client.get(path, headers={"Host": "10.1.2.3:8000"})).status_code == status


def test_keys_lift_the_check_of_hosts():
    assert allowed_hosts(Keys(), "") is None


async def test_keys_are_not_logged_or_returned(serve, key_file, caplog):
    caplog.set_level(logging.DEBUG)
    path, key, _ = key_file
    async with serve(keys=load(path)) as client:
        client.event_hooks = {}
        replies = [await client.get(f"/t/{key}/nowhere"), await client.post(f"/t/{key}/v1/rewards", json={})]
    assert [reply.status_code for reply in replies] == [404, 422]
    assert all(key not in reply.text for reply in replies)
    messages = [record.getMessage() for record in caplog.records if record.name.startswith("grm_service")]
    assert all(key not in message for message in messages)


async def test_callers_do_not_share_verdicts(serve, key_file):
    path, *keys = key_file
    async with serve(keys=load(path)) as client:
        first, second = [
            (await client.post("/v1/rewards", json=PAIR, headers=bearer(key))).json() for key in keys
        ]
    assert first["id"] != second["id"]
    assert first["rewards"] == second["rewards"]


async def test_limits_are_per_caller(serve, key_file, gated_engine):
    path, free, limited = key_file
    async with serve(keys=load(path)) as client:

        def post(key, seed):
            return client.post("/v1/rewards", json=PAIR | {"seed": seed}, headers=bearer(key))

        running = asyncio.create_task(post(limited, 0))
        await until(lambda: gated_engine.calls == 4)
        refused = await post(limited, 1)
        other = asyncio.create_task(post(free, 2))
        await until(lambda: gated_engine.calls == 8)
        gated_engine.gate.set()
        assert (refused.status_code, refused.json()["code"]) == (429, "overloaded")
        assert "'second'" in refused.json()["detail"]
        assert [(await task).status_code for task in (running, other)] == [200, 200]


async def test_usage_is_per_caller(serve, key_file):
    path, first, second = key_file
    async with serve(keys=load(path)) as client:
        for seed in (0, 0, 1):
            await client.post("/v1/rewards", json=PAIR | {"seed": seed}, headers=bearer(first))
        usage, other_usage = [
            (await client.get("/v1/usage", headers=bearer(key))).json() for key in (first, second)
        ]
    assert (usage["caller"], usage["verdicts"], usage["judged"], usage["samples"]) == ("first", 3, 2, 8)
    assert usage["usage"]["completion_tokens"] > 0
    assert (other_usage["caller"], other_usage["verdicts"]) == ("second", 0)
