"""Who may ask: keys by header or in the path, hashed at rest, never shown."""

import asyncio
import logging

import pytest

from grm_service.serving.keys import add, load
from tests.api.test_repeats import gated  # noqa: F401  a fixture
from tests.waiting import until

pytestmark = pytest.mark.anyio
PAIR = {"query": "Name a prime.", "responses": ["11", "12"], "k": 4}


@pytest.fixture
def secrets(tmp_path):
    """Two callers' keys, and the file that knows them."""
    path = tmp_path / "keys.yaml"
    return path, add(path, "first"), add(path, "second", max_requests=1)


def bearer(key):
    return {"Authorization": f"Bearer {key}"}


async def test_a_key_comes_by_header_or_in_the_path(serve, secrets):
    path, key, _ = secrets
    async with serve(keys=load(path)) as client:
        for answer in (
            await client.post("/v1/rewards", json=PAIR, headers=bearer(key)),
            await client.post("/v1/rewards", json=PAIR, headers={"X-API-Key": key}),
            await client.post(f"/t/{key}/v1/rewards", json=PAIR),
            await client.post(f"/t/{key}/v1/rewards/batch", json=[PAIR]),
        ):
            assert answer.status_code == 200, answer.text


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
async def test_without_a_right_one_nothing_is_answered(serve, secrets, path, headers):
    encoded = {name: value.encode("utf-8") for name, value in headers.items()}
    async with serve(keys=load(secrets[0])) as client:
        answer = await client.post(path, json=PAIR, headers=encoded)
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert "wrong" not in answer.text


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/docs", "/redoc", "/openapi.json"])
async def test_probes_and_documentation_need_none(serve, secrets, path):
    async with serve(keys=load(secrets[0])) as client:
        assert (await client.get(path)).status_code == 200


@pytest.mark.parametrize("path", ["/livez/../v1/profiles", "/docs/../v1/profiles", "/livezz"])
async def test_what_only_looks_open_is_not(serve, secrets, path):
    async with serve(keys=load(secrets[0])) as client:
        answer = await client.get(path)
    assert answer.status_code in (401, 404)


async def test_where_there_are_no_keys_one_in_the_path_is_taken_out_all_the_same(serve):
    async with serve() as client:
        assert (await client.post("/t/anything/v1/rewards", json=PAIR)).status_code == 200


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1", "[::1]:8000", "LOCALHOST", ""])
async def test_a_server_without_keys_answers_this_machine(serve, host):
    async with serve(local=True) as client:
        assert (await client.get("/v1/verdicts", headers={"Host": host})).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example:8000", "127.0.0.1.evil.example", "10.0.0.1", "[::1", "localhost@evil"]
)
async def test_a_page_elsewhere_cannot_read_it_by_a_name_of_its_own(serve, host):
    async with serve(local=True) as client:
        answer = await client.get("/v1/verdicts", headers={"Host": host})
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
    assert "GRM_ALLOW_ANYONE" in answer.json()["detail"]


async def test_a_key_is_in_no_log_and_no_answer(serve, secrets, caplog):
    caplog.set_level(logging.DEBUG)
    path, key, _ = secrets
    async with serve(keys=load(path)) as client:
        client.event_hooks = {}
        answers = [await client.get(f"/t/{key}/nowhere"), await client.post(f"/t/{key}/v1/rewards", json={})]
    assert [answer.status_code for answer in answers] == [404, 422]
    assert all(key not in answer.text for answer in answers)
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("grm_service")]
    assert all(key not in message for message in ours)


async def test_callers_do_not_get_each_others_verdicts(serve, secrets):
    path, *keys = secrets
    async with serve(keys=load(path)) as client:
        first, second = [
            (await client.post("/v1/rewards", json=PAIR, headers=bearer(key))).json() for key in keys
        ]
    assert first["id"] != second["id"]
    assert first["rewards"] == second["rewards"]


async def test_a_callers_limit_is_its_own(serve, secrets, gated):  # noqa: F811
    path, free, limited = secrets
    async with serve(keys=load(path)) as client:

        def ask(key, seed):
            return client.post("/v1/rewards", json=PAIR | {"seed": seed}, headers=bearer(key))

        running = asyncio.create_task(ask(limited, 0))
        await until(lambda: gated.asked == 4)
        refused = await ask(limited, 1)
        other = asyncio.create_task(ask(free, 2))
        await until(lambda: gated.asked == 8)
        gated.gate.set()
        assert (refused.status_code, refused.json()["code"]) == (429, "overloaded")
        assert "'second'" in refused.json()["detail"]
        assert [(await each).status_code for each in (running, other)] == [200, 200]


async def test_a_caller_s_usage_is_counted_and_is_its_own(serve, secrets):
    path, first, second = secrets
    async with serve(keys=load(path)) as client:
        for seed in (0, 0, 1):
            await client.post("/v1/rewards", json=PAIR | {"seed": seed}, headers=bearer(first))
        used, none = [(await client.get("/v1/usage", headers=bearer(key))).json() for key in (first, second)]
    assert (used["caller"], used["verdicts"], used["judged"], used["samples"]) == ("first", 3, 2, 8)
    assert used["usage"]["completion_tokens"] > 0
    assert (none["caller"], none["verdicts"]) == ("second", 0)
