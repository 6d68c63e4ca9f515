"""The store's tables, as the newest migration leaves them."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, Index, Integer, MetaData, String, Table, Text

metadata = MetaData()

records = Table(
    "records",
    metadata,
    # Given out by the writer, without a gap: SQLite's integer is 64 bits as it is.
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("id", String(64), nullable=False, unique=True),
    Column("kind", String(16), nullable=False),
    Column("subject", String(64)),
    Column("created", String(32), nullable=False),
    Column("caller", String(64), nullable=False),
    Column("profile", String(256), nullable=False),
    Column("status", String(16), nullable=False),
    Column("worth", Float, nullable=False),
    Column("body", Text, nullable=False),
    Column("hash", String(80), nullable=False),
    Index("records_subject", "subject"),
    Index("records_worth", "kind", "worth"),
    Index("records_created", "created"),
)
"""The chain. All but `body` and `hash` is repeated from the body, to be searched by."""

anchors = Table(
    "anchors",
    metadata,
    Column("name", String(8), primary_key=True),
    Column("seq", BigInteger, nullable=False),
    Column("hash", String(80), nullable=False),
    Column("seal", String(128), nullable=False),
)
"""`base`: what stood before the first record that is left. `head`: the last record."""
