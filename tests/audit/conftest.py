"""Stores on both databases: SQLite, and a real PostgreSQL if its server is installed."""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import uuid
from pathlib import Path

import psycopg
import pytest

from grm_service.audit.store import Store


def _programs():
    """Return the folder of the server's programs, which Debian leaves out of PATH."""
    initdb = shutil.which("initdb") or next(
        iter(sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))), None
    )
    return None if initdb is None else Path(initdb).parent


@pytest.fixture(scope="session")
def postgres():
    """The URL of a PostgreSQL server that the tests start on loopback."""
    programs = _programs()
    if programs is None:
        pytest.skip("no PostgreSQL server here (Debian: apt-get install postgresql)")
    # The server refuses to run as root: run it as Debian's user, in a folder that this user can read.
    user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    with tempfile.TemporaryDirectory(prefix="grm-postgres-") as folder:
        if user:
            shutil.chown(folder, "postgres")
        data, run = f"{folder}/data", {"check": True, "cwd": "/", "stdout": subprocess.DEVNULL}
        flags = ["-D", data, "-U", "grm", "-A", "trust", "--no-sync"]
        subprocess.run([*user, programs / "initdb", *flags], **run)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        options = f"-c listen_addresses=127.0.0.1 -p {port} -k {folder} -c fsync=off"
        control = [*user, programs / "pg_ctl", "-D", data, "-w", "-l", f"{folder}/log"]
        subprocess.run([*control, "-o", options, "start"], **run)
        try:
            yield f"postgresql://grm@127.0.0.1:{port}"
        finally:
            subprocess.run([*control, "-m", "immediate", "stop"], **run)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    """An empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/audit.db"
    server, name = request.getfixturevalue("postgres"), f"t{uuid.uuid4().hex}"
    with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return f"{server}/{name}"


@pytest.fixture
def store(url, tmp_path):
    with contextlib.closing(Store(url, tmp_path / "audit.key")) as opened:
        opened.open()
        opened.url = url
        yield opened
