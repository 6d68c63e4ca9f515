"""A verdict is in the file at the trail's path, or it is not given out; a break is an alarm."""

import asyncio
import contextlib
import shutil
import sqlite3

import pytest
from sqlalchemy import delete

from grm_service.audit.chain import verify
from grm_service.audit.schema import records
from grm_service.audit.store import Store
from grm_service.audit.trail import Trail
from grm_service.errors import AuditBroken, AuditUnavailable
from tests.audit.records import record, review
from tests.waiting import until

pytestmark = pytest.mark.anyio


@contextlib.asynccontextmanager
async def opened(tmp_path, **settings):
    trail = Trail(Store(f"sqlite:///{tmp_path}/a.db", tmp_path / "key"), **settings)
    await asyncio.to_thread(trail.open)
    try:
        yield trail
    finally:
        await asyncio.to_thread(trail.close)


def move_wal_into(file):
    with contextlib.closing(sqlite3.connect(file)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")


async def test_moved_file_is_noticed(tmp_path):
    file = tmp_path / "a.db"
    async with opened(tmp_path) as trail:
        await trail.append(record(1))
        file.rename(tmp_path / "moved.db")
        with pytest.raises(AuditUnavailable, match="gone or was replaced"):
            trail.require_writable()
        with pytest.raises(AuditUnavailable, match="gone or was replaced"):
            await trail.append(record(2))
        assert not file.exists()
        (tmp_path / "moved.db").rename(file)
        await until(lambda: trail.writable)
        await trail.append(record(3))
        assert [row.id for row in trail.store.all()] == ["vd_1", "vd_3"]
        assert verify(trail.store).bad is None


async def test_file_moved_during_a_write_is_noticed(tmp_path):
    async with opened(tmp_path) as trail:
        add = trail.store.add

        def moved(*args):
            (tmp_path / "a.db").rename(tmp_path / "moved.db")
            return add(*args)

        trail.store.add = moved
        with pytest.raises(AuditUnavailable, match="gone or was replaced"):
            await trail.append(record(1))


@pytest.mark.parametrize("older", [False, True])
async def test_replaced_file_must_have_the_head(tmp_path, older):
    file, copy = tmp_path / "a.db", tmp_path / "copy.db"
    async with opened(tmp_path) as trail:
        await trail.append(record(1))
        move_wal_into(file)
        shutil.copy(file, copy)
        if older:
            await trail.append(record(2))
            move_wal_into(file)
        for path in tmp_path.glob("a.db*"):
            path.unlink()
        shutil.copy(copy, file)
        if older:
            await until(lambda: trail.broken)
            with pytest.raises(AuditBroken, match="had records up to 2"):
                await trail.append(record(3))
        else:
            await until(lambda: trail.writable)
            await trail.append(record(3))
            assert [row.id for row in trail.store.all()] == ["vd_1", "vd_3"]


async def test_removed_log_is_noticed(tmp_path):
    async with opened(tmp_path) as trail:
        await trail.append(record(1))
        (tmp_path / "a.db-wal").unlink()
        with pytest.raises(AuditUnavailable, match="gone or was replaced"):
            trail.require_writable()
        await trail.append(record(2))
        with contextlib.closing(Store(f"sqlite:///{tmp_path}/a.db", tmp_path / "key")) as reader:
            reader.open_to_read()
            assert verify(reader).head == 2


async def test_removed_file_is_not_created_again(tmp_path):
    async with opened(tmp_path) as trail:
        await trail.append(record(1))
        for path in tmp_path.glob("a.db*"):
            path.unlink()
        with pytest.raises(AuditUnavailable):
            await trail.append(record(2))
        assert not (tmp_path / "a.db").exists()


async def test_broken_trail_is_reported_once(tmp_path, caplog):
    async with opened(tmp_path) as trail:
        await trail.append(record(1))
        with trail.store.database.writing() as connection:
            connection.execute(delete(records))
        for number in range(3):
            with pytest.raises(AuditBroken):
                await trail.append(record(number))
        with pytest.raises(AuditBroken, match="grm audit restart"):
            trail.require_writable()
    assert sum("is broken" in line.getMessage() for line in caplog.records) == 1


async def test_broken_trail_opens_to_be_read(tmp_path):
    async with opened(tmp_path) as trail:
        for number in range(3):
            await trail.append(record(number))
    with trail.store.database.writing() as connection:
        connection.execute(delete(records).where(records.c.seq == 3))
    async with opened(tmp_path) as trail:
        assert trail.broken
        assert len(list(trail.store.all())) == 2
        with pytest.raises(AuditBroken):
            await trail.append(record(4))


async def test_unreadable_review_is_a_break(tmp_path):
    async with opened(tmp_path) as trail:
        await trail.append_review(review(1, "vd_1"), "ann")
        for number in range(101):
            await trail.append(record(number))
        with trail.store.database.writing() as connection:
            connection.execute(records.update().where(records.c.seq == 1).values(body="{}"))
    async with opened(tmp_path) as trail:
        assert trail.broken


async def test_prune_of_a_forged_trail_is_a_break(tmp_path):
    async with opened(tmp_path) as trail:
        for number in range(200):
            await trail.append(record(number))
        with trail.store.database.writing() as connection:
            connection.execute(records.update().where(records.c.seq == 2).values(caller="forged"))
    async with opened(tmp_path, keep_days=0.0) as trail:
        await until(lambda: trail.broken)
        assert len(list(trail.store.all())) == 200
