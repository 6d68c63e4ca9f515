"""Trails of earlier versions."""

import contextlib
import logging

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import insert, select

from grm_service.audit import entry
from grm_service.audit.chain import verify
from grm_service.audit.queries import Queries, Search
from grm_service.audit.schema import anchors, records
from grm_service.audit.store import Store
from grm_service.audit.summary import read_summary
from grm_service.errors import AuditUnavailable
from tests.audit.records import record, review

FIRST = ["seq", "id", "kind", "subject", "created", "caller", "profile", "status", "worth", "body", "hash"]


def migrate(store, revision):
    logging.getLogger("alembic").setLevel(logging.WARNING)
    with store.database.writing() as connection:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", "grm_service.audit:migrations")
        command.upgrade(config, revision)


def test_first_trails_get_summaries(store, url, tmp_path):
    store.append([entry.from_record(record(i)) for i in range(40)] + [entry.from_review(review(1, "vd_3"))])
    with store.database.writing() as connection:
        chain = [{name: getattr(row, name) for name in FIRST} for row in store.rows(connection)]
        ends = [dict(row._mapping) for row in connection.execute(select(anchors))]
        for table in ("records", "anchors", "alembic_version"):
            connection.exec_driver_sql(f"DROP TABLE {table}")
    migrate(store, "0001")
    with store.database.writing() as connection:
        connection.execute(insert(records), chain)
        connection.execute(insert(anchors), ends)
    with (
        contextlib.closing(Store(url, tmp_path / "audit.key")) as old,
        pytest.raises(AuditUnavailable, match=r"version 0001, .* start its service once"),
    ):
        old.open_to_read()
    with contextlib.closing(Store(url, tmp_path / "audit.key")) as migrated:
        migrated.open()
        listed = Queries(migrated.database).verdicts(Search(limit=50))
        assert verify(migrated).bad is None
    questions = [read_summary(row.summary).query for row in listed]
    assert questions == [f"Question {i}?" for i in range(39, -1, -1)]
