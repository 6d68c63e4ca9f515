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

from grm_service.addresses import without_credentials
from grm_service.audit.read_limit import limited
from grm_service.errors import AuditUnavailable

_WAIT_S = 10
_MIGRATION_LOCK = 5024950
_POSTGRES = {
    "connect_timeout": _WAIT_S,
    "keepalives_idle": 30,
    "options": f"-c statement_timeout={_WAIT_S * 1000} -c lock_timeout={_WAIT_S * 1000}",
}


class Database:
    """A connection pool whose transactions raise AuditUnavailable if the database fails. Thread-safe."""

    def __init__(self, url: str) -> None:
        try:
            parsed = make_url(url)
            self._engine = _sqlite(parsed) if parsed.get_backend_name() == "sqlite" else _postgres(parsed)
        except (ArgumentError, ImportError, ValueError) as wrong:
            why = (
                "its port is no number" if isinstance(wrong, ValueError) else without_credentials(str(wrong))
            )
            raise AuditUnavailable(
                f"GRM_AUDIT_URL cannot be used ({why}): use sqlite:///FILE or postgresql://USER@HOST/NAME "
                "(pip install 'grm-service[postgres]')"
            ) from None

    @property
    def name(self) -> str:
        """The database URL without its password, which may be in the query too."""
        return self._engine.url.set(query={}).render_as_string(hide_password=True)

    def close(self) -> None:
        self._engine.dispose()

    def make_folder(self) -> None:
        """Create the folder of an SQLite file. Raises AuditUnavailable."""
        if self._engine.name == "sqlite":
            try:
                Path(str(self._engine.url.database)).parent.mkdir(parents=True, exist_ok=True)
            except OSError as failed:
                raise AuditUnavailable(f"the folder of the audit trail cannot be created: {failed}") from None

    def migrate(self, connection: Connection) -> None:
        """Run the migrations; concurrent starts wait for each other. Raises AuditUnavailable."""
        logging.getLogger("alembic").setLevel(logging.WARNING)
        if self._engine.name == "postgresql":
            connection.execute(text(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})"))
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", "grm_service.audit:migrations")
        try:
            command.upgrade(config, "head")
        except CommandError as wrong:
            raise AuditUnavailable(
                f"the audit trail in {self.name} was created by a newer version of grm-service: {wrong}"
            ) from None

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Open a transaction to write in; SQLite admits one at a time."""
        with self._transaction(writes=True) as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Open a transaction that reads one snapshot, within the limits of read_limit.py."""
        # SQLite transactions always read one snapshot.
        options = {"isolation_level": "REPEATABLE READ"} if self._engine.name == "postgresql" else {}
        with self._transaction(**options) as connection, limited(connection):
            yield connection

    @contextmanager
    def _transaction(self, **options: Any) -> Iterator[Connection]:
        try:
            with self._engine.connect().execution_options(**options) as connection, connection.begin():
                yield connection
        except SQLAlchemyError as failed:
            why = " ".join(str(getattr(failed, "orig", None) or failed).split())
            raise AuditUnavailable(f"the audit trail in {self.name} failed: {why}") from failed


def _sqlite(url: URL) -> Engine:
    if url.database in (None, "", ":memory:"):
        raise ArgumentError("the URL must name a file")
    file = str(Path(str(url.database)).expanduser())
    engine = create_engine(url.set(database=file), connect_args={"timeout": _WAIT_S})

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _: object) -> None:
        connection.isolation_level = None  # the driver must not begin transactions: see _begin
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # BEGIN alone takes the write lock at the first write, after another writer may have moved the head.
        writes = connection.get_execution_options().get("writes")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _postgres(url: URL) -> Engine:
    if url.get_backend_name() != "postgresql":
        raise ArgumentError(f"{url.get_backend_name()} is not supported")
    if "@" in (url.host or ""):
        raise ArgumentError("in a password, write @ as %40")
    url = url.set(drivername="postgresql+psycopg")
    return create_engine(url, connect_args=_POSTGRES, pool_pre_ping=True)
