"""The openvino engine; the tests of all engines are in test_contract.py."""

import asyncio
from functools import partial

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter, LlamaFileType
from gguf.quants import dequantize, quantize

from grm_service.engines import machine
from grm_service.engines.files import weights
from grm_service.engines.files.convert import convert
from grm_service.engines.files.metadata import read_metadata
from grm_service.engines.files.source import openvino_path
from grm_service.engines.openvino.engine import OpenVINOEngine
from grm_service.engines.openvino.pipeline import writable_file
from grm_service.errors import EngineError, ModelNotLoaded, PromptTooLong
from grm_service.types import Message, Params, Prompt
from tests.engines.tiny import save_model

pytestmark = pytest.mark.anyio


def ask(words):
    return Prompt((Message("user", "word " * words),))


def engine(smollm, kv_cache_gb=1.0, precision="f32"):
    return OpenVINOEngine("m", partial(openvino_path, smollm), kv_cache_gb, precision)


@pytest.fixture(scope="module")
async def small(smollm, anyio_backend):
    """An engine with a cache of 29 blocks (928 tokens)."""
    small = engine(smollm, 0.02)
    await small.start()
    yield small
    await small.close()


async def test_too_long_for_cache_is_refused(small):
    with pytest.raises(PromptTooLong, match=r"key-value cache \(GRM_KV_CACHE_GB\) holds 928"):
        await small.complete(ask(900), Params(100))


@pytest.mark.slow
async def test_full_cache_makes_requests_wait(small):
    stories = [Prompt((Message("user", f"{i} " + "Once upon a time. " * 65),)) for i in range(3)]
    completions = await asyncio.gather(*(small.complete(story, Params(40)) for story in stories))
    needed = sum(c.usage.prompt_tokens + c.usage.completion_tokens for c in completions)
    assert needed > 928
    assert all(completion.text for completion in completions)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    convert(save_model(folder, "llama"), folder / "model.gguf")
    return folder / "model.gguf"


@pytest.fixture
async def broken(tiny, anyio_backend):
    """An engine whose next step fails."""
    broken = OpenVINOEngine("m", lambda: tiny, 0.1, "f32")
    await broken.start()

    def crash():
        raise RuntimeError("out of memory")

    broken._pipeline.step = crash
    yield broken
    await broken.close()
    with pytest.raises(EngineError, match="not running"):
        await broken.complete(ask(3), Params(4))


async def test_failed_step_reloads_model(broken):
    with pytest.raises(EngineError, match="a step of the openvino engine failed: out of memory"):
        await broken.complete(ask(3), Params(4))
    assert (await broken.complete(ask(3), Params(4))).usage.completion_tokens == 4


async def test_failure_during_admission_fails_request(broken, monkeypatch):
    monkeypatch.setattr(broken._pipeline, "submit", lambda ids, params: broken._pipeline.step())
    with pytest.raises(EngineError, match="out of memory"):
        await broken.complete(ask(3), Params(4))


async def test_failed_reload_stops_engine(broken, tmp_path):
    """All pending requests fail; none hangs."""
    broken._files = lambda: tmp_path / "gone.gguf"
    pending = [broken.complete(ask(3), Params(4)) for _ in range(3)]
    for error in await asyncio.gather(*pending, return_exceptions=True):
        assert isinstance(error, EngineError)
    while broken.ready:
        await asyncio.sleep(0.01)


