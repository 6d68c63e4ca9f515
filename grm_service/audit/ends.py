"""The two sealed ends of the trail and its id: read, checked in constant time, and moved."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from grm_service.audit.heads import Head
from grm_service.audit.schema import anchors, records
from grm_service.audit.seal import SealKey
from grm_service.errors import AuditBroken

GENESIS = "sha256:" + "0" * 64
"""The hash before the first record."""

_TRAIL = "trail"


@dataclass(frozen=True, slots=True)
class Ends:
    """The anchors: `base`, `head`, and `name`, whose hash is the trail's id (None in older trails)."""

    base: Row[Any]
    head: Row[Any]
    name: Row[Any] | None

    @property
    def trail(self) -> str:
        """The id of the trail; "" if it was last opened by a version without ids."""
        return "" if self.name is None else str(self.name.hash)

    def fault(self, connection: Connection, key: SealKey) -> str | None:
        """Return what is wrong with the seals or the last record, in constant time; None if nothing is."""
        for which in self.unsealed(key):
            return f"the {which} of the trail is not sealed with our key"
        newest = select(records.c.seq, records.c.hash).order_by(records.c.seq.desc()).limit(1)
        row = connection.execute(newest.where(records.c.seq > self.base.seq)).first()
        last = (self.base.seq, self.base.hash) if row is None else (row.seq, row.hash)
        if last != (self.head.seq, self.head.hash):
            return f"the last record, {last[0]}, is not the one that is sealed, {self.head.seq}"
        return None

    def unsealed(self, key: SealKey) -> list[str]:
        """Return which anchors are not sealed with the key: "start", "end", "id"."""
        anchors = (("start", self.base), ("end", self.head), ("id", self.name))
        return [
            which
            for which, anchor in anchors
            if anchor is not None
            and not key.has_sealed(anchor.seal, *_signed(anchor.name, anchor.seq, anchor.hash, self.trail))
        ]

    def move(self, connection: Connection, key: SealKey, name: str, seq: int, last: str) -> None:
        """Move an anchor and seal it. What it then vouches for must have been checked."""
        seal = key.seal(*_signed(name, seq, last, self.trail))
        statement = update(anchors).where(anchors.c.name == name)
        connection.execute(statement.values(seq=seq, hash=last, seal=seal))

    def lacks(self, connection: Connection, known: Head) -> str | None:
        """Return what the trail lacks of one with a known head, in constant time; None if nothing."""
        if self.trail != known.trail:
            return f"this is not the trail that was there, which had records up to {known.seq}"
        if known.seq > self.head.seq:
            return f"the trail ends with record {self.head.seq}, but had records up to {known.seq}"
        # Retention removes known records, behind an anchor that it checks and seals.
        if known.seq >= self.base.seq and self.hash_at(connection, known.seq) != known.hash:
            return f"record {known.seq} is not the one that was there"
        return None

    def hash_at(self, connection: Connection, seq: int) -> str | None:
        """Return the hash of a record, from the base on; None if there is no such record."""
        if seq == self.base.seq:
            return str(self.base.hash)
        found: str | None = connection.execute(select(records.c.hash).where(records.c.seq == seq)).scalar()
        return found


def read_ends(connection: Connection, lock: bool = False) -> Ends:
    """Return the ends; with `lock`, lock them (on SQLite, the transaction does). Raises AuditBroken."""
    # The lock serializes writers of several replicas, so that seq has no gaps or duplicates.
    query = select(anchors).order_by(anchors.c.name)
    rows = {row.name: row for row in connection.execute(query.with_for_update() if lock else query)}
    if not {"base", "head"} <= rows.keys() <= {"base", "head", _TRAIL}:
        raise AuditBroken("the audit trail has lost its anchors")
    # SQLite stores a value of any type in any column.
    if any((type(row.seq), type(row.hash), type(row.seal)) != (int, str, str) for row in rows.values()):
        raise AuditBroken("the anchors of the audit trail are not what its service writes")
    return Ends(rows["base"], rows["head"], rows.get(_TRAIL))


def place_anchors(connection: Connection, key: SealKey, base: tuple[int, str], head: tuple[int, str]) -> str:
    """Place the anchors, each with a seq and hash, under a new random id of the trail; return the id."""
    trail = f"trail_{uuid.uuid4().hex}"
    connection.execute(delete(anchors))
    for name, (seq, last) in (("base", base), ("head", head), (_TRAIL, (0, trail))):
        seal = key.seal(*_signed(name, seq, last, trail))
        connection.execute(insert(anchors).values(name=name, seq=seq, hash=last, seal=seal))
    return trail


def _signed(name: str, seq: int, last: str, trail: str) -> tuple[object, ...]:
    """Return what the seal of an anchor signs: the trail's id too, or two trails could exchange anchors."""
    return (name, seq, last, trail) if trail and name != _TRAIL else (name, seq, last)
