"""SQLite or PostgreSQL: connections, transactions, migrations."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from grm_service.errors import AuditUnavailable

_WAIT_S = 10
_MIGRATION_LOCK = 5024950
_POSTGRES = {
    "connect_timeout": _WAIT_S,
    "keepalives_idle": 30,
    "options": f"-c statement_timeout={_WAIT_S * 1000} -c lock_timeout={_WAIT_S * 1000}",
}


class Database:
    """Transactions that raise AuditUnavailable where the database fails; for several threads."""

    def __init__(self, url: str) -> None:
        try:
            parsed = make_url(url)
            self._engine = _sqlite(parsed) if parsed.get_backend_name() == "sqlite" else _postgres(parsed)
        except (ArgumentError, ImportError) as wrong:
            raise AuditUnavailable(
                f"GRM_AUDIT_URL cannot be used ({wrong}): give sqlite:///FILE or postgresql://USER@HOST/NAME "
                "(pip install 'grm-service[postgres]')"
            ) from None

    @property
    def name(self) -> str:
        """Its address without the password."""
        return self._engine.url.render_as_string(hide_password=True)

    def close(self) -> None:
        self._engine.dispose()

    def make_folder(self) -> None:
        """Makes the folder of SQLite's file."""
        if self._engine.name == "sqlite":
            try:
                Path(str(self._engine.url.database)).parent.mkdir(parents=True, exist_ok=True)
            except OSError as failed:
                raise AuditUnavailable(f"the folder of the audit trail cannot be made: {failed}") from None

    def migrate(self, connection: Connection) -> None:
        """Brings the tables to the newest of audit/migrations; others that start meanwhile wait."""
        logging.getLogger("alembic").setLevel(logging.WARNING)
        if self._engine.name == "postgresql":
            connection.execute(text(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})"))
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", "grm_service.audit:migrations")
        try:
            command.upgrade(config, "head")
        except CommandError as wrong:
            raise AuditUnavailable(
                f"the audit trail in {self.name} was made by a newer version of grm-service: {wrong}"
            ) from None

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction to write in; SQLite lets one in at a time."""
        with self._transaction(writes=True) as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that sees one state of the trail, as SQLite's do anyway."""
        options = {"isolation_level": "REPEATABLE READ"} if self._engine.name == "postgresql" else {}
        with self._transaction(**options) as connection:
            yield connection

    @contextmanager
    def _transaction(self, **options: Any) -> Iterator[Connection]:
        try:
            with self._engine.connect().execution_options(**options) as connection, connection.begin():
                yield connection
        except SQLAlchemyError as failed:
            why = " ".join(str(getattr(failed, "orig", None) or failed).split())
            raise AuditUnavailable(f"the audit trail in {self.name} fails: {why}") from failed


def _sqlite(url: URL) -> Engine:
    if url.database in (None, "", ":memory:"):
        raise ArgumentError("it must name a file")
    file = str(Path(str(url.database)).expanduser())
    engine = create_engine(url.set(database=file), connect_args={"timeout": _WAIT_S})

    @event.listens_for(engine, "connect")
    def _connected(connection: Any, _: object) -> None:
        connection.isolation_level = None  # we begin ourselves, see below
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")

    @event.listens_for(engine, "begin")
    def _begun(connection: Connection) -> None:
        # A transaction that reads first and writes then could find that another wrote in between.
        writes = connection.get_execution_options().get("writes")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _postgres(url: URL) -> Engine:
    if url.get_backend_name() != "postgresql":
        raise ArgumentError(f"{url.get_backend_name()} is not supported")
    url = url.set(drivername="postgresql+psycopg")
    return create_engine(url, connect_args=_POSTGRES, pool_pre_ping=True)
