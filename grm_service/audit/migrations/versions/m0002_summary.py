"""A summary of each verdict, so that lists need not read bodies, and an index for the lists of one caller."""

from typing import Any

import sqlalchemy as sa
from alembic import op

from grm_service.audit import entry

revision = "0002"
down_revision = "0001"

_AT_ONCE = 16  # a body may have several MiB

_records = sa.table("records", sa.column("seq"), sa.column("kind"), sa.column("body"), sa.column("summary"))


def upgrade() -> None:
    connection = op.get_bind()
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("SET LOCAL statement_timeout = 0"))
    # SQLite reads what follows a long body as slowly as the body: in a new trail, the summary precedes it.
    on_sqlite = connection.dialect.name == "sqlite"
    is_new = on_sqlite and connection.execute(sa.select(_records.c.seq).limit(1)).first() is None
    with op.batch_alter_table("records", recreate="always" if is_new else "never") as table:
        column = sa.Column("summary", sa.Text, nullable=False, server_default="{}")
        table.add_column(column, insert_before="body" if is_new else None)
    op.create_index("records_caller", "records", ["kind", "caller", "seq"])
    last, verdicts = -1, _records.c.kind == "verdict"
    while rows := _after(connection, last, verdicts):
        for row in rows:
            connection.execute(
                sa.update(_records).where(_records.c.seq == row.seq).values(summary=_summary(row.body))
            )
        last = rows[-1].seq
    if connection.dialect.name == "postgresql":
        # From now on a replica of the version before, which writes no summary, fails.
        op.alter_column("records", "summary", server_default=None)


def _after(connection: sa.Connection, last: int, verdicts: sa.ColumnElement[bool]) -> list[sa.Row[Any]]:
    query = sa.select(_records.c.seq, _records.c.body).where(verdicts, _records.c.seq > last)
    return list(connection.execute(query.order_by(_records.c.seq).limit(_AT_ONCE)))


def _summary(body: str) -> str:
    try:
        return entry.parse(body).summary
    except (ValueError, LookupError, TypeError, AttributeError):
        return "{}"  # `grm audit verify` reports the body
