"""The links of the chain: each record against the one before it, and against its own body."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator
from contextlib import closing
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, Row, select

from grm_service.audit import entry
from grm_service.audit.entry import record_hash
from grm_service.audit.queries import stream
from grm_service.audit.schema import records

# By name: a column that is added later must not change the digest of old records.
_HASHED = (
    *("seq", "id", "kind", "subject", "created", "caller", "profile", "status", "worth", "summary"),
    *("body", "hash"),
)
NONE_BEFORE = {"records": 0, "digest": "sha256:" + hashlib.sha256().hexdigest()}
"""What `digest_before` returns if there are no records."""


def rows_after(connection: Connection, seq: int, last: int | None = None) -> Generator[Row[Any]]:
    """Yield the records behind `seq`, up to `last` if it is set, in the order of the chain."""
    query = select(records).where(records.c.seq > seq).order_by(records.c.seq)
    return stream(connection, query if last is None else query.where(records.c.seq <= last))


def digest_before(connection: Connection, seq: int) -> dict[str, object]:
    """Return the number of records up to `seq`, and a hash of all that they hold."""
    query = select(*(records.c[name] for name in _HASHED)).where(records.c.seq <= seq)
    digest, count = hashlib.sha256(), 0
    with closing(stream(connection, query.order_by(records.c.seq))) as rows:
        for row in rows:
            digest.update(json.dumps(list(row), default=repr).encode() + b"\n")
            count += 1
    return {"records": count, "digest": f"sha256:{digest.hexdigest()}"}


def fault(row: Row[Any], seq: int, previous: str) -> str | None:
    """Return what is wrong with the record at `seq`, after the record with the hash `previous`."""
    if row.seq != seq:
        return f"the record is missing: {row.seq} ({row.id}) follows {seq - 1}"
    if row.hash != record_hash(previous, seq, row.body):
        return "the hash does not match: the record was changed, or does not follow the previous one"
    try:
        expected = asdict(entry.parse(row.body))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return "the body is not a valid record in canonical JSON"
    changed = [name for name, value in expected.items() if getattr(row, name) != value]
    return f"columns that differ from the body: {', '.join(changed)}" if changed else None
