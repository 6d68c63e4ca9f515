"""A new chain in place of a broken one, by an explicit command that records why."""

from __future__ import annotations

import getpass
import os
import uuid
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, func, select

from grm_service.audit import entry
from grm_service.audit.chain import verify
from grm_service.audit.ends import GENESIS, place_anchors, read_ends
from grm_service.audit.heads import Head
from grm_service.audit.links import digest_before
from grm_service.audit.schema import anchors, records
from grm_service.audit.store import Store
from grm_service.errors import AuditBroken, BadTask

_MAX_SEQ = 2**53


def restart(store: Store, reason: str, intact: bool = False) -> int:
    """Begin a new chain behind the records in the database; return the seq of its first record.

    The old records stay as evidence: readable, exported, but no longer verified, except that they are as they
    were now. The first record of the new chain says why it was begun, who did it, what was broken and which
    head was known. Raises BadTask if the trail is valid, unless `intact`; AuditUnavailable.
    """
    broken = _break(store)
    if broken is None and not intact:
        raise BadTask(
            "the trail is valid: a new chain would only put its records in doubt (--intact does so)"
        )
    noted = store.heads.at(store.database.place)
    store.database.open(create=True)
    with store.database.writing() as connection:
        store.database.lock(connection)
        store.database.restore_tables(connection)
        anchored = [_plain(row) for row in connection.execute(select(anchors).order_by(anchors.c.name))]
        seq = _last_seq(connection, noted, anchored)
        why = {
            "reason": reason,
            "user": _user(),
            "broken": broken,
            "anchors": anchored,
            "noted": None if noted is None else {"seq": noted.seq, "hash": noted.hash, "trail": noted.trail},
            "before": digest_before(connection, seq),
        }
        place_anchors(connection, store.key, (seq, GENESIS), (seq, GENESIS))
        first = entry.from_restart(f"rs_{uuid.uuid4().hex}", datetime.now(UTC), why)
        head = store.add(connection, read_ends(connection), [first])
    store.heads.note(store.database.place, head, restarted=True)
    return head.seq


def _break(store: Store) -> str | None:
    try:
        store.open_to_read()
        return verify(store).fault
    except AuditBroken as broken:
        return str(broken)
    finally:
        store.close()


def _last_seq(connection: Connection, noted: Head | None, anchored: list[dict[str, int | str]]) -> int:
    """Return a seq behind every record that there is, or may have been.

    Raises AuditBroken if a stored seq is beyond all that a service writes.
    """
    stored: int | None = connection.execute(select(func.max(records.c.seq))).scalar()
    if (stored or 0) > _MAX_SEQ:
        raise AuditBroken(
            f"record {stored} leaves no room behind it, and no service wrote it: export the trail, then "
            f"delete what has a seq above {_MAX_SEQ}"
        )
    anchor_seqs = (anchor["seq"] for anchor in anchored)
    possible = [seq for seq in anchor_seqs if isinstance(seq, int) and seq <= _MAX_SEQ]
    return max(0, stored or 0, noted.seq if noted else 0, *possible)


def _plain(anchor: Row[Any]) -> dict[str, int | str]:
    """Return an anchor as JSON, whatever was put into its columns."""
    return {name: value if isinstance(value, int) else str(value) for name, value in anchor._mapping.items()}


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # such as a container's user without a name
        return f"uid {os.getuid()}"
