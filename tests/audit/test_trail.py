"""An acknowledged verdict is in the trail, whatever happens next."""

import asyncio
import contextlib
import multiprocessing
import os
import random
import select
import signal
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from grm_service.audit.chain import verify
from grm_service.audit.store import Store
from grm_service.audit.trail import Trail
from grm_service.errors import AuditUnavailable
from tests.audit import dying
from tests.audit.records import record, review
from tests.waiting import until

pytestmark = pytest.mark.anyio


@contextlib.asynccontextmanager
async def opened(url, tmp_path, **settings):
    trail = Trail(Store(url, tmp_path / "key"), **settings)
    await asyncio.to_thread(trail.open)
    try:
        yield trail
    finally:
        await asyncio.to_thread(trail.close)


async def test_concurrent_records_are_batched(url, tmp_path):
    async with opened(url, tmp_path) as trail:
        writes = []
        append = trail.store.append
        trail.store.append = lambda entries: (writes.append(len(entries)), append(entries))
        await asyncio.gather(
            *(trail.append(record(i)) for i in range(200)), trail.append_review(review(1, "vd_1"), "")
        )
        assert sum(writes) == 201
        assert len(writes) < 50
        assert verify(trail.store).records == 201


async def test_close_writes_pending_records(url, tmp_path):
    async with opened(url, tmp_path) as trail:
        waiting = [asyncio.create_task(trail.append(record(i))) for i in range(50)]
        await asyncio.sleep(0)
    await asyncio.gather(*waiting)
    with contextlib.closing(Store(url, tmp_path / "key")) as store:
        store.open()
        assert verify(store).records == 50


async def test_trail_recovers_from_write_failures(tmp_path):
    async with opened(f"sqlite:///{tmp_path}/a.db", tmp_path) as trail:
        await trail.append(record(1))
        append, broken = trail.store.append, threading.Event()

        def sometimes(entries):
            if broken.is_set():
                raise AuditUnavailable("database or disk is full")
            append(entries)

        trail.store.append = sometimes
        broken.set()
        with pytest.raises(AuditUnavailable, match="disk is full"):
            await trail.append(record(2))
        assert not trail.writable
        broken.clear()
        await until(lambda: trail.writable)
        await trail.append(record(3))
        assert verify(trail.store).records == 2


async def test_thread_survives_a_write_bug(tmp_path):
    async with opened(f"sqlite:///{tmp_path}/a.db", tmp_path) as trail:
        append = trail.store.append
        trail.store.append = lambda entries: 1 / 0
        with pytest.raises(AuditUnavailable, match="division"):
            await trail.append(record(1))
        trail.store.append = append
        await until(lambda: trail.writable)
        await trail.append(record(1))


async def test_thread_survives_a_prune_bug(tmp_path, monkeypatch):
    monkeypatch.setattr("grm_service.audit.trail.prune_in_steps", lambda store, before: 1 / 0)
    async with opened(f"sqlite:///{tmp_path}/a.db", tmp_path, keep_days=1) as trail:
        await trail.append(record(1))
        assert verify(trail.store).records == 1


async def test_old_records_are_pruned_at_start(url, tmp_path):
    async with opened(url, tmp_path) as trail:
        for days in (40, 35, 5):
            await trail.append(record(days, created=datetime.now(UTC) - timedelta(days)))
    async with opened(url, tmp_path, keep_days=30) as trail:
        await until(lambda: "vd_40" not in {row.id for row in trail.store.all()})
        assert [row.kind for row in trail.store.all()] == ["verdict", "checkpoint"]
        assert verify(trail.store).bad is None


@pytest.mark.parametrize("kills", [8, pytest.param(200, marks=pytest.mark.slow)], ids=["short", "long"])
@pytest.mark.timeout(900)
def test_acknowledged_records_survive_kills(url, tmp_path, kills):
    # Fork from a process with all imports done: a new process would need a second to start.
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["tests.audit.dying"])
    acknowledged, chance = set(), random.Random(0)
    for run in range(kills):
        reader, writer = os.pipe()
        # File descriptors are not inherited by forkserver children: pass a path in /proc.
        name = f"/proc/{os.getpid()}/fd/{writer}"
        process = processes.Process(target=_append_until_killed, args=(url, str(tmp_path / "key"), run, name))
        process.start()
        output = os.read(reader, 2**16)  # kill it at any time after the first acknowledgement
        time.sleep(chance.uniform(0, 0.1))
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        os.close(writer)
        while select.select([reader], [], [], 0)[0] and (part := os.read(reader, 2**16)):
            output += part
        os.close(reader)
        acknowledged.update(line for line in output.decode().split("\n")[:-1])
    with contextlib.closing(Store(url, tmp_path / "key")) as store:
        store.open()
        checked = verify(store)
        stored = {row.id for row in store.all()}
    print(f"\n{kills} kills: {len(acknowledged)} acknowledged, {checked.records} stored, bad: {checked.bad}")
    assert checked.bad is None
    assert len(acknowledged) > 8 * kills
    assert acknowledged <= stored


def _append_until_killed(url, key_file, run, name):
    dying.append_records(url, key_file, run, os.open(name, os.O_WRONLY))
