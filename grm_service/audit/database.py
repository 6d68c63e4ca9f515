"""SQLite or PostgreSQL: connections, transactions, migrations."""

from __future__ import annotations

import logging
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from grm_service.addresses import without_credentials
from grm_service.audit.read_limit import limited
from grm_service.audit.schema import metadata
from grm_service.errors import AuditBroken, AuditUnavailable
from grm_service.private_files import create_empty, make_private

_WAIT_S = 10
_MIGRATION_LOCK = 5024950
_TABLES = frozenset({"alembic_version", *metadata.tables})
_Inode = tuple[int, int]
_PLACE = ("host", "port", "dbname", "service")
"""The parts of a PostgreSQL URL's query that say which database it is."""
_LOST = re.compile(r"no such (table|column)|table \w+ has no column")
"""How SQLite's error begins if a table or a column is gone."""
_LOST_STATES = ("42P01", "42703")
"""PostgreSQL's codes for the same."""
_POSTGRES = {
    "connect_timeout": _WAIT_S,
    "keepalives_idle": 30,
    "options": f"-c statement_timeout={_WAIT_S * 1000} -c lock_timeout={_WAIT_S * 1000}",
}


class Database:
    """A connection pool whose transactions raise AuditUnavailable if the database fails. Thread-safe.

    An SQLite file that goes away or is replaced counts as a failure: its connections would go on to write
    into a file that nobody can open any more.
    """

    def __init__(self, url: str) -> None:
        logging.getLogger("alembic").setLevel(logging.WARNING)
        self._file: Path | None = None
        self._opened: _Inode | None = None
        self._wal: _Inode | None = None
        self._read_only = False
        try:
            parsed = make_url(url)
            sqlite = parsed.get_backend_name() == "sqlite"
            self._engine = self._sqlite(parsed) if sqlite else _postgres(parsed)
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

    @property
    def place(self) -> str:
        """The address of the database: its URL without credentials, with an absolute path."""
        if self._file is not None:
            return f"sqlite:///{self._file.resolve()}"
        url = self._engine.url
        query = {name: value for name, value in url.query.items() if name in _PLACE}
        place = URL.create("postgresql", host=url.host, port=url.port, database=url.database, query=query)
        return place.render_as_string()

    @property
    def exists(self) -> bool:
        """Whether the SQLite file exists; True for a server."""
        return self._file is None or self._inode() is not None

    def close(self) -> None:
        self._engine.dispose()
        self._wal = None

    def open(self, create: bool) -> None:
        """Prepare the SQLite file for writing; with `create`, create it. Raises AuditUnavailable."""
        if self._file is None:
            return
        try:
            if create:
                create_empty(self._file)
            self._read_only = False
            for suffix in ("", "-wal", "-shm"):
                make_private(self._file.with_name(self._file.name + suffix))
        except OSError as failed:
            raise AuditUnavailable(f"the file of the audit trail cannot be created: {failed}") from None
        self._open_file()

    def open_to_read(self) -> None:
        """Let transactions read only, and create nothing. Raises AuditUnavailable if there is no file."""
        self._read_only = True
        if self._file is not None:
            self._open_file()

    def _open_file(self) -> None:
        self._opened, self._wal = self._inode(), None
        if self._opened is None:
            raise AuditUnavailable(f"there is no audit trail in {self.name}")

    def check_file(self) -> None:
        """Raise AuditUnavailable if the SQLite file, or its log, is not the one that was opened."""
        if not self._is_same_file():
            raise AuditUnavailable(f"the file of the audit trail in {self.name} is gone or was replaced")

    def _is_same_file(self) -> bool:
        if self._opened is None:
            return True
        # The log ("-wal") holds the newest records, and exists as long as this process has connections.
        return self._inode() == self._opened and self._wal in (None, self._inode("-wal"))

    def _inode(self, suffix: str = "") -> _Inode | None:
        try:
            stat = Path(f"{self._file}{suffix}").stat()
        except OSError:
            return None
        return stat.st_dev, stat.st_ino

    def lock(self, connection: Connection) -> None:
        """Exclude other processes that migrate, until the end of the transaction (SQLite: always so)."""
        if self._engine.name == "postgresql":
            connection.execute(text(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})"))

    def is_new(self, connection: Connection) -> bool:
        """Return whether the database has never held a trail. Raises AuditBroken if tables are missing."""
        present = _TABLES.intersection(inspect(connection).get_table_names())
        used = self._file is not None and bool(connection.exec_driver_sql("PRAGMA schema_version").scalar())
        if present == _TABLES and len(versions := self._versions(connection)) != 1:
            raise AuditBroken(f"the audit trail in {self.name} has tables of {len(versions)} versions")
        if present == _TABLES or not (present or used):
            return not present
        missing = ", ".join(sorted(_TABLES - present))
        raise AuditBroken(f"the audit trail in {self.name} has lost its tables {missing}")

    def damage(self, connection: Connection) -> str | None:
        """Return what SQLite reports as wrong in its file; None if nothing, and for PostgreSQL.

        An index that was changed may hide a record from lists.
        """
        if self._file is None:
            return None
        first = str(connection.exec_driver_sql("PRAGMA integrity_check(1)").scalar())
        return None if first == "ok" else first

    def migrate(self, connection: Connection) -> None:
        """Run the migrations. Raises AuditUnavailable."""
        try:
            command.upgrade(_alembic(connection), "head")
        except CommandError as wrong:
            raise AuditUnavailable(
                f"the audit trail in {self.name} was created by a newer version of grm-service: {wrong}"
            ) from None

    def require_current(self, connection: Connection) -> None:
        """Raise AuditUnavailable if the tables are those of another version."""
        (current,) = self._versions(connection)
        newest = ScriptDirectory.from_config(_alembic(connection)).get_current_head()
        if current != newest:
            raise AuditUnavailable(
                f"the audit trail in {self.name} has tables of version {current}, and this version of "
                f"grm-service reads version {newest}: start its service once, which migrates an older trail"
            )

    @staticmethod
    def _versions(connection: Connection) -> tuple[str, ...]:
        return MigrationContext.configure(connection).get_current_heads()

    def restore_tables(self, connection: Connection) -> None:
        """Create the tables that are missing."""
        metadata.create_all(connection)
        command.stamp(_alembic(connection), "head", purge=True)

    def _sqlite(self, url: URL) -> Engine:
        if url.database in (None, "", ":memory:"):
            raise ArgumentError("the URL must name a file")
        self._file = Path(str(url.database)).expanduser().absolute()
        engine = create_engine(url.set(database=str(self._file)), creator=self._connect)

        @event.listens_for(engine, "begin")
        def _begin(connection: Connection) -> None:
            # BEGIN alone locks at the first write, after another writer may have moved the head.
            writes = connection.get_execution_options().get("writes")
            connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

        return engine

    def _connect(self) -> sqlite3.Connection:
        file, mode = Path(str(self._file)), "mode=rw"  # never create: see `open`
        if self._read_only:
            # Without a WAL no service has the file open, and reading it needs no files beside it.
            mode = "mode=ro" if file.with_name(f"{file.name}-wal").exists() else "mode=ro&immutable=1"
        connection = sqlite3.connect(
            f"file:{quote(str(file))}?{mode}", uri=True, timeout=_WAIT_S, check_same_thread=False
        )
        connection.isolation_level = None  # the driver must not begin transactions: see _begin
        connection.text_factory = _text
        if not self._read_only:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
        return connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Open a transaction to write in; SQLite admits one at a time.

        Opens an SQLite file again that was replaced: the caller must check what it holds.
        """
        if self._file is not None and self._inode() is not None and not self._is_same_file():
            self._engine.dispose()
            self._open_file()
        with self._transaction(writes=True) as connection:
            yield connection
        if self._file is not None and self._wal is None:
            self._wal = self._inode("-wal")

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Open a transaction that reads one snapshot, within the limits of read_limit.py."""
        # SQLite transactions always read one snapshot.
        options = {"isolation_level": "REPEATABLE READ"} if self._engine.name == "postgresql" else {}
        with self._transaction(**options) as connection, limited(connection):
            yield connection

    @contextmanager
    def _transaction(self, **options: Any) -> Iterator[Connection]:
        self.check_file()
        try:
            with self._engine.connect().execution_options(**options) as connection, connection.begin():
                yield connection
        except SQLAlchemyError as failed:
            cause = getattr(failed, "orig", None) or failed
            why = " ".join(str(cause).split())
            lost = _LOST.match(why) or getattr(cause, "sqlstate", None) in _LOST_STATES
            kind = AuditBroken if lost else AuditUnavailable
            raise kind(f"the audit trail in {self.name} failed: {why}") from failed


def _text(stored: bytes) -> str | bytes:
    """Return a stored text; bytes if it is none, so that a check can name its record."""
    try:
        return stored.decode()
    except UnicodeDecodeError:
        return stored


def _alembic(connection: Connection) -> Config:
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", "grm_service.audit:migrations")
    return config


def _postgres(url: URL) -> Engine:
    if url.get_backend_name() != "postgresql":
        raise ArgumentError(f"{url.get_backend_name()} is not supported")
    if "@" in (url.host or ""):
        raise ArgumentError("in a password, write @ as %40")
    url = url.set(drivername="postgresql+psycopg")
    return create_engine(url, connect_args=_POSTGRES, pool_pre_ping=True)
