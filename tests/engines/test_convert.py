"""F16 holds the tiny models' weights exactly, so that the engines' greedy texts must be equal."""

import json
from contextlib import asynccontextmanager
from functools import partial

import openvino_genai
import pytest
import torch
from gguf import GGUFReader
from transformers import AutoModelForCausalLM, AutoTokenizer

from grm_service.engines import choice
from grm_service.engines.choice import Source
from grm_service.engines.files import weights
from grm_service.engines.files.checkpoint import Checkpoint
from grm_service.engines.files.convert import convert
from grm_service.engines.openvino.engine import OpenVINOEngine
from grm_service.errors import ModelNotLoaded
from grm_service.types import Message, Params, Prompt
from tests.engines.tiny import (
    FAMILIES,
    PROMPTS,
    ROWS,
    SMOLLM,
    TEMPLATE,
    pair,
    pairs,
    save_adapter,
    save_model,
    save_tokenizer,
)  # fmt: skip

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return {name: save_model(tmp_path_factory.mktemp(name), name) for name in FAMILIES}


def merged(base, tensors, scale):
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    for name in {key.partition(".lora_")[0] for key in tensors}:
        product = tensors[f"{name}.lora_B.weight"] @ tensors[f"{name}.lora_A.weight"]
        model.get_parameter(f"{name}.weight").data += scale * product
    return model


