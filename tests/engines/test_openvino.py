"""What is OpenVINO's own; what all engines share is in test_contract.py."""

import asyncio
from functools import partial

import pytest

from grm_service.engines import choice, facts, machine
from grm_service.engines.openvino import OpenVINOEngine
from grm_service.errors import EngineError, ModelNotLoaded, PromptTooLong
from grm_service.types import Message, Params, Prompt

pytestmark = pytest.mark.anyio


def ask(words):
    return Prompt((Message("user", "word " * words),))


def engine(smollm, kv_cache_gb=1.0, precision="f32"):
    return OpenVINOEngine("m", partial(choice._openvino_files, smollm), kv_cache_gb, precision)


@pytest.fixture(scope="module")
async def small(smollm, anyio_backend):
    """An engine with a cache of 29 blocks, 928 tokens."""
    small = engine(smollm, 0.02)
    await small.start()
    yield small
    await small.close()


async def test_what_can_never_fit_the_cache_is_refused_with_the_sizes(small):
    with pytest.raises(PromptTooLong, match=r"key-value cache \(GRM_KV_CACHE_GB\) holds 928"):
        await small.complete(ask(900), Params(100))


async def test_what_fits_alone_waits_for_room_and_is_answered(small):
    stories = [Prompt((Message("user", f"{i} " + "Once upon a time. " * 100),)) for i in range(3)]
    completions = await asyncio.gather(*(small.complete(story, Params(40)) for story in stories))
    needed = sum(c.usage.prompt_tokens + c.usage.completion_tokens for c in completions)
    assert needed > 928
    assert all(completion.text for completion in completions)


async def test_a_failed_step_fails_its_requests_and_the_engine_comes_back(smollm):
    broken = engine(smollm)
    await broken.start()

    class Crash:
        def __getattr__(self, name):
            raise RuntimeError("out of memory")

    pipeline, broken._pipeline = broken._pipeline, Crash()
    with pytest.raises(EngineError, match="out of memory"):
        await broken.complete(ask(3), Params(4))
    assert broken._pipeline is not pipeline
    assert (await broken.complete(ask(3), Params(4))).text
    await broken.close()
    with pytest.raises(EngineError, match="not running"):
        await broken.complete(ask(3), Params(4))


async def test_an_engine_that_cannot_load_its_model_again_ends_and_hangs_nobody(smollm, tmp_path):
    broken = engine(smollm)
    await broken.start()
    broken._pipeline, broken._files = None, lambda: tmp_path / "gone.gguf"
    with pytest.raises(EngineError, match="a step of the openvino engine failed"):
        await broken.complete(ask(3), Params(4))
    await broken.close()
    assert not broken.ready
    with pytest.raises(EngineError, match="not running"):
        await broken.complete(ask(3), Params(4))


async def test_a_file_that_is_no_model_stops_the_start(tmp_path):
    (tmp_path / "model.gguf").write_bytes(b"nonsense")
    with pytest.raises(ModelNotLoaded, match=r"model\.gguf"):
        await OpenVINOEngine("m", lambda: tmp_path / "model.gguf", 1.0, "f32").start()


def test_the_facts_of_a_file(smollm):
    known = facts.read(choice._openvino_files(smollm))
    assert known.context == 8192
    assert known.kept_per_token == 30 * 3 * 64 * 2
    assert "<|im_end|>" in known.control_tokens


@pytest.mark.parametrize(
    ("files", "cores", "free"),
    [({"cpu.max": "100000 100000", "memory.max": "1073741824", "memory.current": "536870912"}, 1, 0.5),
     ({"cpu.max": "max 100000", "memory.max": "max", "memory.current": "1"}, None, None), ({}, None, None)],
    ids=["limited", "unlimited", "no container"],
)  # fmt: skip
def test_a_container_s_limits_count(files, cores, free, tmp_path, monkeypatch):
    for name, text in files.items():
        (tmp_path / name).write_text(text + "\n")
    unlimited, whole = machine.cores(), machine.free_gb()
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    assert machine.cores() == (cores or unlimited)
    assert machine.free_gb() == pytest.approx(free or whole, rel=0.2)
