"""A full disk under the audit trail: no verdict that is not in it, and the service comes back by itself."""

import asyncio
import contextlib
import json
import resource

import httpx
import psutil
import pytest

from grm_service.audit.chain import verify
from grm_service.audit.store import Store
from tests.faults.test_faults import body, expected, served
from tests.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]


async def test_a_full_disk_stops_the_verdicts_and_what_was_given_is_there(tmp_path, monkeypatch):
    (right,) = await expected(["q 100"])
    url, key = f"sqlite:///{tmp_path}/audit.db", tmp_path / "audit.key"
    monkeypatch.setenv("GRM_AUDIT_URL", url)
    monkeypatch.setenv("GRM_AUDIT_KEY_FILE", str(key))
    given = []
    with served() as (address, process):
        async with httpx.AsyncClient(base_url=address, timeout=60) as client:

            async def ask(i):
                answer = await client.post("/v1/rewards", json=body(f"q {i}"))
                if answer.status_code == 200:
                    given.append(answer.json())
                return answer

            async def ready():
                return (await client.get("/readyz")).status_code == 200

            for i in range(5):
                assert (await ask(i)).status_code == 200
            server = psutil.Process(process.pid)
            _, most = server.rlimit(psutil.RLIMIT_FSIZE)
            log = (tmp_path / "audit.db-wal").stat().st_size
            server.rlimit(psutil.RLIMIT_FSIZE, (log + 100, most))  # as if nothing more went onto the disk
            refused = await asyncio.gather(*(ask(i) for i in range(100, 130)))
            assert {(a.status_code, a.json()["code"]) for a in refused} == {(503, "audit_unavailable")}
            assert not await ready()
            assert (await client.get("/livez")).status_code == 200
            server.rlimit(psutil.RLIMIT_FSIZE, (resource.RLIM_INFINITY, most))
            async with asyncio.timeout(20):
                while not await ready():
                    await asyncio.sleep(0.05)
            assert tuple((await ask(100)).json()["rewards"]) == right
    with contextlib.closing(Store(url, key)) as store:
        store.open()
        assert verify(store).bad is None
        assert {row.id for row in store.all()} == {reply["id"] for reply in given}
        assert len(given) == 6


async def test_a_server_killed_under_load_has_every_verdict_that_it_gave(tmp_path, monkeypatch):
    url, key = f"sqlite:///{tmp_path}/audit.db", tmp_path / "audit.key"
    monkeypatch.setenv("GRM_AUDIT_URL", url)
    monkeypatch.setenv("GRM_AUDIT_KEY_FILE", str(key))
    given = []
    with served("--delay", "0.01") as (address, process):
        async with httpx.AsyncClient(base_url=address, timeout=60) as client:

            async def caller(name):
                with contextlib.suppress(httpx.HTTPError):
                    for i in range(10_000):
                        answer = await client.post("/v1/rewards", json=body(f"q {name} {i}"))
                        given.append(json.loads(answer.text)["id"])

            callers = [asyncio.create_task(caller(name)) for name in range(8)]
            await until(lambda: len(given) > 50)
            process.kill()
            await asyncio.to_thread(process.wait)
            await asyncio.gather(*callers)
    with contextlib.closing(Store(url, key)) as store:
        store.open()
        assert verify(store).bad is None
        assert set(given) <= {row.id for row in store.all()}
