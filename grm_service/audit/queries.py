"""Queries of the trail's records: verdicts, the review queue, reviews."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, Select, exists, func, select

from grm_service.audit import read_limit
from grm_service.audit.database import Database
from grm_service.audit.schema import records

_AT_ONCE = 2
"""Records in memory at once: each may have several MiB."""
_POSITION = {"sqlite": func.instr, "postgresql": func.strpos}
"""The position of a text in another: in linear time for most, where LIKE may need their product."""
_verdicts, _reviews = records.alias("verdicts"), records.alias("reviews")


@dataclass(frozen=True, slots=True)
class Search:
    """A filter of verdicts; None matches any. `before` is a seq, `text` a substring of the record's JSON."""

    limit: int = 50
    before: int | None = None
    caller: str | None = None
    profile: str | None = None
    status: str | None = None
    text: str | None = None
    reviewed: bool | None = None
    id: str | None = None


class Queries:
    """Reads of a trail. Each method is one transaction, within the limits of read_limit.py. Thread-safe.

    Methods raise AuditUnavailable if the database fails, and ReadTooLong.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def verdicts(self, search: Search) -> list[Row[Any]]:
        """Return verdicts without their bodies, newest first, each with the number of its `reviews`."""
        with self._database.reading() as connection:
            return list(connection.execute(_list(connection, search).order_by(records.c.seq.desc())))

    def queue(self, search: Search) -> list[Row[Any]]:
        """Return verdicts, like `verdicts`, that have reasons for a review, the highest `worth` first."""
        with self._database.reading() as connection:
            query = _list(connection, search).where(records.c.worth > 0)
            return list(connection.execute(query.order_by(records.c.worth.desc(), records.c.seq.desc())))

    def bodies(self, search: Search) -> Generator[Row[Any]]:
        """Yield seq, hash and body of verdicts, newest first."""
        with self._database.reading() as connection:
            query = select(records.c.seq, records.c.hash, records.c.body)
            yield from stream(connection, _filtered(connection, query, search).order_by(records.c.seq.desc()))

    def body(self, seq: int) -> str | None:
        """Return the body of one record; None if retention removed it."""
        with self._database.reading() as connection:
            return connection.execute(select(records.c.body).where(records.c.seq == seq)).scalar()

    def reviews(self, verdict: str) -> list[str]:
        """Return the bodies of a verdict's reviews, oldest first."""
        query = select(records.c.body).where(records.c.kind == "review", records.c.subject == verdict)
        with self._database.reading() as connection:
            return list(connection.execute(query.order_by(records.c.seq)).scalars())

    def all_reviews(self) -> Iterator[tuple[str, str]]:
        """Yield each review's body with the caller of its verdict, oldest first.

        If retention removed the verdict, the caller is the review's own.
        """
        owner = func.coalesce(_verdicts.c.caller, _reviews.c.caller)
        joined = _reviews.outerjoin(_verdicts, _reviews.c.subject == _verdicts.c.id)
        query = select(_reviews.c.body, owner.label("owner")).select_from(joined)
        with self._database.reading() as connection:
            for row in stream(connection, query.where(_reviews.c.kind == "review").order_by(_reviews.c.seq)):
                yield row.body, row.owner

    def reviewed(self, search: Search) -> Iterator[Row[Any]]:
        """Yield each review's `body` with the `profile` and `summary` of its verdict, oldest first.

        Filters by caller and profile. Skips reviews whose verdict was removed by retention.
        """
        columns = _reviews.c.body, _verdicts.c.profile, _verdicts.c.summary
        with self._database.reading() as connection:
            yield from stream(connection, _of_reviews(select(*columns), search).order_by(_reviews.c.seq))

    def last_reviews(self, search: Search) -> list[tuple[int, int]]:
        """Return the seqs of the last review of each verdict and of that verdict, the oldest review first."""
        last = func.max(_reviews.c.seq)
        query = _of_reviews(select(last, _verdicts.c.seq), search).group_by(_verdicts.c.seq).order_by(last)
        with self._database.reading() as connection:
            return [(review, verdict) for review, verdict in connection.execute(query)]


def stream(connection: Connection, query: Select[Any]) -> Generator[Row[Any]]:
    """Yield the rows of a query, a few in memory at once. Raises ReadTooLong."""
    with connection.execute(query, execution_options={"yield_per": _AT_ONCE}) as rows:
        for row in rows:
            read_limit.check()
            yield row


def _of_reviews(query: Select[Any], search: Search) -> Select[Any]:
    """Return the query over reviews, joined with their verdicts of a caller and profile."""
    query = query.select_from(_reviews.join(_verdicts, _reviews.c.subject == _verdicts.c.id))
    query = query.where(_reviews.c.kind == "review")
    for name in ("caller", "profile"):
        if (value := getattr(search, name)) is not None:
            query = query.where(_verdicts.c[name] == value)
    return query


def _list(connection: Connection, search: Search) -> Select[Any]:
    count = select(func.count()).where(_reviews.c.subject == records.c.id).scalar_subquery()
    columns = [column for column in records.c if column.name not in ("body", "hash")]
    return _filtered(connection, select(*columns, count.label("reviews")), search)


def _filtered(connection: Connection, query: Select[Any], search: Search) -> Select[Any]:
    query = query.where(records.c.kind == "verdict").limit(search.limit)
    for name in ("id", "caller", "profile", "status"):
        if (value := getattr(search, name)) is not None:
            query = query.where(records.c[name] == value)
    if search.before is not None:
        query = query.where(records.c.seq < search.before)
    if search.text is not None:
        position = _POSITION[connection.dialect.name]
        query = query.where(position(func.lower(records.c.body), func.lower(search.text)) > 0)
    if search.reviewed is not None:
        has_some = exists().where(_reviews.c.subject == records.c.id)
        query = query.where(has_some if search.reviewed else ~has_some)
    return query
