"""Model servers of other projects, as processes on loopback."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx


@contextlib.contextmanager
def serving(log, *command, **env):
    """Run a server on a free port and yield its address; `{port}` in the command is replaced by the port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    parts = [
        str(part).replace("{port}", str(port)) for part in (*command, "--host", "127.0.0.1", "--port", port)
    ]
    with log.open("wb") as out:
        process = subprocess.Popen(parts, stdout=out, stderr=out, env={**os.environ, **env})
    try:
        _wait(f"http://127.0.0.1:{port}/health", process, log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(60)


def transformers_serve(folder, log):
    """Run `transformers serve` with the model of a folder and yield its address."""
    command = Path(sys.executable).with_name("transformers")
    return serving(log, command, "serve", folder, HF_HUB_OFFLINE="1")


def _wait(url, process, log):
    for _ in range(720):
        with contextlib.suppress(httpx.HTTPError):
            # llama.cpp's server answers 503 while it loads; transformers serve answers 404.
            if httpx.get(url).status_code < 500:
                return
        assert process.poll() is None, log.read_text()
        time.sleep(0.25)
    raise AssertionError(f"{process.args[0]} did not come up: {log.read_text()}")
