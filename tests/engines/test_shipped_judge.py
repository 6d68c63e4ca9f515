"""The tiny judge: our own adapter, merged into its base model when that is downloaded."""

from pathlib import Path

import pytest

from grm_service.engines.choice import choose_engine
from grm_service.engines.files import weights
from grm_service.engines.files.source import ModelSource, transformers_path
from grm_service.engines.transformers.engine import chat_template, encode
from grm_service.judging.prompt import render
from grm_service.profiles.catalog import load_catalog
from grm_service.settings import Settings
from grm_service.types import Message, Params

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]
PROFILE = load_catalog().profile("smollm2-judge")
PAIRS = [
    ("What is the capital of Australia?", ["Sydney.", "It is Canberra."]),
    ("Name three fruits.", ["Apple, pear and plum.", "I cannot say, it is a hard question."]),
    ("Is the earth flat?", ["Yes, everybody can see that.", "No, it is nearly a sphere."]),
]
PROMPTS = [render(PROFILE, (Message("user", query),), responses) for query, responses in PAIRS]


def greedy(model, tokenizer):
    import torch

    texts = []
    for prompt in PROMPTS:
        ids = torch.tensor([encode(tokenizer, chat_template(tokenizer).render(prompt, Params(1)).text)])
        out = model.generate(ids, max_new_tokens=96, do_sample=False, pad_token_id=0)
        texts.append(tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True))
    return texts


async def served(source):
    engine, _ = choose_engine("openvino", source, 0.2, "f32")
    await engine.start()
    try:
        return [(await engine.complete(prompt, Params(96))).text for prompt in PROMPTS]
    finally:
        await engine.close()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft 0.21 reads it
async def test_merged_judge_equals_peft(anyio_backend):
    """Greedy texts of the merged model equal PEFT's and differ from the base model's."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    cache = Settings().cache_dir
    base = weights.ensure_safetensors(PROFILE.gguf, cache)
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base)
    plain = greedy(model, tokenizer)
    adapted = greedy(PeftModel.from_pretrained(model, PROFILE.adapter.folder), tokenizer)
    judge = await served(ModelSource.from_profile(PROFILE, cache))
    assert judge == adapted
    assert not set(judge) & set(plain)


@pytest.mark.slow
async def test_critiques_end_with_scores(anyio_backend):
    from grm_service.judging import parse

    for text in await served(ModelSource.from_profile(PROFILE, Settings().cache_dir)):
        assert len(parse.parse(text, 2, PROFILE).scores) == 2


def test_adapter_is_small():
    files = list(Path(PROFILE.adapter.folder).iterdir())
    assert {file.name for file in files} == {"adapter_config.json", "adapter_model.safetensors", "README.md"}
    assert sum(file.stat().st_size for file in files) < 16 * 2**20


def test_transformers_loads_merged_model():
    folder = transformers_path(ModelSource.from_profile(PROFILE, Settings().cache_dir))
    assert PROFILE.adapter.sha256[:16] in folder
