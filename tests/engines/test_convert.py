"""Conversion to GGUF. F16 holds the tiny models' weights exactly, so all greedy texts must be equal."""

from contextlib import asynccontextmanager

import openvino_genai
import pytest
import torch
from gguf import GGUFReader
from transformers import AutoModelForCausalLM, AutoTokenizer

from grm_service.engines.files import weights
from grm_service.engines.files.checkpoint import Checkpoint
from grm_service.engines.files.convert import convert
from grm_service.engines.openvino.engine import OpenVINOEngine
from grm_service.errors import ModelNotLoaded
from grm_service.types import Message, Params, Prompt
from tests.engines.tiny import (
    FAMILIES,
    PAIR,
    PROMPTS,
    ROWS,
    SMOLLM,
    TEMPLATE,
    Q,
    changed_json,
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
async def test_converted_model_equals_transformers(name, tiny, tmp_path):
    convert(tiny[name], tmp_path / "model.gguf")
    texts = await openvino_texts(tmp_path / "model.gguf")
    assert texts == transformers_texts(tiny[name])
    assert len(set(texts)) == len(PROMPTS)


@pytest.mark.parametrize("name", FAMILIES)
async def test_merged_adapter_equals_transformers(name, tiny, tmp_path):
    tensors = pairs(tiny[name])
    convert(save_adapter(tmp_path / "lora", tiny[name], tensors), tmp_path / "model.gguf")
    texts = await openvino_texts(tmp_path / "model.gguf")
    assert texts == transformers_texts(tiny[name], merged(tiny[name], tensors, scale=8 / 4))
    assert not set(texts) & set(transformers_texts(tiny[name]))


async def test_saved_modules_replace_base(tiny, tmp_path):
    """A saved head also unties it from the embedding."""
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
def test_lora_scale_equals_peft(config, scale, tiny, tmp_path):
    module, tensors = "model.layers.0.self_attn.q_proj", pair("model.layers.0.self_attn.q_proj", 128, 64)
    adapter = save_adapter(tmp_path / "lora", tiny["llama"], tensors, **config)
    weight = Checkpoint.load(adapter, None).merged_weight(f"{module}.weight")
    expected = merged(tiny["llama"], tensors, scale).get_parameter(f"{module}.weight")
    assert (weight == expected.detach().numpy()).all()


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
def test_unsupported_adapter_is_refused(tensors, config, says, tiny, tmp_path):
    adapter = save_adapter(tmp_path / "lora", tiny["llama"], tensors, **config)
    with pytest.raises(ModelNotLoaded, match=says):
        convert(adapter, tmp_path / "model.gguf")
    assert [path.name for path in tmp_path.iterdir()] == ["lora"], "a partial file was left"


def test_base_option(tiny, tmp_path):
    """The base must be named if the folder also holds a model."""
    adapter = save_adapter(tmp_path / "lora", "org/elsewhere", PAIR)
    convert(adapter, tmp_path / "model.gguf", base=tiny["llama"])
    for file in tiny["llama"].iterdir():
        (adapter / file.name).symlink_to(file)
    with pytest.raises(ModelNotLoaded, match="a model and an adapter"):
        convert(adapter, tmp_path / "model.gguf")
    convert(adapter, tmp_path / "model.gguf", base=adapter)
    with pytest.raises(ModelNotLoaded, match="is no adapter"):
        convert(tiny["llama"], tmp_path / "model.gguf", base=tiny["llama"])


def test_adapter_tokenizer_takes_precedence(tiny, tmp_path):
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
        ("llama", {"architectures": None}, "not named"),
        ("llama", {"attention_bias": True}, "biases of queries"),
        ("llama", {"rope_parameters": {"rope_type": "llama3", "rope_theta": 1.0}}, r"\(llama3\)"),
        ("qwen2", {"rope_scaling": {"type": "yarn", "factor": 4.0}, "rope_parameters": None}, r"\(yarn\)"),
        ("qwen2", {"use_sliding_window": True}, "sliding"),
        ("qwen3", {"layer_types": ["full_attention", "sliding_attention"]}, "sliding"),
        ("qwen3", {"quantization_config": {"bits": 4}}, "quantised"),
        ("qwen3", {"hidden_act": "gelu"}, "gelu"),
        ("qwen3", {"num_hidden_layers": 1}, "no name for .* model.layers.1"),
        ("llama", {"tie_word_embeddings": False}, "lacks the weight lm_head"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_unsupported_model_is_refused(name, changed, says, tiny, tmp_path):
    changed_json(tiny[name], tmp_path / "model", "config.json", changed)
    with pytest.raises(ModelNotLoaded, match=says):
        convert(tmp_path / "model", tmp_path / "model.gguf")


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"pre_tokenizer": {"type": "Metaspace"}}, "is not supported"),
        ({"pre_tokenizer": {"type": "Split", "pattern": {"Regex": r"\p{N}{1,3}"}}}, "is not supported"),
        ({"normalizer": {"type": "Lowercase"}}, "is not supported"),
        ({"added_tokens": [{"id": ROWS, "content": "<new>", "special": True}]}, "only 352 rows"),
    ],
)
def test_unsupported_tokenizer_is_refused(changed, says, tiny, tmp_path):
    changed_json(tiny["qwen2"], tmp_path / "model", "tokenizer.json", changed)
    with pytest.raises(ModelNotLoaded, match=says):
        convert(tmp_path / "model", tmp_path / "model.gguf")