async def test_read_only_file_is_loaded(tiny, tmp_path, monkeypatch):
    # As in a read-only container: OpenVINO opens a GGUF for writing, so it loads a temporary copy.
    monkeypatch.setattr("os.access", lambda path, mode: False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with writable_file(tiny) as copy:
        assert copy != tiny
        assert copy.read_bytes() == tiny.read_bytes()
    engine = OpenVINOEngine("m", lambda: tiny, 0.1, "f32")
    await engine.start()
    assert (await engine.complete(ask(3), Params(4))).usage.completion_tokens == 4
    assert list(tmp_path.iterdir()) == []
    await engine.close()


async def test_invalid_file_raises(tmp_path):
    (tmp_path / "model.gguf").write_bytes(b"nonsense")
    with pytest.raises(ModelNotLoaded, match=r"model\.gguf"):
        await OpenVINOEngine("m", lambda: tmp_path / "model.gguf", 1.0, "f32").start()


def test_gguf_metadata(smollm):
    metadata = read_metadata(weights.ensure_engine_gguf(smollm.gguf, smollm.cache))
    assert metadata.context == 8192
    assert metadata.kv_values_per_token == 30 * 3 * 64 * 2
    assert "<|im_end|>" in metadata.control_tokens


def test_exported_model(smollm):
    """It has no GGUF any more, but all that was known from it."""
    folder = openvino_path(smollm)
    assert not list(folder.glob("*.gguf"))
    assert read_metadata(folder) == read_metadata(weights.ensure_engine_gguf(smollm.gguf, smollm.cache))


@pytest.mark.parametrize(
    ("files", "cores", "free"),
    [({"cpu.max": "100000 100000", "memory.max": "1073741824", "memory.current": "536870912"}, 1, 0.5),
     ({"cpu.max": "max 100000", "memory.max": "max", "memory.current": "1"}, None, None), ({}, None, None)],
    ids=["limited", "unlimited", "no container"],
)  # fmt: skip
def test_container_limits(files, cores, free, tmp_path, monkeypatch):
    for name, text in files.items():
        (tmp_path / name).write_text(text + "\n")
    unlimited, whole = machine.cpu_cores(), machine.free_memory_gb()
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    assert machine.cpu_cores() == (cores or unlimited)
    assert machine.free_memory_gb() == pytest.approx(free or whole, rel=0.2)


def misread(path, **changes):
    """Write a GGUF of one tensor; `changes` are features that OpenVINO misreads."""
    writer = GGUFWriter(path, "llama")
    writer.add_tokenizer_pre(changes.get("split", "smollm"))
    if "scaling" in changes:
        writer.add_rope_scaling_factor(8.0)
    kind = GGMLQuantizationType[changes.get("encoding", "F16")]
    weight = quantize(np.ones((32, 32), np.float32), kind)
    writer.add_tensor("token_embd.weight", weight, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize(
    ("changes", "says"),
    [({"split": "llama-bpe"}, "the tokenizer llama-bpe"), ({"scaling": True}, "scaled rotary positions"),
     ({"encoding": "Q4_1"}, "weights in Q4_1")],
    ids=["splitting", "scaling", "Q4_1"],
)  # fmt: skip
async def test_misread_gguf_is_refused(changes, says, tmp_path):
    path = misread(tmp_path / "model.gguf", **changes)
    with pytest.raises(ModelNotLoaded, match=rf"{says}, which OpenVINO misreads"):
        await OpenVINOEngine("m", lambda: path, 1.0, "f32").start()


@pytest.mark.parametrize("encoding", ["Q8_0", "Q4_0"])
async def test_quantised_weights_equal_f16(tiny, tmp_path, encoding):
    kind, texts = GGMLQuantizationType[encoding], []
    for path, keep in ((tmp_path / "as-it-is.gguf", True), (tmp_path / "f16.gguf", False)):
        requantised(tiny, path, kind, keep)
        reader = OpenVINOEngine("m", lambda path=path: path, 0.1, "f32")
        await reader.start()
        texts.append([(await reader.complete(ask(words), Params(8))).text for words in (1, 3)])
        await reader.close()
    assert texts[0] == texts[1]


def requantised(source, target, kind, keep):
    """Write the model with its weights rounded to `kind`, stored in that encoding (`keep`) or in F16."""
    reader, writer = GGUFReader(source), GGUFWriter(target, "llama")
    weights.copy_fields(reader, writer)
    writer.add_file_type(LlamaFileType[f"MOSTLY_{kind.name}"] if keep else LlamaFileType.MOSTLY_F16)
    for tensor in reader.tensors:
        values = dequantize(tensor.data, tensor.tensor_type)
        if tensor.tensor_type == GGMLQuantizationType.F32:
            writer.add_tensor(tensor.name, values.astype(np.float32))
        elif keep:
            writer.add_tensor(tensor.name, quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(tensor.name, dequantize(quantize(values, kind), kind).astype(np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


async def test_cancel_at_completion(tiny):
    """A request cancelled just as it completes must not fail the step."""
    engine = OpenVINOEngine("m", lambda: tiny, 0.1, "f32")
    await engine.start()
    pipeline, completion = engine._pipeline, engine._completion

    def cancel(request):
        request.result.cancel()
        return completion(request)

    engine._completion = cancel
    with pytest.raises(asyncio.CancelledError):
        await engine.complete(ask(3), Params(4))
    engine._completion = completion
    assert (await engine.complete(ask(3), Params(4))).usage.completion_tokens == 4
    assert engine._pipeline is pipeline
    await engine.close()
