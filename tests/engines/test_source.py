"""The files that each embedded engine loads, and the models that it refuses."""

from functools import partial

import pytest

from grm_service.engines.choice import _auto
from grm_service.engines.files import source as model_source
from grm_service.engines.files.source import ModelSource, openvino_path, transformers_path
from grm_service.engines.openvino.engine import OpenVINOEngine
from grm_service.errors import ModelNotLoaded
from tests.engines.tiny import (
    FAMILIES,
    PAIR,
    SMOLLM,
    changed_json,
    save_adapter,
    save_model,
    save_tokenizer,
)  # fmt: skip

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return {name: save_model(tmp_path_factory.mktemp(name), name) for name in FAMILIES}


def source(path):
    return ModelSource(str(path), None, path)


def test_openvino_refuses_adapter(tiny, tmp_path):
    """The error names the command that merges it."""
    adapter = save_adapter(tmp_path / "lora", tiny["llama"], PAIR)
    expected = f"`grm models convert {adapter} {adapter}.gguf` and set GRM_MODEL={adapter}.gguf"
    with pytest.raises(ModelNotLoaded) as refused:
        openvino_path(source(adapter))
    assert "LoRA adapter" in str(refused.value)
    assert expected in str(refused.value)
    (adapter / "openvino_model.xml").touch()
    with pytest.raises(ModelNotLoaded, match="LoRA adapter"):
        openvino_path(source(adapter))
    save_adapter(adapter, "org/elsewhere", PAIR)
    with pytest.raises(ModelNotLoaded, match=r"--base FOLDER`"):
        openvino_path(source(adapter))


async def test_openvino_refuses_safetensors(tiny, tmp_path):
    """The error names the command that converts them."""
    engine = OpenVINOEngine("m", partial(openvino_path, source(tiny["qwen3"])), 0.1, "f32")
    with pytest.raises(ModelNotLoaded, match=rf"grm models convert {tiny['qwen3']} "):
        await engine.start()
    changed_json(tiny["llama"], tmp_path / "model", "config.json", {"architectures": ["GemmaForCausalLM"]})
    with pytest.raises(ModelNotLoaded, match="use the transformers engine"):
        openvino_path(source(tmp_path / "model"))


def test_transformers_loads_whole_adapter_only(tiny, tmp_path, monkeypatch):
    adapter = save_adapter(tmp_path / "lora", tiny["llama"], PAIR)
    (adapter / "openvino_model.xml").touch()
    assert _auto(source(adapter))[0] == "transformers"
    monkeypatch.setattr(model_source, "find_spec", lambda name: None)
    with pytest.raises(ModelNotLoaded, match=r"pip install peft, or merge it: `grm models convert"):
        transformers_path(source(adapter))
    monkeypatch.setattr(model_source, "find_spec", lambda name: name)
    with pytest.raises(ModelNotLoaded, match="no tokenizer"):
        transformers_path(source(adapter))
    save_tokenizer(adapter, SMOLLM)
    assert transformers_path(source(adapter)) == str(adapter)
    save_adapter(adapter, tiny["llama"], PAIR, use_dora=True)
    with pytest.raises(ModelNotLoaded, match="use_dora"):
        transformers_path(source(adapter))
