"""The store of the trail: its chain, the anchors of the chain and their seals."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from grm_service.audit.database import Database
from grm_service.audit.entry import Entry, record_hash
from grm_service.audit.queries import stream
from grm_service.audit.schema import anchors, records
from grm_service.audit.seal import SealKey, load_key
from grm_service.errors import AuditUnavailable

GENESIS = "sha256:" + "0" * 64
"""The hash before the first record."""


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

    def all(self) -> Iterator[Row[Any]]:
        """Yield every record in the order of the chain."""
        with self.database.reading() as connection:
            yield from self.rows(connection)

    def rows(self, connection: Connection) -> Generator[Row[Any]]:
        """Yield every record in the order of the chain, as the transaction sees it, in batches."""
        return stream(connection, select(records).order_by(records.c.seq))
