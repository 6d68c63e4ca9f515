"""The precision in which torch computes a model on the processors that people have."""

import logging
import platform

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from grm_service.engines.meta_rm import TransformersMetaRM
from grm_service.engines.transformers import dtype
from grm_service.engines.transformers.engine import TransformersEngine
from grm_service.training import models
from tests.engines.test_meta_rm import save_meta_rm
from tests.engines.tiny import SIZES, save_model

BF16, F16, F32 = torch.bfloat16, torch.float16, torch.float32
X86, ARM = "x86_64", "aarch64"


@pytest.fixture
def cpu(monkeypatch):
    """Pretend to be a CPU without a GPU: flags of the processor, answers of oneDNN, the limit on it."""

    def _cpu(machine=X86, flags=(), onednn=(), limit=None):
        monkeypatch.setattr(platform, "machine", lambda: machine)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: "avx512_bf16" in flags)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: "amx_tile" in flags)
        monkeypatch.setattr(dtype, "_onednn", lambda query: query.split("_")[3] in onednn)
        for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):
            monkeypatch.delenv(name, raising=False)
        if limit:
            monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)

    return _cpu


EMULATED = ({}, {"onednn": ["bf16"]})  # AVX2; AVX-512 without bf16, where oneDNN emulates it


@pytest.mark.parametrize("machine", EMULATED, ids=["avx2", "avx512"])
@pytest.mark.parametrize("stored", [BF16, F16])
def test_emulated_precisions_become_float32(cpu, machine, stored):
    cpu(**machine)
    assert dtype.compute_dtype(stored, "cpu") == F32


@pytest.mark.parametrize("flag", ["avx512_bf16", "amx_tile"])
def test_native_bf16_stays(cpu, flag):
    cpu(flags=[flag], onednn=["bf16"])
    assert [dtype.compute_dtype(stored, "cpu") for stored in (BF16, F16, F32)] == [BF16, F32, F32]


def test_native_f16_stays(cpu):
    cpu(flags=["avx512_bf16"], onednn=["bf16", "fp16"])
    assert dtype.compute_dtype(F16, "cpu") == F16


@pytest.mark.parametrize("limit", ["AVX2", "avx2", "AVX512_CORE", "AVX512_CORE_VNNI"])
def test_limit_on_onednn_counts(cpu, limit):
    cpu(flags=["avx512_bf16", "amx_tile"], onednn=["bf16"], limit=limit)
    assert dtype.compute_dtype(BF16, "cpu") == F32
    assert models.trainer_arguments(1, False)["bf16"] is False


@pytest.mark.parametrize("limit", ["AVX512_CORE_BF16", "AVX512_CORE_AMX", "ALL"])
def test_limit_above_bf16_allows_it(cpu, limit):
    cpu(flags=["avx512_bf16"], onednn=["bf16"], limit=limit)
    assert dtype.compute_dtype(BF16, "cpu") == BF16


@pytest.mark.parametrize(("onednn", "expected"), [([], F32), (["bf16"], BF16)])
def test_arm_is_what_onednn_says(cpu, onednn, expected):
    cpu(ARM, onednn=onednn)
    assert dtype.compute_dtype(BF16, "cpu") == expected


def test_gpu_computes_what_is_stored(cpu):
    cpu()
    assert [dtype.compute_dtype(stored, "cuda") for stored in (BF16, F16, F32)] == [BF16, F16, F32]


def test_this_processor_can_be_queried():
    assert isinstance(dtype.has_bf16("cpu"), bool)
    assert isinstance(dtype.has_f16("cpu"), bool)


@pytest.fixture
def model():
    config = AutoConfig.for_model("llama", **SIZES | {"num_hidden_layers": 1})
    return AutoModelForCausalLM.from_config(config, dtype=BF16)


def test_log_says_which_and_why(cpu, model, caplog):
    cpu()
    with caplog.at_level(logging.INFO):
        placed = dtype.placed(model, "judge")
    assert {value.dtype for value in placed.parameters()} == {F32}
    assert caplog.messages == [
        "judge computes in float32 on cpu: this CPU has no instructions for bfloat16, in which it is stored"
    ]


@pytest.mark.parametrize("name", ["qwen2", "qwen3"])  # stored in bfloat16, in float16
def test_engine_loads_in_float32(cpu, tmp_path, name):
    cpu()
    engine = TransformersEngine("tiny", lambda: str(save_model(tmp_path, name)))
    assert engine._load().dtype == F32


def test_meta_rm_loads_in_float32(cpu, tmp_path):
    cpu()
    folder, model, _ = save_meta_rm(tmp_path)
    model.to(BF16).save_pretrained(folder)
    assert TransformersMetaRM(str(folder))._load().dtype == F32


def test_quantized_models_keep_theirs(cpu, model, caplog):
    cpu()
    model.is_quantized = True
    with caplog.at_level(logging.INFO):
        assert dtype.placed(model, "judge").dtype == BF16
    assert caplog.messages == ["judge computes in bfloat16 on cpu, as it is stored"]
