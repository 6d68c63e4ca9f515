import contextlib
import json
import os
import subprocess
import sys
import threading
import urllib.error
import urllib.request

import pytest


class Running:
    """A `grm serve` process on loopback."""

    def __init__(self, *flags, **env):
        self.lines = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "grm_service", "serve", "--port", "0", *flags],
            env={**os.environ, **env},
            stderr=subprocess.PIPE,
            text=True,
        )
        self._up = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        assert self._up.wait(120), "".join(self.lines)
        self.curl = next((line.strip() for line in self.lines if line.strip().startswith("curl")), "")
        assert self.curl, "".join(self.lines)
        self.url = self.curl.split()[2].removesuffix("/v1/rewards")

    def _read(self):
        for line in self.process.stderr:
            self.lines.append(line)
            if "curl" in line:
                self._up.set()
        self._up.set()

    def post(self, path, body, timeout=120):
        request = urllib.request.Request(
            self.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=timeout) as reply:
                return reply.status, json.load(reply)
        except urllib.error.HTTPError as problem:
            with problem:
                return problem.code, json.load(problem)

    def stop(self):
        self.process.terminate()
        self.process.wait(60)
        self._reader.join(10)
        self.process.stderr.close()


@pytest.fixture(scope="session")
def running():
    @contextlib.contextmanager
    def _running(*flags, **env):
        server = Running(*flags, **env)
        try:
            yield server
        finally:
            server.stop()

    return _running


@pytest.fixture(scope="session")
def default(running, smollm):
    """The default service with the real default model."""
    with running() as server:
        yield server
