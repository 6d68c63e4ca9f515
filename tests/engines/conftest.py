import contextlib
import json
import os
from pathlib import Path

import pytest

from grm_service import backoff
from grm_service.engines.choice import choose_engine
from grm_service.engines.files import weights
from grm_service.engines.remote.openai import OpenAIEngine
from grm_service.engines.scripted import ScriptedEngine
from grm_service.engines.transformers.engine import TransformersEngine
from tests.servers import serving, transformers_serve

_SERVERS = Path(__file__).parents[2] / ".vllm/bin"
"""Installed by `make .vllm`."""


@pytest.fixture
def no_pauses(monkeypatch):
    """Retry at once."""
    monkeypatch.setattr(backoff, "pause_s", lambda min_s, attempt: 0)


@pytest.fixture(scope="session")
def served(smollm, tmp_path_factory):
    """A real OpenAI-compatible server on loopback: `transformers serve` with the default model."""
    folder = _sampling(
        weights.ensure_safetensors(smollm.gguf, smollm.cache), tmp_path_factory.mktemp("model")
    )
    log = tmp_path_factory.mktemp("serve") / "log"
    with transformers_serve(folder, log) as url:
        yield url, str(folder)


def _sampling(model, folder):
    """Save the model with `do_sample` on: without it, `transformers serve` ignores the temperature."""
    for file in model.iterdir():
        (folder / file.name).symlink_to(file)
    config = json.loads((model / "generation_config.json").read_text())
    (folder / "generation_config.json").unlink()
    (folder / "generation_config.json").write_text(json.dumps(config | {"do_sample": True}))
    return folder


@pytest.fixture(scope="session")
async def openvino(smollm, anyio_backend):
    engine, _ = choose_engine("openvino", smollm, 1, "f32")
    await engine.start()
    yield engine
    await engine.close()


@pytest.fixture(scope="session")
async def transformers(smollm, anyio_backend):
    engine, _ = choose_engine("transformers", smollm, 1, "f32")
    await engine.start()
    yield engine
    await engine.close()


@pytest.fixture(scope="session")
async def paged(smollm, anyio_backend):
    """The transformers engine with continuous batching, as on CUDA."""
    engine = TransformersEngine("m", lambda: weights.ensure_safetensors(smollm.gguf, smollm.cache), 1, True)
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
async def vllm(smollm, tmp_path_factory, anyio_backend):
    """vLLM on the CPU in float32."""
    command = [
        _SERVERS / "vllm", "serve", weights.ensure_safetensors(smollm.gguf, smollm.cache),
        "--dtype", "float32", "--max-model-len", "4096", "--max-num-seqs", "16", "--enforce-eager",
        "--served-model-name", "smollm",
    ]  # fmt: skip
    env = {
        "HF_HUB_OFFLINE": "1", "VLLM_CPU_KVCACHE_SPACE": "2", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1",
        "PATH": f"{_SERVERS}{os.pathsep}{os.environ['PATH']}",
    }  # fmt: skip
    with serving(tmp_path_factory.mktemp("vllm") / "log", *command, **env) as url:
        async with _started(OpenAIEngine(url)) as engine:
            yield engine


@pytest.fixture(scope="session")
async def llama(smollm, tmp_path_factory, anyio_backend):
    """llama.cpp's server."""
    gguf = weights.ensure_engine_gguf(smollm.gguf, smollm.cache)
    command = [_SERVERS / "llama-server", "-m", gguf, "-c", "8192", "-np", "4", "-kvu", "--alias", "smollm"]
    with serving(tmp_path_factory.mktemp("llama") / "log", *command) as url:
        async with _started(OpenAIEngine(url)) as engine:
            yield engine


@contextlib.asynccontextmanager
async def _started(engine):
    await engine.start()
    yield engine
    await engine.close()


@pytest.fixture(scope="session")
async def scripted(anyio_backend):
    engine = ScriptedEngine("content")
    await engine.start()
    return engine
