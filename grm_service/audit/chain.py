"""Verification of the hash chain, and removal of old records in a way that still verifies."""

from __future__ import annotations

import uuid
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Row, delete, func, select

from grm_service.audit import entry
from grm_service.audit.entry import record_hash
from grm_service.audit.schema import records
from grm_service.audit.store import Store


@dataclass(frozen=True, slots=True)
class TrailCheck:
    """The result of a verification of `records` records, from seq `first` to seq `head`.

    `hash` is the hash of the head: note it outside the database to detect a rollback later. `bad` is the seq
    of the first invalid record, `id` the id of the record stored there and `why` the problem; all None if the
    trail is intact.
    """

    records: int
    first: int
    head: int
    hash: str
    bad: int | None = None
    id: str | None = None
    why: str | None = None


def verify(store: Store, noted: tuple[int, str] | None = None) -> TrailCheck:
    """Verify the trail from its first record on, up to the first invalid one.

    `noted` is the seq and hash of a head that was noted earlier. With it, a database restored to an older
    state is detected too, which the chain alone cannot show.
    """
    with store.database.reading() as connection, closing(store.rows(connection)) as rows:
        base, head = store.anchors(connection)
        check = TrailCheck(head.seq - base.seq, base.seq + 1, head.seq, head.hash)
        # Without the seals, anyone with write access could rewrite the whole chain with valid hashes.
        if not store.is_sealed(base):
            return replace(check, bad=base.seq + 1, why="the start of the trail is not sealed with our key")
        if noted is not None and noted[0] > head.seq:
            return replace(
                check, bad=head.seq + 1, why=f"the record is missing: the noted head has seq {noted[0]}"
            )
        seq, last = base.seq, base.hash
        for row in rows:
            seq += 1
            why = _problem(row, seq, last)
            if why is None and seq > head.seq:
                why = "the record is after the end of the trail"
            if why is None and noted is not None and noted[0] == seq and noted[1] != row.hash:
                why = "the record's hash is not the one that was noted"
            if why is not None:
                return replace(check, bad=seq, id=row.id, why=why)
            last = row.hash
    if (seq, last) != (head.seq, head.hash):
        return replace(check, bad=seq + 1, why=f"the record is missing: the trail ended at {head.seq}")
    if not store.is_sealed(head):
        return replace(
            check, bad=seq, why="the end of the trail is not sealed with our key: the trail was rewritten"
        )
    return check


def prune(store: Store, before: datetime) -> int:
    """Remove the oldest records, up to the first that is not older than `before`; return how many.

    The rest still verifies, from a newly sealed anchor on. A checkpoint records what was removed.
    """
    now = datetime.now(UTC)
    with store.database.writing() as connection:
        head, base = store.anchor(connection, "head"), store.anchor(connection, "base")
        young = select(func.min(records.c.seq)).where(records.c.created >= entry.timestamp(before))
        first_left = connection.execute(young).scalar()
        last = (head.seq if first_left is None else first_left - 1) or 0
        if last <= base.seq:
            return 0
        row = connection.execute(select(records).where(records.c.seq == last)).one()
        removed = {"first": base.seq + 1, "last": last, "hash": row.hash, "before": entry.timestamp(before)}
        # All in one transaction: a crash leaves either the old trail or the pruned one.
        checkpoint = entry.from_checkpoint(f"cp_{uuid.uuid4().hex}", now, removed)
        store.add(connection, [checkpoint])
        store.move(connection, "base", last, row.hash)
        connection.execute(delete(records).where(records.c.seq <= last))
        return int(last - base.seq)


def _problem(row: Row[Any], seq: int, previous: str) -> str | None:
    """Return what is wrong with the record at `seq`, after the record with the hash `previous`."""
    if row.seq != seq:
        return f"the record is missing: {row.seq} ({row.id}) follows {seq - 1}"
    if row.hash != record_hash(previous, seq, row.body):
        return "the hash does not match: the record was changed, or does not follow the previous one"
    try:
        expected = asdict(entry.parse(row.body))
    except (ValueError, LookupError, TypeError, AttributeError):
        return "the body is not a valid record"
    changed = [name for name, value in expected.items() if getattr(row, name) != value]
    return f"columns that differ from the body: {', '.join(changed)}" if changed else None
