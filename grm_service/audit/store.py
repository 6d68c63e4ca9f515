"""The store of the trail: appending to the chain after a check of its end."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, insert

from grm_service.audit.database import Database
from grm_service.audit.ends import GENESIS, Ends, place_anchors, read_ends
from grm_service.audit.entry import Entry, record_hash
from grm_service.audit.heads import Head, Heads
from grm_service.audit.links import fault, rows_after
from grm_service.audit.schema import records
from grm_service.audit.seal import SealKey, load_key
from grm_service.errors import AuditBroken, AuditUnavailable

_NEWEST = 100
_REMEDY = "restore it from a backup, or begin a new chain with `grm audit restart --reason WHY`"


class Store:
    """The database of the trail and its seal. Each method is one transaction. Thread-safe.

    Methods raise AuditUnavailable if the database fails, and those that write AuditBroken if the trail is not
    as its key holders wrote it. Nothing is sealed that was not checked before.
    """

    def __init__(self, url: str, key_file: Path) -> None:
        self.database = Database(url)
        self._key_file = key_file
        self._last: Head | None = None
        self._writes = False
        self.key: SealKey
        self.heads: Heads

    def open(self) -> None:
        """Open the trail to write; create or migrate the tables, and check the end of the trail.

        Raises AuditUnavailable if the trail is sealed with another key, AuditBroken.
        """
        try:
            self._load_key(create=True)
            noted = self.heads.at(self.database.place)
            if noted is not None and not self.database.exists:
                raise self._broken("its file is gone")
            self.database.open(create=True)
            # Apart from the check, so that a broken trail of an older version is migrated and can be read.
            with self.database.writing() as connection:
                self.database.lock(connection)
                self._prepare(connection, noted)
            with self.database.writing() as connection:
                self.database.lock(connection)
                self._last = self._open(connection, noted)
            self._writes = True
            self.note()
        except BaseException:
            self.close()
            raise

    def open_to_read(self) -> None:
        """Open the trail without writing or creating anything. Raises AuditUnavailable, AuditBroken."""
        self._load_key(create=False)
        try:
            self.database.open_to_read()
        except AuditUnavailable:
            if self.heads.at(self.database.place) is not None:
                raise self._broken("its file is gone") from None
            raise
        with self.database.reading() as connection:
            if not self.database.is_new(connection):
                return self.database.require_current(connection)
        if self.heads.at(self.database.place) is not None:
            raise self._broken("its tables are gone")
        raise AuditUnavailable(f"there is no audit trail in {self.database.name}")

    def close(self) -> None:
        """Close the database; note the head of a trail that was open to write."""
        try:
            if self._writes:
                self.note()
        finally:
            self.database.close()

    def note(self) -> None:
        """Note the head outside the database, so that the trail cannot become shorter undetected."""
        if self._last is not None:
            self.heads.note(self.database.place, self._last)

    def noted(self, trail: str) -> list[Head]:
        """Return the heads that a trail must still contain: the one in memory, and those noted in the file.

        Read them before the database: then they are older than what it holds.
        """
        heads = [self._last, self.heads.at(self.database.place), self.heads.of(trail)]
        return [head for head in heads if head is not None]

    def append(self, entries: Sequence[Entry]) -> None:
        """Append entries to the chain, all or none. An empty list checks that the database is writable."""
        with self.database.writing() as connection:
            last = self.add(connection, self.checked(connection), entries)
        self.stored(last)

    def add(self, connection: Connection, ends: Ends, entries: Sequence[Entry]) -> Head:
        """Append entries behind checked ends, within an open transaction; return the new head.

        Raises AuditBroken if the database does not hold the new head then, such as for a trigger in it.
        """
        seq, last, rows = ends.head.seq, ends.head.hash, []
        for entry in entries:
            seq, last = seq + 1, record_hash(last, seq + 1, entry.body)
            rows.append({"seq": seq, "hash": last, **asdict(entry)})
        if rows:
            connection.execute(insert(records), rows)
        ends.move(connection, self.key, "head", seq, last)
        head = Head(ends.trail, seq, last)
        self._require(connection, read_ends(connection), head)
        return head

    def stored(self, head: Head) -> None:
        """Remember the head of a transaction that was committed.

        Raises AuditUnavailable if the file that it went to is no longer the database.
        """
        self.database.check_file()
        self._last = head

    def checked(self, connection: Connection) -> Ends:
        """Return the ends of the trail, locked against other writers, in constant time.

        Raises AuditBroken if a seal is wrong, the last record is not the one that was sealed, or a record
        that this process knows of is gone.
        """
        ends = read_ends(connection, lock=True)
        self._require(connection, ends, self._last)
        return ends

    def _require(self, connection: Connection, ends: Ends, known: Head | None) -> None:
        """Raise AuditBroken if the ends are not sound, or lack a known head."""
        why = ends.fault(connection, self.key)
        if why is None and known is not None:
            why = ends.lacks(connection, known)
        if why is not None:
            raise self._broken(why)

    def _load_key(self, create: bool) -> None:
        self.key = load_key(self._key_file, create)
        self.heads = Heads(self.key)

    def _prepare(self, connection: Connection, noted: Head | None) -> None:
        new = self.database.is_new(connection)
        if new and noted is not None:
            raise self._broken("its tables are gone")
        self.database.migrate(connection)
        if new:
            place_anchors(connection, self.key, (0, GENESIS), (0, GENESIS))

    def _open(self, connection: Connection, noted: Head | None) -> Head:
        ends = read_ends(connection, lock=True)
        if noted is None and not self.key.is_key_of(ends.head.seal):
            raise AuditUnavailable(
                f"the audit trail in {self.database.name} is sealed with another key than {self.key.path}: "
                "set GRM_AUDIT_KEY_FILE to that key, or start a new trail with GRM_AUDIT_URL"
            )
        for known in (noted, self.heads.of(ends.trail), self._last):
            self._require(connection, ends, known)
        self._check_newest(connection, ends)
        base, head = (ends.base.seq, ends.base.hash), (ends.head.seq, ends.head.hash)
        return Head(ends.trail or place_anchors(connection, self.key, base, head), *head)

    def _check_newest(self, connection: Connection, ends: Ends) -> None:
        """Check the newest records: a sample of constant size, since only `grm audit verify` reads all."""
        seq = max(ends.base.seq, ends.head.seq - _NEWEST)
        last = ends.hash_at(connection, seq)
        with closing(rows_after(connection, seq)) as rows:
            for row in rows:
                seq += 1
                if (why := fault(row, seq, str(last))) is not None:
                    raise self._broken(f"record {seq} ({row.id}): {why}")
                last = row.hash

    def _broken(self, why: str) -> AuditBroken:
        return AuditBroken(f"the audit trail in {self.database.name} is broken: {why}; {_REMEDY}")

    def all(self) -> Iterator[Row[Any]]:
        """Yield every record in the order of the chain."""
        with self.database.reading() as connection:
            yield from self.rows(connection)

    def rows(self, connection: Connection) -> Generator[Row[Any]]:
        """Yield every record in the order of the chain, as the transaction sees it, in batches."""
        return rows_after(connection, 0)
