"""The judge that ships: an adapter of our own, merged into its base when that is fetched."""

from pathlib import Path

import pytest

from grm_service.engines.choice import Source, embedded, transformers_files
from grm_service.engines.files import weights
from grm_service.engines.transformers.engine import encode
from grm_service.judging.prompt import render
from grm_service.profiles.catalog import load_catalog
from grm_service.settings import Settings
from grm_service.types import Message, Params

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]
PROFILE = load_catalog().profile("smollm2-judge")
ASKED = [
    ("What is the capital of Australia?", ["Sydney.", "It is Canberra."]),
    ("Name three fruits.", ["Apple, pear and plum.", "I cannot say, it is a hard question."]),
    ("Is the earth flat?", ["Yes, everybody can see that.", "No, it is nearly a sphere."]),
]
PROMPTS = [render(PROFILE, (Message("user", query),), responses) for query, responses in ASKED]


def greedy(model, tokenizer):
    import torch

    texts = []
    for prompt in PROMPTS:
        ids = torch.tensor([encode(tokenizer, prompt)])
        out = model.generate(ids, max_new_tokens=96, do_sample=False, pad_token_id=0)
        texts.append(tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True))
    return texts


async def served(source):
    engine, _ = embedded("openvino", source, 0.2, "f32")
    await engine.start()
    try:
        return [(await engine.complete(prompt, Params(96))).text for prompt in PROMPTS]
    finally:
        await engine.close()


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft 0.21 asks
async def test_merged_it_answers_as_peft_does_and_not_as_its_base(anyio_backend):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    cache = Settings().cache_dir
    base = weights.safetensors(PROFILE.package, cache)
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base)
    plain = greedy(model, tokenizer)
    adapted = greedy(PeftModel.from_pretrained(model, PROFILE.adapter.folder), tokenizer)
    judge = await served(Source.of(PROFILE, cache))
    assert judge == adapted
    assert not set(judge) & set(plain)


async def test_it_ends_its_critiques_with_scores_by_itself(anyio_backend):
    from grm_service.judging import parse

    for text in await served(Source.of(PROFILE, Settings().cache_dir)):
        assert len(parse.parse(text, 2, PROFILE).scores) == 2


def test_the_adapter_is_small_enough_to_ship_and_names_its_base():
    files = list(Path(PROFILE.adapter.folder).iterdir())
    assert {file.name for file in files} == {"adapter_config.json", "adapter_model.safetensors", "README.md"}
    assert sum(file.stat().st_size for file in files) < 16 * 2**20


def test_transformers_reads_the_merged_model():
    folder = transformers_files(Source.of(PROFILE, Settings().cache_dir))
    assert PROFILE.adapter.sha256[:16] in folder
