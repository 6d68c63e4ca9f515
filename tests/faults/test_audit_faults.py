"""Audit trail faults: verdicts stop on a full disk, and none is lost when the server is killed."""

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
from tests.waiting import HANG_S, until

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]


async def test_full_disk_stops_verdicts(tmp_path, monkeypatch):
    """No verdict is returned unless it is stored; the server recovers by itself."""
    (right,) = await expected(["q 100"])
    url, key = f"sqlite:///{tmp_path}/audit.db", tmp_path / "audit.key"
    monkeypatch.setenv("GRM_AUDIT_URL", url)
    monkeypatch.setenv("GRM_AUDIT_KEY_FILE", str(key))
    replies = []
    with served() as (address, process):
        async with httpx.AsyncClient(base_url=address, timeout=60) as client:

            async def judge(i):
                answer = await client.post("/v1/rewards", json=body(f"q {i}"))
                if answer.status_code == 200:
                    replies.append(answer.json())
                return answer

            async def ready():
                return (await client.get("/readyz")).status_code == 200

            for i in range(5):
                assert (await judge(i)).status_code == 200
            server = psutil.Process(process.pid)
            _, hard_limit = server.rlimit(psutil.RLIMIT_FSIZE)
            wal_size = (tmp_path / "audit.db-wal").stat().st_size
            server.rlimit(psutil.RLIMIT_FSIZE, (wal_size + 100, hard_limit))  # as if the disk were full
            rejected = await asyncio.gather(*(judge(i) for i in range(100, 130)))
            assert {(a.status_code, a.json()["code"]) for a in rejected} == {(503, "audit_unavailable")}
            assert not await ready()
            assert (await client.get("/livez")).status_code == 200
            server.rlimit(psutil.RLIMIT_FSIZE, (resource.RLIM_INFINITY, hard_limit))
            async with asyncio.timeout(HANG_S):
                while not await ready():
                    await asyncio.sleep(0.05)
            assert tuple((await judge(100)).json()["rewards"]) == right
    with contextlib.closing(Store(url, key)) as store:
        store.open()
        assert verify(store).bad is None
        assert {row.id for row in store.all()} == {reply["id"] for reply in replies}
        assert len(replies) == 6


async def test_kill_loses_no_verdict(tmp_path, monkeypatch):
    """Every verdict that was returned is in the trail."""
    url, key = f"sqlite:///{tmp_path}/audit.db", tmp_path / "audit.key"
    monkeypatch.setenv("GRM_AUDIT_URL", url)
    monkeypatch.setenv("GRM_AUDIT_KEY_FILE", str(key))
    verdict_ids = []
    with served("--delay", "0.01") as (address, process):
        async with httpx.AsyncClient(base_url=address, timeout=60) as client:

            async def caller(name):
                with contextlib.suppress(httpx.HTTPError):
                    for i in range(10_000):
                        answer = await client.post("/v1/rewards", json=body(f"q {name} {i}"))
                        verdict_ids.append(json.loads(answer.text)["id"])

            callers = [asyncio.create_task(caller(name)) for name in range(8)]
            await until(lambda: len(verdict_ids) > 50)
            process.kill()
            await asyncio.to_thread(process.wait)
            await asyncio.gather(*callers)
    with contextlib.closing(Store(url, key)) as store:
        store.open()
        assert verify(store).bad is None
        assert set(verdict_ids) <= {row.id for row in store.all()}
