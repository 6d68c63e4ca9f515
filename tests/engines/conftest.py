import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from grm_service.engines import weights
from grm_service.engines.choice import embedded
from grm_service.engines.openai import OpenAIEngine
from grm_service.engines.scripted import ScriptedEngine
from grm_service.engines.transformers import TransformersEngine


@pytest.fixture(scope="session")
def served(smollm, tmp_path_factory):
    """A real OpenAI-compatible server on loopback: `transformers serve` with the default model."""
    folder = _sampling(weights.safetensors(smollm.package, smollm.cache), tmp_path_factory.mktemp("model"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("serve") / "log"
    command = [
        Path(sys.executable).with_name("transformers"),
        "serve",
        folder,
        "--host",
        "127.0.0.1",
        "--port",
        port,
    ]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [str(part) for part in command], stdout=out, stderr=out, env={**os.environ, "HF_HUB_OFFLINE": "1"}
        )
    try:
        _wait(f"http://127.0.0.1:{port}/health", process, log)
        yield f"http://127.0.0.1:{port}/v1", str(folder)
    finally:
        process.terminate()
        process.wait(30)


def _sampling(model, folder):
    """The same model with `do_sample` on: `transformers serve` ignores a temperature where it is not."""
    for file in model.iterdir():
        (folder / file.name).symlink_to(file)
    config = json.loads((model / "generation_config.json").read_text())
    (folder / "generation_config.json").unlink()
    (folder / "generation_config.json").write_text(json.dumps(config | {"do_sample": True}))
    return folder


def _wait(url, process, log):
    for _ in range(240):
        with contextlib.suppress(httpx.HTTPError):
            httpx.get(url)
            return
        assert process.poll() is None, log.read_text()
        time.sleep(0.25)
    raise AssertionError(f"transformers serve did not come up: {log.read_text()}")


@pytest.fixture(scope="session")
async def openvino(smollm, anyio_backend):
    engine, _ = embedded("openvino", smollm, 1, "f32")
    await engine.start()
    yield engine
    await engine.close()


@pytest.fixture(scope="session")
async def transformers(smollm, anyio_backend):
    engine, _ = embedded("transformers", smollm, 1, "f32")
    await engine.start()
    yield engine
    await engine.close()


@pytest.fixture(scope="session")
async def paged(smollm, anyio_backend):
    """transformers with continuous batching, as on CUDA."""
    engine = TransformersEngine("m", lambda: weights.safetensors(smollm.package, smollm.cache), 1, True)
    await engine.start()
    yield engine
    await engine.close()


@pytest.fixture(scope="session")
async def openai(served, anyio_backend):
    engine = OpenAIEngine(*served)
    await engine.start()
    yield engine
    await engine.close()


@pytest.fixture(scope="session")
async def scripted(anyio_backend):
    engine = ScriptedEngine("content")
    await engine.start()
    return engine
