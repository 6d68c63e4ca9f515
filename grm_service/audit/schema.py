"""The store's tables after the newest migration."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, Index, Integer, MetaData, String, Table, Text

metadata = MetaData()

records = Table(
    "records",
    metadata,
    # The writer numbers the records without gaps. SQLite's INTEGER already has 64 bits.
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("id", String(64), nullable=False, unique=True),
    Column("kind", String(16), nullable=False),
    Column("subject", String(64)),
    Column("created", String(32), nullable=False),
    Column("caller", String(64), nullable=False),
    Column("profile", String(256), nullable=False),
    Column("status", String(16), nullable=False),
    Column("worth", Float, nullable=False),
    Column("summary", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("hash", String(80), nullable=False),
    Index("records_subject", "subject"),
    Index("records_worth", "kind", "worth"),
    Index("records_created", "created"),
    Index("records_caller", "kind", "caller", "seq"),
)
"""The chain. All columns except `seq`, `body` and `hash` are copied from the body for searching."""

anchors = Table(
    "anchors",
    metadata,
    Column("name", String(8), primary_key=True),
    Column("seq", BigInteger, nullable=False),
    Column("hash", String(80), nullable=False),
    Column("seal", String(128), nullable=False),
)
"""`base`: the record before the first one still stored. `head`: the last record."""
