"""What the service leans on: an acknowledged verdict is in the trail, whatever happens next."""

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
async def kept(url, tmp_path, **settings):
    trail = Trail(Store(url, tmp_path / "key"), **settings)
    await asyncio.to_thread(trail.open)
    try:
        yield trail
    finally:
        await asyncio.to_thread(trail.close)


async def test_what_is_kept_at_once_goes_in_together_and_in_full(url, tmp_path):
    async with kept(url, tmp_path) as trail:
        writes = []
        append = trail.store.append
        trail.store.append = lambda entries: (writes.append(len(entries)), append(entries))
        await asyncio.gather(
            *(trail.append(record(i)) for i in range(200)), trail.append_review(review(1, "vd_1"))
        )
        assert sum(writes) == 201
        assert len(writes) < 50
        assert verify(trail.store).records == 201


async def test_what_was_handed_over_before_the_end_is_written(url, tmp_path):
    async with kept(url, tmp_path) as trail:
        waiting = [asyncio.create_task(trail.append(record(i))) for i in range(50)]
        await asyncio.sleep(0)
    await asyncio.gather(*waiting)
    with contextlib.closing(Store(url, tmp_path / "key")) as store:
        store.open()
        assert verify(store).records == 50


async def test_a_trail_that_cannot_be_written_says_so_and_comes_back_by_itself(tmp_path):
    async with kept(f"sqlite:///{tmp_path}/a.db", tmp_path) as trail:
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


async def test_a_bug_in_writing_does_not_end_the_thread(tmp_path):
    async with kept(f"sqlite:///{tmp_path}/a.db", tmp_path) as trail:
        append = trail.store.append
        trail.store.append = lambda entries: 1 / 0
        with pytest.raises(AuditUnavailable, match="division"):
            await trail.append(record(1))
        trail.store.append = append
        await until(lambda: trail.writable)
        await trail.append(record(1))


async def test_a_bug_in_removing_does_not_end_the_thread(tmp_path, monkeypatch):
    monkeypatch.setattr("grm_service.audit.trail.prune", lambda store, before: 1 / 0)
    async with kept(f"sqlite:///{tmp_path}/a.db", tmp_path, keep_days=1) as trail:
        await trail.append(record(1))
        assert verify(trail.store).records == 1


async def test_old_records_are_removed_at_the_start(url, tmp_path):
    async with kept(url, tmp_path) as trail:
        for days in (40, 35, 5):
            await trail.append(record(days, created=datetime.now(UTC) - timedelta(days)))
    async with kept(url, tmp_path, keep_days=30) as trail:
        await until(lambda: "vd_40" not in {row.id for row in trail.store.all()})
        assert [row.kind for row in trail.store.all()] == ["verdict", "checkpoint"]
        assert verify(trail.store).bad is None


@pytest.mark.parametrize("kills", [8, pytest.param(200, marks=pytest.mark.slow)], ids=["short", "long"])
@pytest.mark.timeout(900)
def test_killed_at_any_time_it_has_all_that_it_acknowledged(url, tmp_path, kills):
    # Forked off a process that has imported everything, so that a life takes no second to begin.
    lives = multiprocessing.get_context("forkserver")
    lives.set_forkserver_preload(["tests.audit.dying"])
    acknowledged, chance = set(), random.Random(0)
    for run in range(kills):
        reader, writer = os.pipe()
        # A descriptor is no value: the child gets it by its name in /proc.
        name = f"/proc/{os.getpid()}/fd/{writer}"
        process = lives.Process(target=_live, args=(url, str(tmp_path / "key"), run, name))
        process.start()
        told = os.read(reader, 2**16)  # from the first acknowledgement on, it may die
        time.sleep(chance.uniform(0, 0.1))
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        os.close(writer)
        while select.select([reader], [], [], 0)[0] and (part := os.read(reader, 2**16)):
            told += part
        os.close(reader)
        acknowledged.update(line for line in told.decode().split("\n")[:-1])
    with contextlib.closing(Store(url, tmp_path / "key")) as store:
        store.open()
        checked = verify(store)
        there = {row.id for row in store.all()}
    print(f"\n{kills} kills: {len(acknowledged)} acknowledged, {checked.records} kept, bad: {checked.bad}")
    assert checked.bad is None
    assert len(acknowledged) > 8 * kills
    assert acknowledged <= there


def _live(url, key_file, run, name):
    dying.keep(url, key_file, run, os.open(name, os.O_WRONLY))
