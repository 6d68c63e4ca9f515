"""The trail: what is appended to it and how it is read."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, Select, exists, func, insert, select, update

from grm_service.audit.database import Database
from grm_service.audit.entry import Entry, link
from grm_service.audit.schema import anchors, records
from grm_service.audit.seal import SealKey, key_of
from grm_service.errors import AuditUnavailable

NOTHING = "sha256:" + "0" * 64
"""The hash before the first record of all."""


@dataclass(frozen=True, slots=True)
class Search:
    """Which verdicts; None: any. `before` is a seq, `text` may stand anywhere in the record."""

    limit: int = 50
    before: int | None = None
    caller: str | None = None
    profile: str | None = None
    status: str | None = None
    text: str | None = None
    reviewed: bool | None = None


class Store:
    """Every method is one transaction and may raise AuditUnavailable; for several threads."""

    def __init__(self, url: str, key_file: Path) -> None:
        self.database = Database(url)
        self._key_file = key_file
        self._key: SealKey

    def open(self) -> None:
        """Makes or migrates the tables. Raises AuditUnavailable where another key sealed what is there."""
        try:
            self._key = key_of(self._key_file)
            self.database.make_folder()
            with self.database.writing() as connection:
                self.database.migrate(connection)
                self._anchor(connection)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self.database.close()

    def _anchor(self, connection: Connection) -> None:
        if connection.execute(select(anchors)).first() is None:
            seals = {name: self._key.seal(name, 0, NOTHING) for name in ("base", "head")}
            rows = [{"name": name, "seq": 0, "hash": NOTHING, "seal": seals[name]} for name in seals]
            connection.execute(insert(anchors), rows)
        if not self._key.made(self.anchor(connection, "head").seal):
            raise AuditUnavailable(
                f"the audit trail in {self.database.name} is sealed with another key than {self._key.path}: "
                "give that one (GRM_AUDIT_KEY_FILE), or begin another trail (GRM_AUDIT_URL)"
            )

    def append(self, entries: Sequence[Entry]) -> None:
        """Adds entries to the chain, all or none; none at all shows that it could be written."""
        with self.database.writing() as connection:
            self.add(connection, entries)

    def add(self, connection: Connection, entries: Sequence[Entry]) -> None:
        """Adds entries in a transaction that has begun."""
        head = self.anchor(connection, "head")
        seq, last, rows = head.seq, head.hash, []
        for entry in entries:
            seq, last = seq + 1, link(last, seq + 1, entry.body)
            rows.append({"seq": seq, "hash": last, **asdict(entry)})
        if rows:
            connection.execute(insert(records), rows)
        self.move(connection, "head", seq, last)

    def anchor(self, connection: Connection, name: str) -> Row[Any]:
        """An anchor; other writers wait from here on (SQLite made them wait before)."""
        return connection.execute(select(anchors).where(anchors.c.name == name).with_for_update()).one()

    def move(self, connection: Connection, name: str, seq: int, last: str) -> None:
        """Moves an anchor and seals it anew."""
        moved = update(anchors).where(anchors.c.name == name)
        connection.execute(moved.values(seq=seq, hash=last, seal=self._key.seal(name, seq, last)))

    def anchors(self, connection: Connection) -> tuple[Row[Any], Row[Any]]:
        """What stood before the first record that is left, and the last record."""
        found = {row.name: row for row in connection.execute(select(anchors))}
        if found.keys() != {"base", "head"}:
            raise AuditUnavailable(f"the audit trail in {self.database.name} has lost its anchors")
        return found["base"], found["head"]

    def sealed(self, anchor: Row[Any]) -> bool:
        """Whether our key sealed the anchor as it stands."""
        return str(anchor.seal) == self._key.seal(anchor.name, anchor.seq, anchor.hash)

    def find(self, id_: str) -> Row[Any] | None:
        """The record of an id."""
        found = self._list(select(records).where(records.c.id == id_))
        return found[0] if found else None

    def verdicts(self, search: Search) -> list[Row[Any]]:
        """Verdicts, newest first, each with the number of its reviews (`reviews`)."""
        return self._list(_searched(search).order_by(records.c.seq.desc()))

    def queue(self, search: Search) -> list[Row[Any]]:
        """Verdicts that are worth a look and had none, the worthiest first."""
        wanted = _searched(search).where(records.c.worth > 0)
        return self._list(wanted.order_by(records.c.worth.desc(), records.c.seq.desc()))

    def reviews(self, verdict: str | None = None) -> list[Row[Any]]:
        """Reviews in the order in which they were written: of one verdict, or all."""
        wanted = select(records).where(records.c.kind == "review").order_by(records.c.seq)
        return self._list(wanted if verdict is None else wanted.where(records.c.subject == verdict))

    def reviewed(self, search: Search) -> Iterator[tuple[str, str]]:
        """The bodies of every review and of its verdict, where that is still there; by caller and profile."""
        verdicts = records.alias("verdicts")
        joined = records.join(verdicts, records.c.subject == verdicts.c.id)
        both = records.c.body.label("review"), verdicts.c.body.label("verdict")
        wanted = select(*both).select_from(joined).order_by(records.c.seq)
        for name in ("caller", "profile"):
            if (value := getattr(search, name)) is not None:
                wanted = wanted.where(verdicts.c[name] == value)
        with self.database.reading() as connection:
            for row in _parts(connection, wanted):
                yield row.review, row.verdict

    def all(self) -> Iterator[Row[Any]]:
        """Every record in the order of the chain."""
        with self.database.reading() as connection:
            yield from self.rows(connection)

    def rows(self, connection: Connection) -> Generator[Row[Any]]:
        """Every record in the order of the chain, a part at a time, as a transaction sees it."""
        return _parts(connection, select(records).order_by(records.c.seq))

    def _list(self, wanted: Select[Any]) -> list[Row[Any]]:
        with self.database.reading() as connection:
            return list(connection.execute(wanted))


def _parts(connection: Connection, wanted: Select[Any]) -> Generator[Row[Any]]:
    with connection.execution_options(yield_per=500).execute(wanted) as found:
        yield from found


def _searched(search: Search) -> Select[Any]:
    reviews = records.alias("reviews")
    count = select(func.count()).where(reviews.c.subject == records.c.id).scalar_subquery()
    wanted = select(records, count.label("reviews")).where(records.c.kind == "verdict").limit(search.limit)
    for name in ("caller", "profile", "status"):
        if (value := getattr(search, name)) is not None:
            wanted = wanted.where(records.c[name] == value)
    if search.before is not None:
        wanted = wanted.where(records.c.seq < search.before)
    if search.text is not None:
        wanted = wanted.where(records.c.body.icontains(search.text, autoescape=True))
    if search.reviewed is not None:
        has_some = exists().where(reviews.c.subject == records.c.id)
        wanted = wanted.where(has_some if search.reviewed else ~has_some)
    return wanted