def transformers_texts(folder, model=None):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = model or AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    texts = []
    for prompt in PROMPTS:
        turns = [{"role": "user", "content": prompt}]
        ids = tokenizer.apply_chat_template(
            turns, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        out = model.generate(**ids, max_new_tokens=24, do_sample=False, pad_token_id=1)
        texts.append(tokenizer.decode(out[0, ids["input_ids"].shape[1] :], skip_special_tokens=True))
    return texts


@asynccontextmanager
async def openvino(path):
    engine = OpenVINOEngine("m", lambda: path, 0.1, "f32")
    await engine.start()
    yield engine
    await engine.close()


async def openvino_texts(path):
    async with openvino(path) as engine:
        return [(await engine.complete(Prompt((Message("user", p),)), Params(24))).text for p in PROMPTS]


@pytest.mark.parametrize("name", FAMILIES)
async def test_the_converted_model_writes_what_transformers_writes(name, tiny, tmp_path):
    convert(tiny[name], tmp_path / "model.gguf")
    texts = await openvino_texts(tmp_path / "model.gguf")
    assert texts == transformers_texts(tiny[name])
    assert len(set(texts)) == len(PROMPTS)


@pytest.mark.parametrize("name", FAMILIES)
async def test_a_merged_adapter_changes_the_text_as_transformers_with_merged_weights(name, tiny, tmp_path):
    tensors = pairs(tiny[name])
    convert(save_adapter(tmp_path / "lora", tiny[name], tensors), tmp_path / "model.gguf")
    texts = await openvino_texts(tmp_path / "model.gguf")
    assert texts == transformers_texts(tiny[name], merged(tiny[name], tensors, scale=8 / 4))
    assert not set(texts) & set(transformers_texts(tiny[name]))


async def test_modules_saved_whole_replace_the_base_s_and_untie_the_head(tiny, tmp_path):
    base = AutoModelForCausalLM.from_pretrained(tiny["qwen3"], dtype=torch.float32)
    head = base.get_output_embeddings().weight.detach().flip(1)
    save_adapter(tmp_path / "lora", tiny["qwen3"], {"lm_head.weight": head}, modules_to_save=["lm_head"])
    convert(tmp_path / "lora", tmp_path / "model.gguf")
    untied = AutoModelForCausalLM.from_pretrained(
        tiny["qwen3"], dtype=torch.float32, tie_word_embeddings=False
    )
    untied.get_output_embeddings().weight.data = head
    texts = await openvino_texts(tmp_path / "model.gguf")
    assert texts == transformers_texts(tiny["qwen3"], untied)
    assert texts != transformers_texts(tiny["qwen3"])


@pytest.mark.parametrize(
    ("config", "scale"),
    [
        ({}, 8 / 4),
        ({"lora_alpha": 3}, 3 / 4),
        ({"use_rslora": True}, 8 / 2),
        ({"alpha_pattern": {"layers.0.self_attn.q_proj": 32, "k_proj": 1}}, 32 / 4),
        ({"alpha_pattern": {r"layers\.1\..*": 32}}, 8 / 4),
        ({"r": 64, "rank_pattern": {"q_proj": 4}}, 8 / 4),
        ({"fan_in_fan_out": True, "use_dora": False, "runtime_config": {"ephemeral_gpu_offload": False}}, 2),
    ],
    ids=str,
)
def test_an_adapter_is_scaled_as_peft_scales_it(config, scale, tiny, tmp_path):
    module, tensors = "model.layers.0.self_attn.q_proj", pair("model.layers.0.self_attn.q_proj", 128, 64)
    adapter = save_adapter(tmp_path / "lora", tiny["llama"], tensors, **config)
    found = Checkpoint.of(adapter, None).merged(f"{module}.weight")
    expected = merged(tiny["llama"], tensors, scale).get_parameter(f"{module}.weight")
    assert (found == expected.detach().numpy()).all()


Q = "model.layers.0.self_attn.q_proj"
PAIR = pair(Q, 128, 64)


@pytest.mark.parametrize(
    ("tensors", "config", "says"),
    [
        (PAIR | pair("model.layers.7.mlp.up_proj", 8, 8), {}, "2 tensors .* such as model.layers.7"),
        ({f"{Q}.lora_A.weight": PAIR[f"{Q}.lora_A.weight"]}, {}, "belong to no weight"),
        (PAIR | {f"{Q}.lora_magnitude_vector": torch.ones(128)}, {}, "lora_magnitude_vector"),
        (PAIR | {"model.embed_tokens.lora_embedding_A": torch.ones(4, ROWS)}, {}, "lora_embedding_A"),
        (PAIR | {"score.weight": torch.ones(1, 64)}, {"modules_to_save": ["score"]}, "score.weight"),
        (PAIR, {"use_dora": True}, "use_dora: True"),
        (PAIR, {"something_new": {"of": "PEFT"}}, "something_new"),
        (PAIR, {"init_lora_weights": "pissa"}, "init_lora_weights: pissa"),
        (PAIR, {"peft_type": "LOHA"}, "peft_type: LOHA"),
        (PAIR, {"target_modules": None}, "target_modules: None"),
        (PAIR | {f"{Q}.lora_B.weight": torch.zeros(128, 4)}, {}, "changes nothing"),
        ({}, {}, "holds no tensors"),
        (PAIR, {"base_model_name_or_path": "org/elsewhere"}, "--base"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_adapter_that_is_not_wholly_understood_is_refused(tensors, config, says, tiny, tmp_path):
    adapter = save_adapter(tmp_path / "lora", tiny["llama"], tensors, **config)
    with pytest.raises(ModelNotLoaded, match=says):
        convert(adapter, tmp_path / "model.gguf")
    assert [path.name for path in tmp_path.iterdir()] == ["lora"], "nothing half-made is left"


def test_the_base_may_be_named_and_must_be_beside_a_model(tiny, tmp_path):
    adapter = save_adapter(tmp_path / "lora", "org/elsewhere", PAIR)
    convert(adapter, tmp_path / "model.gguf", base=tiny["llama"])
    for file in tiny["llama"].iterdir():
        (adapter / file.name).symlink_to(file)
    with pytest.raises(ModelNotLoaded, match="a model and an adapter"):
        convert(adapter, tmp_path / "model.gguf")
    convert(adapter, tmp_path / "model.gguf", base=adapter)
    with pytest.raises(ModelNotLoaded, match="is no adapter"):
        convert(tiny["llama"], tmp_path / "model.gguf", base=tiny["llama"])


def test_an_adapter_s_own_tokenizer_goes_before_its_base_s(tiny, tmp_path):
    adapter = save_adapter(tmp_path / "lora", tiny["llama"], PAIR)
    save_tokenizer(adapter, SMOLLM)
    (adapter / "chat_template.jinja").write_text(TEMPLATE + "{# the adapter's #}")
    convert(adapter, tmp_path / "model.gguf")
    template = GGUFReader(tmp_path / "model.gguf").fields["tokenizer.chat_template"].contents()
    assert template.endswith("{# the adapter's #}")


@pytest.mark.parametrize(
    ("name", "changed", "says"),
    [
        ("llama", {"architectures": ["MistralForCausalLM"]}, "MistralForCausalLM.*LlamaForCausalLM, Qwen2"),
        ("llama", {"architectures": None}, "does not name"),
        ("llama", {"attention_bias": True}, "biases of queries"),
        ("llama", {"rope_parameters": {"rope_type": "llama3", "rope_theta": 1.0}}, r"\(llama3\)"),
        ("qwen2", {"rope_scaling": {"type": "yarn", "factor": 4.0}, "rope_parameters": None}, r"\(yarn\)"),
        ("qwen2", {"use_sliding_window": True}, "sliding"),
        ("qwen3", {"layer_types": ["full_attention", "sliding_attention"]}, "sliding"),
        ("qwen3", {"quantization_config": {"bits": 4}}, "quantised"),
        ("qwen3", {"hidden_act": "gelu"}, "gelu"),
        ("qwen3", {"num_hidden_layers": 1}, "no place for .* model.layers.1"),
        ("llama", {"tie_word_embeddings": False}, "lacks the weight lm_head"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_what_openvino_would_refuse_or_leave_out_is_refused(name, changed, says, tiny, tmp_path):
    changed_json(tiny[name], tmp_path / "model", "config.json", changed)
    with pytest.raises(ModelNotLoaded, match=says):
        convert(tmp_path / "model", tmp_path / "model.gguf")


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"pre_tokenizer": {"type": "Metaspace"}}, "works otherwise"),
        ({"pre_tokenizer": {"type": "Split", "pattern": {"Regex": r"\p{N}{1,3}"}}}, "works otherwise"),
        ({"normalizer": {"type": "Lowercase"}}, "works otherwise"),
        ({"added_tokens": [{"id": ROWS, "content": "<new>", "special": True}]}, "only 352 rows"),
    ],
)
def test_a_tokenizer_that_openvino_reads_otherwise_is_refused(changed, says, tiny, tmp_path):
    changed_json(tiny["qwen2"], tmp_path / "model", "tokenizer.json", changed)
    with pytest.raises(ModelNotLoaded, match=says):
        convert(tmp_path / "model", tmp_path / "model.gguf")


def test_a_tokenizer_without_a_chat_template_is_refused(tiny, tmp_path):
    changed_json(tiny["qwen2"], tmp_path / "model", "config.json", {})
    (tmp_path / "model" / "chat_template.jinja").unlink()
    with pytest.raises(ModelNotLoaded, match="no chat template"):
        convert(tmp_path / "model", tmp_path / "model.gguf")


def changed_json(model, folder, file, changed):
    """The same model with another configuration."""
    folder.mkdir()
    for each in model.iterdir():
        (folder / each.name).symlink_to(each)
    (folder / file).unlink()
    (folder / file).write_text(json.dumps(json.loads((model / file).read_text()) | changed))


@pytest.mark.parametrize("name", ["llama", "qwen2"])
def test_texts_are_split_into_the_same_tokens(name, tiny, tmp_path):
    convert(tiny[name], tmp_path / "model.gguf")
    ours, theirs = (
        openvino_genai.Tokenizer(str(tmp_path / "model.gguf")),
        AutoTokenizer.from_pretrained(tiny[name]),
    )
    for text in (*PROMPTS, "I'LL we'll  \n\n  x\t1234 5.6 <|im_end|>\n!!! (a)b — déjà vu 你好 ²", TEMPLATE):
        assert ours.encode(text, add_special_tokens=False).input_ids.data[0].tolist() == theirs.encode(
            text, add_special_tokens=False
        )


async def test_q8_0_loads_and_answers(tiny, tmp_path):
    convert(tiny["qwen2"], tmp_path / "model.gguf", encoding="q8_0")
    assert (tmp_path / "model.gguf").stat().st_size < 0.8 * sum(
        file.stat().st_size for file in tiny["qwen2"].glob("*.safetensors")
    )
    assert all(await openvino_texts(tmp_path / "model.gguf"))


def test_a_checkpoint_in_several_files_is_read_whole(tiny, tmp_path):
    AutoModelForCausalLM.from_pretrained(tiny["llama"]).save_pretrained(
        tmp_path / "model", max_shard_size="100KB"
    )
    save_tokenizer(tmp_path / "model", SMOLLM)
    assert len(list((tmp_path / "model").glob("*.safetensors"))) > 1
    convert(tmp_path / "model", tmp_path / "shards.gguf")
    convert(tiny["llama"], tmp_path / "one.gguf")
    assert stored(GGUFReader(tmp_path / "shards.gguf")) == stored(GGUFReader(tmp_path / "one.gguf"))


def test_a_failure_in_the_middle_keeps_what_was_there(tiny, tmp_path):
    infinite = {k: 1e6 * v for k, v in PAIR.items()}
    (tmp_path / "model.gguf").write_bytes(b"the last one")
    with pytest.raises(ModelNotLoaded, match="overflow"):
        convert(save_adapter(tmp_path / "lora", tiny["llama"], infinite), tmp_path / "model.gguf")
    assert (tmp_path / "model.gguf").read_bytes() == b"the last one"
    assert len(list(tmp_path.iterdir())) == 2


def test_the_default_model_comes_out_as_its_own_gguf(smollm, tmp_path):
    """Bit for bit in weights and tokenizer, so every text of it is the same."""
    convert(weights.safetensors(smollm.package, smollm.cache), tmp_path / "model.gguf")
    ours, theirs = GGUFReader(tmp_path / "model.gguf"), GGUFReader(choice._openvino_files(smollm))
    unread = {"GGUF.kv_count", "tokenizer.ggml.add_bos_token", "tokenizer.ggml.add_space_prefix"}
    for key in {key for key in theirs.fields if not key.startswith("general.")} - unread:
        assert ours.fields[key].contents() == theirs.fields[key].contents(), key
    assert stored(ours) == stored(theirs)


def stored(reader):
    return {tensor.name: (tensor.tensor_type, tensor.data.tobytes()) for tensor in reader.tensors}


def source(path):
    return Source(str(path), None, path)


def test_openvino_refuses_an_adapter_with_the_command_that_merges_it(tiny, tmp_path):
    adapter = save_adapter(tmp_path / "lora", tiny["llama"], PAIR)
    wanted = f"`grm models convert {adapter} {adapter}.gguf` and set GRM_MODEL={adapter}.gguf"
    with pytest.raises(ModelNotLoaded) as refused:
        choice._openvino_files(source(adapter))
    assert "LoRA adapter" in str(refused.value)
    assert wanted in str(refused.value)
    (adapter / "openvino_model.xml").touch()
    with pytest.raises(ModelNotLoaded, match="LoRA adapter"):
        choice._openvino_files(source(adapter))
    save_adapter(adapter, "org/elsewhere", PAIR)
    with pytest.raises(ModelNotLoaded, match=r"--base FOLDER`"):
        choice._openvino_files(source(adapter))


async def test_openvino_refuses_a_folder_of_safetensors_with_the_way_out(tiny, tmp_path):
    engine = OpenVINOEngine("m", partial(choice._openvino_files, source(tiny["qwen3"])), 0.1, "f32")
    with pytest.raises(ModelNotLoaded, match=rf"grm models convert {tiny['qwen3']} "):
        await engine.start()
    changed_json(tiny["llama"], tmp_path / "model", "config.json", {"architectures": ["GemmaForCausalLM"]})
    with pytest.raises(ModelNotLoaded, match="use the transformers engine"):
        choice._openvino_files(source(tmp_path / "model"))


def test_transformers_takes_an_adapter_only_where_it_loads_all_of_it(tiny, tmp_path, monkeypatch):
    adapter = save_adapter(tmp_path / "lora", tiny["llama"], PAIR)
    (adapter / "openvino_model.xml").touch()
    assert choice._auto(source(adapter))[0] == "transformers"
    monkeypatch.setattr(choice, "find_spec", lambda name: None)
    with pytest.raises(ModelNotLoaded, match=r"pip install peft, or merge it: `grm models convert"):
        choice.transformers_files(source(adapter))
    monkeypatch.setattr(choice, "find_spec", lambda name: name)
    with pytest.raises(ModelNotLoaded, match="no tokenizer"):
        choice.transformers_files(source(adapter))
    save_tokenizer(adapter, SMOLLM)
    assert choice.transformers_files(source(adapter)) == str(adapter)
    save_adapter(adapter, tiny["llama"], PAIR, use_dora=True)
    with pytest.raises(ModelNotLoaded, match="use_dora"):
        choice.transformers_files(source(adapter))
