"""The store of the trail: appending to the chain, and queries."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, Select, exists, func, insert, select, update

from grm_service.audit.database import Database
from grm_service.audit.entry import Entry, record_hash
from grm_service.audit.schema import anchors, records
from grm_service.audit.seal import SealKey, load_key
from grm_service.errors import AuditUnavailable

GENESIS = "sha256:" + "0" * 64
"""The hash before the first record."""


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


class Store:
    """The database of the trail and its seal. Each method is one transaction. Thread-safe.

    Methods raise AuditUnavailable if the database fails.
    """

    def __init__(self, url: str, key_file: Path) -> None:
        self.database = Database(url)
        self._key_file = key_file
        self._key: SealKey

    def open(self) -> None:
        """Create or migrate the tables. Raises AuditUnavailable if the trail is sealed with another key."""
        try:
            self._key = load_key(self._key_file)
            self.database.make_folder()
            with self.database.writing() as connection:
                self.database.migrate(connection)
                self._ensure_anchors(connection)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self.database.close()

    def _ensure_anchors(self, connection: Connection) -> None:
        if connection.execute(select(anchors)).first() is None:
            seals = {name: self._key.seal(name, 0, GENESIS) for name in ("base", "head")}
            rows = [{"name": name, "seq": 0, "hash": GENESIS, "seal": seals[name]} for name in seals]
            connection.execute(insert(anchors), rows)
        if not self._key.is_key_of(self.anchor(connection, "head").seal):
            raise AuditUnavailable(
                f"the audit trail in {self.database.name} is sealed with another key than {self._key.path}: "
                "set GRM_AUDIT_KEY_FILE to that key, or start a new trail with GRM_AUDIT_URL"
            )

    def append(self, entries: Sequence[Entry]) -> None:
        """Append entries to the chain, all or none. An empty list checks that the database is writable."""
        with self.database.writing() as connection:
            self.add(connection, entries)

    def add(self, connection: Connection, entries: Sequence[Entry]) -> None:
        """Append entries within an open transaction."""
        # The locked head serializes writers of several replicas, so that seq has no gaps or duplicates.
        head = self.anchor(connection, "head")
        seq, last, rows = head.seq, head.hash, []
        for entry in entries:
            seq, last = seq + 1, record_hash(last, seq + 1, entry.body)
            rows.append({"seq": seq, "hash": last, **asdict(entry)})
        if rows:
            connection.execute(insert(records), rows)
        self.move(connection, "head", seq, last)

    def anchor(self, connection: Connection, name: str) -> Row[Any]:
        """Return an anchor and lock it against other writers (on SQLite, the transaction already does)."""
        return connection.execute(select(anchors).where(anchors.c.name == name).with_for_update()).one()

    def move(self, connection: Connection, name: str, seq: int, last: str) -> None:
        """Move an anchor and seal it again."""
        statement = update(anchors).where(anchors.c.name == name)
        connection.execute(statement.values(seq=seq, hash=last, seal=self._key.seal(name, seq, last)))

    def anchors(self, connection: Connection) -> tuple[Row[Any], Row[Any]]:
        """Return the anchors `base` and `head`. Raises AuditUnavailable if one is missing."""
        by_name = {row.name: row for row in connection.execute(select(anchors))}
        if by_name.keys() != {"base", "head"}:
            raise AuditUnavailable(f"the audit trail in {self.database.name} has lost its anchors")
        return by_name["base"], by_name["head"]

    def is_sealed(self, anchor: Row[Any]) -> bool:
        """Return whether the anchor is sealed with our key."""
        return str(anchor.seal) == self._key.seal(anchor.name, anchor.seq, anchor.hash)

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
        with self.database.reading() as connection:
            for row in _stream(connection, query):
                yield row.review, row.verdict

    def all(self) -> Iterator[Row[Any]]:
        """Yield every record in the order of the chain."""
        with self.database.reading() as connection:
            yield from self.rows(connection)

    def rows(self, connection: Connection) -> Generator[Row[Any]]:
        """Yield every record in the order of the chain, as the transaction sees it, in batches."""
        return _stream(connection, select(records).order_by(records.c.seq))

    def _list(self, query: Select[Any]) -> list[Row[Any]]:
        with self.database.reading() as connection:
            return list(connection.execute(query))


def _stream(connection: Connection, query: Select[Any]) -> Generator[Row[Any]]:
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
