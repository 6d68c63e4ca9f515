"""Queries of the trail's records: verdicts, the review queue, reviews."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, Select, exists, func, select

from grm_service.audit.database import Database
from grm_service.audit.schema import records


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


class Queries:
    """Reads of a trail. Each method is one transaction. Thread-safe.

    Methods raise AuditUnavailable if the database fails.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, id_: str) -> Row[Any] | None:
        """Return the record with an id, or None."""
        rows = self._list(select(records).where(records.c.id == id_))
        return rows[0] if rows else None

    def verdicts(self, search: Search) -> list[Row[Any]]:
        """Return verdicts, newest first, each with the number of its reviews (column `reviews`)."""
        return self._list(_select_verdicts(search).order_by(records.c.seq.desc()))

    def queue(self, search: Search) -> list[Row[Any]]:
        """Return verdicts that have reasons for a review, the highest `worth` first."""
        query = _select_verdicts(search).where(records.c.worth > 0)
        return self._list(query.order_by(records.c.worth.desc(), records.c.seq.desc()))

    def reviews(self, verdict: str | None = None) -> list[Row[Any]]:
        """Return the reviews of one verdict, or all reviews, oldest first."""
        query = select(records).where(records.c.kind == "review").order_by(records.c.seq)
        return self._list(query if verdict is None else query.where(records.c.subject == verdict))

    def reviewed(self, search: Search) -> Iterator[tuple[str, str]]:
        """Yield the bodies of each review and of its verdict, oldest review first.

        Filters by caller and profile. Skips reviews whose verdict was removed by retention.
        """
        verdicts = records.alias("verdicts")
        joined = records.join(verdicts, records.c.subject == verdicts.c.id)
        both = records.c.body.label("review"), verdicts.c.body.label("verdict")
        query = select(*both).select_from(joined).order_by(records.c.seq)
        for name in ("caller", "profile"):
            if (value := getattr(search, name)) is not None:
                query = query.where(verdicts.c[name] == value)
        with self._database.reading() as connection:
            for row in stream(connection, query):
                yield row.review, row.verdict

    def _list(self, query: Select[Any]) -> list[Row[Any]]:
        with self._database.reading() as connection:
            return list(connection.execute(query))


def stream(connection: Connection, query: Select[Any]) -> Generator[Row[Any]]:
    """Yield the rows of a query, read in batches."""
    with connection.execution_options(yield_per=500).execute(query) as rows:
        yield from rows


def _select_verdicts(search: Search) -> Select[Any]:
    reviews = records.alias("reviews")
    count = select(func.count()).where(reviews.c.subject == records.c.id).scalar_subquery()
    query = select(records, count.label("reviews")).where(records.c.kind == "verdict").limit(search.limit)
    for name in ("caller", "profile", "status"):
        if (value := getattr(search, name)) is not None:
            query = query.where(records.c[name] == value)
    if search.before is not None:
        query = query.where(records.c.seq < search.before)
    if search.text is not None:
        query = query.where(records.c.body.icontains(search.text, autoescape=True))
    if search.reviewed is not None:
        has_some = exists().where(reviews.c.subject == records.c.id)
        query = query.where(has_some if search.reviewed else ~has_some)
    return query
