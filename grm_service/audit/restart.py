"""A new chain in place of a broken one, by an explicit command that records why."""

from __future__ import annotations

import getpass
import os
import uuid
from datetime import UTC, datetime

from sqlalchemy import Connection, func, select

from grm_service.audit import entry
from grm_service.audit.chain import verify
from grm_service.audit.ends import place_anchors, read_ends
from grm_service.audit.heads import Head
from grm_service.audit.links import digest_before
from grm_service.audit.schema import anchors, records
from grm_service.audit.store import Store
from grm_service.errors import AuditBroken, BadTask


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
        anchored = [
            dict(row._mapping) for row in connection.execute(select(anchors).order_by(anchors.c.name))
        ]
        seq = _last_seq(connection, noted, anchored)
        why = {
            "reason": reason,
            "user": _user(),
            "broken": broken,
            "anchors": anchored,
            "noted": None if noted is None else {"seq": noted.seq, "hash": noted.hash, "trail": noted.trail},
            "before": digest_before(connection, seq),
        }
        place_anchors(connection, store.key, seq)
        first = entry.from_restart(f"rs_{uuid.uuid4().hex}", datetime.now(UTC), why)
        head = store.add(connection, read_ends(connection), [first])
    store.heads.note(store.database.place, head, restarted=True)
    return head.seq


def _break(store: Store) -> str | None:
    try:
        store.open_to_read()
        check = verify(store)
    except AuditBroken as broken:
        return str(broken)
    finally:
        store.close()
    return (
        None
        if check.why is None
        else f"record {check.bad} ({check.id or 'not in the database'}): {check.why}"
    )


def _last_seq(connection: Connection, noted: Head | None, anchored: list[dict[str, object]]) -> int:
    """Return a seq behind every record that there is, or is known to have been."""
    stored: int | None = connection.execute(select(func.max(records.c.seq))).scalar()
    sealed = [int(str(anchor["seq"])) for anchor in anchored]
    return max(0, stored or 0, noted.seq if noted else 0, *sealed)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # such as a container's user without a name
        return f"uid {os.getuid()}"
