"""Limits on reads, on both databases."""

import threading

import pytest

from grm_service.audit import entry
from grm_service.audit.queries import Queries, Search
from grm_service.audit.read_limit import ReadLimit
from grm_service.errors import ReadTooLong
from tests.audit.records import record

ENDLESS = {
    "sqlite": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n",
    "postgresql": "SELECT pg_sleep(60)",
}


def read_endlessly(store, started=None):
    with store.database.reading() as connection:
        if started is not None:
            started.set()
        connection.exec_driver_sql(ENDLESS[connection.dialect.name])


def test_long_statement_is_ended(store):
    with pytest.raises(ReadTooLong, match="narrow it with profile"):
        ReadLimit(0.2).run(lambda: read_endlessly(store))
    assert ReadLimit(60).run(lambda: Queries(store.database).verdicts(Search())) == []


def test_statement_can_be_stopped(store):
    limit, started = ReadLimit(60), threading.Event()
    stopping = threading.Thread(target=lambda: (started.wait(), stop_repeatedly(limit)))
    stopping.start()
    with pytest.raises(ReadTooLong):
        limit.run(lambda: read_endlessly(store, started))
    stopping.join()


def stop_repeatedly(limit):
    # The first stop may come before the statement has reached the server.
    for _ in range(3):
        limit.stop()
        threading.Event().wait(0.2)


def test_limit_holds_between_rows(store):
    store.append([entry.from_record(record(i)) for i in range(3)])
    limit = ReadLimit(60)

    def read():
        bodies = Queries(store.database).bodies(Search())
        next(bodies)
        limit.stop()
        next(bodies)

    with pytest.raises(ReadTooLong):
        limit.run(read)


def test_reads_without_a_limit_are_unlimited(store):
    store.append([entry.from_record(record(1))])
    with pytest.raises(ReadTooLong):
        ReadLimit(0).run(lambda: list(Queries(store.database).bodies(Search())))
    assert len(list(Queries(store.database).bodies(Search()))) == 1
