"""Whether the trail is whole, and how old records leave it without a gap that nobody can account for."""

from __future__ import annotations

import uuid
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Row, delete, func, select

from grm_service.audit import entry
from grm_service.audit.entry import link
from grm_service.audit.schema import records
from grm_service.audit.store import Store


@dataclass(frozen=True, slots=True)
class Checked:
    """A trail of `records`, from `first` to `head`, whose hash a cautious person notes elsewhere.

    `bad` is the first seq that is wrong, `id` the record found there, `why` what is wrong; all None where
    nothing is.
    """

    records: int
    first: int
    head: int
    hash: str
    bad: int | None = None
    id: str | None = None
    why: str | None = None


def verify(store: Store, noted: tuple[int, str] | None = None) -> Checked:
    """Reads the whole trail and stops at the first record that is not as it was written.

    `noted` is the seq and hash of a head that somebody wrote down earlier: with it, a trail is found wrong
    that was put back as a whole to what it was before.
    """
    with store.database.reading() as connection, closing(store.rows(connection)) as rows:
        base, head = store.anchors(connection)
        checked = Checked(head.seq - base.seq, base.seq + 1, head.seq, head.hash)
        if not store.sealed(base):
            return replace(
                checked, bad=base.seq + 1, why="what was removed before it is not sealed by our key"
            )
        if noted is not None and noted[0] > head.seq:
            return replace(checked, bad=head.seq + 1, why=f"it is missing: {noted[0]} was noted as the last")
        seq, last = base.seq, base.hash
        for row in rows:
            seq += 1
            why = _wrong(row, seq, last)
            if why is None and seq > head.seq:
                why = "it stands behind the end of the trail"
            if why is None and noted is not None and noted[0] == seq and noted[1] != row.hash:
                why = "it is not the one that was noted"
            if why is not None:
                return replace(checked, bad=seq, id=row.id, why=why)
            last = row.hash
    if (seq, last) != (head.seq, head.hash):
        return replace(checked, bad=seq + 1, why=f"it is missing: the trail went on to {head.seq}")
    if not store.sealed(head):
        return replace(
            checked, bad=seq, why="the end of the trail is not sealed by our key: it was written anew"
        )
    return checked


def prune(store: Store, before: datetime) -> int:
    """Removes the records up to the first that is not older, and says so in the trail; returns how many.

    The rest verifies from a sealed anchor on, and a checkpoint names what was removed.
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
        checkpoint = entry.of_checkpoint(f"cp_{uuid.uuid4().hex}", now, removed)
        store.add(connection, [checkpoint])
        store.move(connection, "base", last, row.hash)
        connection.execute(delete(records).where(records.c.seq <= last))
        return int(last - base.seq)


def _wrong(row: Row[Any], seq: int, last: str) -> str | None:
    if row.seq != seq:
        return f"it is missing: {row.seq} ({row.id}) follows {seq - 1}"
    if row.hash != link(last, seq, row.body):
        return "it is not what was written, or does not follow the record before it"
    try:
        written = asdict(entry.read(row.body))
    except (ValueError, KeyError, TypeError, AttributeError):
        return "its body is none of ours"
    changed = [name for name, value in written.items() if getattr(row, name) != value]
    return f"{', '.join(changed)} differ from its body" if changed else None
