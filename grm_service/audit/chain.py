"""Verification of the hash chain, and removal of old records in a way that still verifies."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import NamedTuple

from sqlalchemy import Connection, delete, exists, func, select

from grm_service.audit import entry
from grm_service.audit.ends import GENESIS, Ends, read_ends
from grm_service.audit.heads import Head
from grm_service.audit.links import NONE_BEFORE, digest_before, fault, rows_after
from grm_service.audit.schema import records
from grm_service.audit.store import Store
from grm_service.errors import AuditBroken

_MARKS = ("checkpoint", "restart")
"""Records that say where the trail starts, and why there."""
_STEP = 100
"""Records that are removed in one transaction: each may have several MiB."""


@dataclass(frozen=True, slots=True)
class TrailCheck:
    """The result of a verification of `records` records, from seq `first` to seq `head`.

    `hash` is the hash of the head: note it outside the database to detect a rollback later. `bad` is the seq
    of the first invalid record, `id` the id of the record stored there and `why` the problem; all None if the
    trail is intact. `before` counts the records of an earlier chain that a restart left in the database: they
    are as they were at the restart, and not valid beyond that.
    """

    records: int
    first: int
    head: int
    hash: str
    bad: int | None = None
    id: str | None = None
    why: str | None = None
    before: int = 0

    @property
    def fault(self) -> str | None:
        """The first invalid record and its problem, in words; None if the trail is intact."""
        if self.bad is None:
            return None
        return f"record {self.bad} ({self.id or 'not in the database'}): {self.why}"


def verify(store: Store, noted: tuple[int, str] | None = None) -> TrailCheck:
    """Verify the trail from its first record on, up to the first invalid one. Write nothing.

    `noted` is the seq and hash of a head that was noted elsewhere. With it, a database restored to an older
    state is detected even if the heads beside the key were restored too. Raises AuditUnavailable, and
    AuditBroken if the anchors are lost.
    """
    with store.database.reading() as connection:
        trail = read_ends(connection).trail
    known = store.noted(trail)
    with store.database.reading() as connection:
        ends = read_ends(connection)
        check = TrailCheck(ends.head.seq - ends.base.seq, ends.base.seq + 1, ends.head.seq, ends.head.hash)
        unsealed = ends.unsealed(store.key)
        bad = _wrong_start(connection, ends, unsealed, known)
        heads = [(head.seq, head.hash) for head in known] + ([] if noted is None else [noted])
        bad = bad or _broken_link(connection, ends, heads)
        if bad is None and "end" in unsealed:
            why = "the end of the trail is not sealed with our key: the trail was rewritten"
            bad = _Fault(ends.head.seq, why)
        if bad is None and (damage := store.database.damage(connection)) is not None:
            bad = _Fault(ends.head.seq, f"the database is damaged: {damage}")
        bad = bad or _unfit(connection, ends) or _misplaced(connection, ends)
        before = connection.execute(select(func.count()).where(records.c.seq <= ends.base.seq)).scalar_one()
    return replace(check, before=before, **({} if bad is None else bad._asdict()))


def prune(store: Store, before: datetime) -> int:
    """Remove the oldest records, as `prune_in_steps` does; return how many."""
    return sum(prune_in_steps(store, before))


def prune_in_steps(store: Store, before: datetime) -> Iterator[int]:
    """Remove the oldest records, up to the first that is not older than `before`; yield each step's number.

    A step is short, so that a trail that was never pruned can be appended to between two steps. Records from
    the future, of a time when the clock was wrong, neither stop the removal nor start one: they are removed
    with an older record that comes after them. After each step the rest verifies, from a newly sealed anchor
    on, and a checkpoint records what was removed. Raises AuditBroken if what a step would remove, or the
    record after it, does not verify: then that step removes nothing.
    """
    with store.database.reading() as connection:
        ends = read_ends(connection)
        if (why := ends.fault(connection, store.key)) is not None:
            raise AuditBroken(f"old records are not removed: {why}")
        final = _last_to_remove(connection, ends, before, datetime.now(UTC))
    while final is not None and (removed := _remove(store, before, final)):
        yield removed


def _remove(store: Store, before: datetime, final: int) -> int:
    """Remove the next few records up to the one with the seq `final`; return how many."""
    with store.database.reading() as connection:
        old = read_ends(connection)
        last = min(final, int(old.base.seq) + _STEP)
        if last <= old.base.seq:
            return 0
        if bad := _broken_link(connection, old, [], last + 1):
            raise AuditBroken(f"old records are not removed: record {bad.bad} ({bad.id}): {bad.why}")
        digest = old.hash_at(connection, last)
    # All in one transaction: a crash leaves either the old trail or the pruned one.
    with store.database.writing() as connection:
        ends = store.checked(connection)
        if (ends.base.seq, ends.base.hash) != (old.base.seq, old.base.hash):
            return 0  # another replica was faster
        if ends.hash_at(connection, last) != digest:
            raise AuditBroken(f"old records are not removed: record {last} was changed meanwhile")
        removed = {"first": old.base.seq + 1, "last": last, "hash": digest, "before": entry.timestamp(before)}
        checkpoint = entry.from_checkpoint(f"cp_{uuid.uuid4().hex}", datetime.now(UTC), removed)
        head = store.add(connection, ends, [checkpoint])
        ends.move(connection, store.key, "base", last, str(digest))
        connection.execute(delete(records).where(records.c.seq <= last))
    store.stored(head)
    store.note()
    return last - int(old.base.seq)


class _Fault(NamedTuple):
    """The first invalid record: its seq, the problem, and the id that is stored there."""

    bad: int
    why: str
    id: str | None = None


def _wrong_start(
    connection: Connection, ends: Ends, unsealed: Sequence[str], known: Sequence[Head]
) -> _Fault | None:
    """Return what is wrong with the anchors before any record is read."""
    first = int(ends.base.seq) + 1
    # Without the seals, anyone with write access could rewrite the whole chain with valid hashes.
    for which in unsealed:
        if which != "end":
            return _Fault(first, f"the {which} of the trail is not sealed with our key")
    others = [head for head in known if head.trail != ends.trail]
    return _Fault(first, str(ends.lacks(connection, others[0]))) if others else None


def _broken_link(
    connection: Connection, ends: Ends, noted: Sequence[tuple[int, str]], until: int | None = None
) -> _Fault | None:
    """Return the first record up to `until` that breaks the chain, or is not as it was noted."""
    latest = max((seq for seq, _ in noted), default=0)
    if latest > ends.head.seq:
        return _Fault(ends.head.seq + 1, f"the record is missing: the noted head has seq {latest}")
    seq, last = ends.base.seq, ends.base.hash
    with closing(rows_after(connection, seq, until)) as rows:
        for row in rows:
            seq += 1
            why = fault(row, seq, last)
            if why is None and seq > ends.head.seq:
                why = "the record is after the end of the trail"
            if why is None and any(at == seq and digest != row.hash for at, digest in noted):
                why = "the record's hash is not the one that was noted"
            if why is not None:
                return _Fault(seq, why, row.id)
            last = row.hash
    if until is None and (seq, last) != (ends.head.seq, ends.head.hash):
        return _Fault(seq + 1, f"the record is missing: the trail ended at {ends.head.seq}")
    # A record before the start can be compared only if it is the last one that was removed.
    if any(at == ends.base.seq and digest != ends.base.hash for at, digest in noted):
        return _Fault(ends.base.seq, "the trail starts after the noted record, with another hash")
    return None


def _unfit(connection: Connection, ends: Ends) -> _Fault | None:
    """Return what is wrong with the start of a valid chain: its newest mark must say why it is there."""
    newest = select(records).where(records.c.seq > ends.base.seq, records.c.kind.in_(_MARKS))
    mark = connection.execute(newest.order_by(records.c.seq.desc()).limit(1)).first()
    start, left = (ends.base.seq, ends.base.hash), NONE_BEFORE
    if mark is None:
        fits = start == (0, GENESIS)
    elif mark.kind == "restart":
        fits = start == (mark.seq - 1, GENESIS)
        left = entry.data_of(mark.body)["before"]
    else:
        removed = entry.data_of(mark.body)
        fits = start == (removed["last"], removed["hash"])
    if not fits:
        return _Fault(ends.base.seq + 1, "no checkpoint records that the records before it were removed")
    stored = digest_before(connection, ends.base.seq)
    if left != stored:
        return _Fault(ends.base.seq, "records before the start of the trail were added, removed or changed")
    return None


def _misplaced(connection: Connection, ends: Ends) -> _Fault | None:
    """Return a record of a valid chain whose id is not its own, or a review of a verdict that never was."""
    chain = records.c.seq > ends.base.seq
    twice = select(func.max(records.c.seq).label("seq"), records.c.id).where(chain).group_by(records.c.id)
    if row := connection.execute(twice.having(func.count() > 1).limit(1)).first():
        return _Fault(row.seq, "another record has the same id", row.id)
    if ends.base.hash != GENESIS:
        return None  # the verdict may have been removed by retention
    verdicts = records.alias("verdicts")
    known = exists().where(
        verdicts.c.id == records.c.subject, verdicts.c.kind == "verdict", verdicts.c.seq < records.c.seq
    )
    lost = select(records.c.seq, records.c.id).where(chain, records.c.kind == "review", ~known)
    if row := connection.execute(lost.order_by(records.c.seq).limit(1)).first():
        return _Fault(row.seq, "the review is of a verdict that is not before it in the trail", row.id)
    return None


def _last_to_remove(connection: Connection, ends: Ends, before: datetime, now: datetime) -> int | None:
    """Return the seq of the last record that retention removes, None if there is none; see `prune`."""
    limit, chain = entry.timestamp(before), records.c.seq > ends.base.seq
    young = select(func.min(records.c.seq)).where(
        chain, records.c.created >= limit, records.c.created <= entry.timestamp(now)
    )
    old = select(func.max(records.c.seq)).where(chain, records.c.created < limit)
    if (first_young := connection.execute(young).scalar()) is not None:
        old = old.where(records.c.seq < first_young)
    last: int | None = connection.execute(old).scalar()
    return last