def test_missing_chat_template_is_refused(tiny, tmp_path):
    changed_json(tiny["qwen2"], tmp_path / "model", "config.json", {})
    (tmp_path / "model" / "chat_template.jinja").unlink()
    with pytest.raises(ModelNotLoaded, match="no chat template"):
        convert(tmp_path / "model", tmp_path / "model.gguf")


@pytest.mark.parametrize("name", ["llama", "qwen2"])
def test_same_tokens_as_transformers(name, tiny, tmp_path):
    convert(tiny[name], tmp_path / "model.gguf")
    ours, theirs = (
        openvino_genai.Tokenizer(str(tmp_path / "model.gguf")),
        AutoTokenizer.from_pretrained(tiny[name]),
    )
    for text in (*PROMPTS, "I'LL we'll  \n\n  x\t1234 5.6 <|im_end|>\n!!! (a)b — déjà vu 你好 ²", TEMPLATE):
        assert ours.encode(text, add_special_tokens=False).input_ids.data[0].tolist() == theirs.encode(
            text, add_special_tokens=False
        )


async def test_q8_0(tiny, tmp_path):
    convert(tiny["qwen2"], tmp_path / "model.gguf", encoding="q8_0")
    assert (tmp_path / "model.gguf").stat().st_size < 0.8 * sum(
        file.stat().st_size for file in tiny["qwen2"].glob("*.safetensors")
    )
    assert all(await openvino_texts(tmp_path / "model.gguf"))


def test_sharded_checkpoint(tiny, tmp_path):
    AutoModelForCausalLM.from_pretrained(tiny["llama"]).save_pretrained(
        tmp_path / "model", max_shard_size="100KB"
    )
    save_tokenizer(tmp_path / "model", SMOLLM)
    assert len(list((tmp_path / "model").glob("*.safetensors"))) > 1
    convert(tmp_path / "model", tmp_path / "shards.gguf")
    convert(tiny["llama"], tmp_path / "one.gguf")
    assert stored(GGUFReader(tmp_path / "shards.gguf")) == stored(GGUFReader(tmp_path / "one.gguf"))


def test_failure_keeps_existing_file(tiny, tmp_path):
    infinite = {k: 1e6 * v for k, v in PAIR.items()}
    (tmp_path / "model.gguf").write_bytes(b"the last one")
    with pytest.raises(ModelNotLoaded, match="overflow"):
        convert(save_adapter(tmp_path / "lora", tiny["llama"], infinite), tmp_path / "model.gguf")
    assert (tmp_path / "model.gguf").read_bytes() == b"the last one"
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.slow
def test_round_trip_of_default_model(smollm, tmp_path):
    """Weights and tokenizer are bitwise equal, so all generated texts are equal too."""
    convert(weights.ensure_safetensors(smollm.gguf, smollm.cache), tmp_path / "model.gguf")
    ours = GGUFReader(tmp_path / "model.gguf")
    theirs = GGUFReader(weights.ensure_engine_gguf(smollm.gguf, smollm.cache))
    ignored = {"GGUF.kv_count", "tokenizer.ggml.add_bos_token", "tokenizer.ggml.add_space_prefix"}
    for key in {key for key in theirs.fields if not key.startswith("general.")} - ignored:
        assert ours.fields[key].contents() == theirs.fields[key].contents(), key
    assert stored(ours) == stored(theirs)


def stored(reader):
    return {tensor.name: (tensor.tensor_type, tensor.data.tobytes()) for tensor in reader.tensors}
