"""What is OpenVINO's own; what all engines share is in test_contract.py."""

import asyncio
from functools import partial

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter, LlamaFileType
from gguf.quants import dequantize, quantize

from grm_service.engines import choice, machine
from grm_service.engines.files import facts, weights
from grm_service.engines.files.convert import convert
from grm_service.engines.openvino.engine import OpenVINOEngine
from grm_service.engines.openvino.pipeline import writable
from grm_service.errors import EngineError, ModelNotLoaded, PromptTooLong
from grm_service.types import Message, Params, Prompt
from tests.engines.tiny import save_model

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


async def test_a_failed_step_fails_its_requests_and_the_engine_comes_back(broken):
    with pytest.raises(EngineError, match="a step of the openvino engine failed: out of memory"):
        await broken.complete(ask(3), Params(4))
    assert (await broken.complete(ask(3), Params(4))).usage.completion_tokens == 4


async def test_what_fails_while_it_is_admitted_is_failed_too(broken, monkeypatch):
    monkeypatch.setattr(broken._pipeline, "begin", lambda ids, params: broken._pipeline.step())
    with pytest.raises(EngineError, match="out of memory"):
        await broken.complete(ask(3), Params(4))


async def test_an_engine_that_cannot_load_its_model_again_ends_and_hangs_nobody(broken, tmp_path):
    broken._files = lambda: tmp_path / "gone.gguf"
    asked = [broken.complete(ask(3), Params(4)) for _ in range(3)]
    for failed in await asyncio.gather(*asked, return_exceptions=True):
        assert isinstance(failed, EngineError)
    while broken.ready:
        await asyncio.sleep(0.01)


async def test_a_file_that_may_not_be_written_is_read_all_the_same(tiny, tmp_path, monkeypatch):
    # As in a read-only container: OpenVINO opens a GGUF for writing, and gets a copy while it loads.
    monkeypatch.setattr("os.access", lambda path, mode: False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with writable(tiny) as lent:
        assert lent != tiny
        assert lent.read_bytes() == tiny.read_bytes()
    engine = OpenVINOEngine("m", lambda: tiny, 0.1, "f32")
    await engine.start()
    assert (await engine.complete(ask(3), Params(4))).usage.completion_tokens == 4
    assert list(tmp_path.iterdir()) == []
    await engine.close()


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


def misread(path, **changes):
    """A GGUF of one tensor; `changes` name what OpenVINO would misread."""
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
async def test_what_openvino_misreads_is_refused(changes, says, tmp_path):
    path = misread(tmp_path / "model.gguf", **changes)
    with pytest.raises(ModelNotLoaded, match=rf"{says}, which OpenVINO misreads"):
        await OpenVINOEngine("m", lambda: path, 1.0, "f32").start()


@pytest.mark.parametrize("encoding", ["Q8_0", "Q4_0"])
async def test_quantised_weights_are_read_as_what_they_stand_for(tiny, tmp_path, encoding):
    kind, texts = GGMLQuantizationType[encoding], []
    for path, keep in ((tmp_path / "as-it-is.gguf", True), (tmp_path / "f16.gguf", False)):
        requantised(tiny, path, kind, keep)
        reader = OpenVINOEngine("m", lambda path=path: path, 0.1, "f32")
        await reader.start()
        texts.append([(await reader.complete(ask(words), Params(8))).text for words in (1, 3)])
        await reader.close()
    assert texts[0] == texts[1]


def requantised(source, target, kind, keep):
    """The same model with weights rounded to `kind`, kept so or written as F16."""
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


async def test_a_caller_that_leaves_just_as_its_answer_comes_disturbs_nobody(tiny):
    engine = OpenVINOEngine("m", lambda: tiny, 0.1, "f32")
    await engine.start()
    pipeline, completion = engine._pipeline, engine._completion

    def leave(request):
        request.done.cancel()
        return completion(request)

    engine._completion = leave
    with pytest.raises(asyncio.CancelledError):
        await engine.complete(ask(3), Params(4))
    engine._completion = completion
    assert (await engine.complete(ask(3), Params(4))).usage.completion_tokens == 4
    assert engine._pipeline is pipeline
    await engine.close()
