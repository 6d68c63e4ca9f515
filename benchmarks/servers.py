"""Server processes: start, wait until ready, measure, stop."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import psutil

SERVE = [sys.executable, "-m", "grm_service", "serve", "--port", "{port}"]


@dataclass(frozen=True)
class Server:
    url: str
    process: psutil.Process

    def rss_gb(self) -> float:
        """Return the resident memory of the process and its children in GiB."""
        total = 0
        for process in [self.process, *self.process.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                total += process.memory_info().rss
        return total / 2**30


@contextlib.contextmanager
def started(command: list[str], ready: str, timeout_s: float = 300, **env: str) -> Iterator[Server]:
    """Run a command until the block ends; `{port}` in it is replaced by a free port.

    `ready` is a path that returns 200 when the server is ready. Raises RuntimeError with the log if it never
    does.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [part.replace("{port}", str(port)) for part in command]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **env})
        server = Server(f"http://127.0.0.1:{port}", psutil.Process(process.pid))
        try:
            deadline = time.monotonic() + timeout_s
            while not _answers(server.url + ready):
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    raise RuntimeError(f"{command[0]} did not start: {log.read()[-3000:]}")
                time.sleep(0.5)
            yield server
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


@contextlib.contextmanager
def grm(command: list[str] = SERVE, **env: str) -> Iterator[Server]:
    """Run the service with `grm serve` and an audit trail of its own."""
    with tempfile.TemporaryDirectory() as folder:
        trail = {"GRM_AUDIT_URL": f"sqlite:///{folder}/audit.db", "GRM_AUDIT_KEY_FILE": f"{folder}/audit.key"}
        with started(command, "/readyz", **trail, **env) as server:
            yield server
