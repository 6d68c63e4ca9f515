"""The contract of an engine, tested with every engine: the behaviour that the judge relies on."""

import asyncio
import math
import re
from dataclasses import replace

import pytest

from grm_service.errors import EngineError, PromptTooLong
from grm_service.judging.parse import closing_regex, critique_regex
from grm_service.profiles.catalog import load_catalog
from grm_service.profiles.profile import Scale
from grm_service.types import Message, Params, Prompt

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(600)]

# A small judging prompt, which the scripted engine can answer too.
ASK = Prompt(
    (
        Message(
            "user",
            "Which is the capital of France? Compare the answers.\n[The Begin of Response 1]\nParis\n"
            "[The End of Response 1]\n[The Begin of Response 2]\nLyon\n[The End of Response 2]",
        ),
    )
)
SERVERS = [pytest.param(name, marks=pytest.mark.vllm) for name in ("vllm", "llama")]
# These take minutes on a CPU, so the fast tests have the contract in short.
LONG = [pytest.param(name, marks=pytest.mark.slow) for name in ("transformers", "paged", "openai")]
MODELS = ["openvino", *LONG, *SERVERS]


@pytest.fixture(params=[*MODELS, "scripted"])
def engine(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(params=MODELS)
def model(request):
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("engine", ["transformers", "paged", LONG[2]], indirect=True)
async def test_contract_in_short(engine):
    for test in (test_attributes, test_max_tokens, test_continuation_is_not_repeated):
        await test(engine)


async def test_attributes(engine):
    assert engine.name
    assert engine.model
    assert isinstance(engine.abilities.continues, bool)
    assert isinstance(engine.control_tokens, tuple)


async def test_greedy_is_deterministic(engine):
    first, second = [await engine.complete(ASK, Params(12)) for _ in range(2)]
    assert first.text == second.text
    assert first.text


async def test_same_seed_same_text(engine):
    first, second = [await engine.complete(ASK, Params(12, 0.8, 1.0, 5)) for _ in range(2)]
    assert first.text == second.text


async def test_other_seeds_differ(model):
    texts = {(await model.complete(ASK, Params(16, 1.0, 1.0, seed))).text for seed in range(4)}
    assert len(texts) >= 3


async def test_max_tokens(engine):
    completion = await engine.complete(ASK, Params(4))
    assert completion.finish_reason == "length"
    assert completion.usage.completion_tokens == 4
    assert completion.usage.prompt_tokens > 10


async def test_finish_reason_stop(model):
    completion = await model.complete(
        Prompt((Message("user", "What is the capital of France?"),)), Params(64)
    )
    assert completion.finish_reason == "stop"
    assert "Paris" in completion.text
    assert "<|im_end|>" not in completion.text


async def test_concurrent_requests(engine):
    completions = await asyncio.gather(
        *(engine.complete(ASK, Params(6, 0.8, 1.0, seed)) for seed in range(12))
    )
    assert all(c.text for c in completions)


async def test_cancelled_requests_are_dropped(engine):
    running = [asyncio.create_task(engine.complete(ASK, Params(120, 1.0, 1.0, seed))) for seed in range(3)]
    await asyncio.sleep(0.2)
    for task in running:
        task.cancel()
    results = await asyncio.gather(*running, return_exceptions=True)
    assert all(isinstance(r, asyncio.CancelledError) or r.text for r in results)
    assert (await engine.complete(ASK, Params(4))).text


async def test_continuation_is_not_repeated(engine):
    if not engine.abilities.continues:
        with pytest.raises(EngineError, match="continue"):
            await engine.complete(Prompt(ASK.messages, "Scores: \\boxed{"), Params(4))
        return
    completion = await engine.complete(Prompt(ASK.messages, "Scores: \\boxed{"), Params(4))
    assert not completion.text.startswith("Scores:")


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("n", [2, 5])
async def test_closing_regex_is_enforced(engine, n, temperature):
    if not engine.abilities.continues:
        pytest.skip("this server cannot continue a partial answer")
    if engine.name == "scripted":
        n = 2
    regex = closing_regex(n, Scale())
    prompt = Prompt(ASK.messages, "Both.\n\nScores: \\boxed{")
    completion = await engine.complete(prompt, Params(8 * n + 8, temperature, seed=3, regex=regex))
    assert completion.finish_reason == "stop"
    numbers = completion.text.removesuffix("}").split(", ")
    assert len(numbers) == n
    assert all(1 <= int(number) <= 10 for number in numbers)


async def test_critique_regex_is_enforced(model):
    """Whatever the model would rather write; a text that is cut off is the start of a match."""
    if not (model.abilities.continues and model.abilities.constrains):
        pytest.skip("this server cannot continue a partial answer, or enforce a regex")
    profile = replace(load_catalog().profile("qwen-judge"), opening="Criteria:\n1. The response")
    regex = critique_regex(2, profile)
    prompt = Prompt(ASK.messages, profile.opening)
    completion = await model.complete(prompt, Params(160, 1.0, seed=3, regex=regex))
    first, *lines = completion.text.split("\n")
    assert first
    assert lines
    allowed = re.compile(r"\d.*|Analysis: Response #[12] is best, because.+|Scores: \\boxed\{\d, \d\}")
    assert all(allowed.fullmatch(line) for line in lines[:-1])
    assert completion.finish_reason == "length" or re.fullmatch(regex, completion.text)


@pytest.mark.parametrize("engine", ["openvino", "transformers", "paged"], indirect=True)
async def test_too_long_prompt_names_sizes(engine):
    with pytest.raises(PromptTooLong, match=r"has (1\d{4}) tokens .* 20, .* holds 8192"):
        await engine.complete(Prompt((Message("user", "word " * 12_000),)), Params(20))
    with pytest.raises(PromptTooLong):
        await engine.complete(ASK, Params(8192))


@pytest.mark.parametrize("engine", ["openvino", "transformers", "paged"], indirect=True)
async def test_control_tokens(engine):
    assert {"<|im_start|>", "<|im_end|>", "<|endoftext|>"} <= set(engine.control_tokens)


PROMPTS = [
    "What is the capital of France?",
    "Write a haiku about rain.",
    "Explain why the sky is blue, né 🎉",
    "def f(x):\n    return x + 1\n\nWhat does f(2) return?",
    "Liste drei Städte auf.",
]


@pytest.mark.parametrize(
    "ask", [PROMPTS[2], *(pytest.param(ask, marks=pytest.mark.slow) for ask in (*PROMPTS[:2], *PROMPTS[3:]))]
)
async def test_openvino_equals_transformers(openvino, transformers, ask):
    """Fluent text alone would hide a misread quantisation or template."""
    prompt = Prompt((Message("system", "Be brief."), Message("user", ask)))
    first, second = [await engine.complete(prompt, Params(32)) for engine in (openvino, transformers)]
    assert first.text == second.text
    assert first.usage == second.usage


@pytest.mark.parametrize("model", [LONG[2], *SERVERS], indirect=True)
async def test_server_equals_transformers(model, transformers):
    for ask in PROMPTS[:3]:
        prompt = Prompt((Message("user", ask),))
        remote, local = [await engine.complete(prompt, Params(24)) for engine in (model, transformers)]
        assert remote.text == local.text


@pytest.mark.parametrize("model", SERVERS, indirect=True)
async def test_servers_have_all_abilities(model):
    assert model.abilities.lacking() == []


@pytest.mark.parametrize("model", SERVERS, indirect=True)
async def test_server_too_long_prompt_names_sizes(model):
    with pytest.raises(PromptTooLong, match=r"has \d{4,} tokens .* 20, .* holds (4096|8192)"):
        await model.complete(Prompt((Message("user", "word " * 12_000),)), Params(20))


async def test_alternatives_are_sorted(model):
    """They come from the model's own distribution, before temperature."""
    if not model.abilities.alternatives:
        pytest.skip("this server returns no logprobs")
    greedy = await model.complete(ASK, Params(3, alternatives=5))
    assert "".join(row[0].text for row in greedy.alternatives).strip() == greedy.text.strip()
    logprobs = [[token.logprob for token in row] for row in greedy.alternatives]
    assert all(row == sorted(row, reverse=True) for row in logprobs)
    assert all(0 < sum(map(math.exp, row)) <= 1 for row in logprobs)
    sampled = await model.complete(ASK, Params(1, 2.0, seed=1, alternatives=5))
    assert sampled.alternatives[0][0].logprob == pytest.approx(logprobs[0][0], abs=0.05)


async def test_alternatives_after_continuation(model):
    if not {"continues", "alternatives"}.isdisjoint(model.abilities.lacking()):
        pytest.skip("this server cannot return logprobs after a partial answer")
    completion = await model.complete(
        Prompt(ASK.messages, "The capital of France is Par"), Params(1, alternatives=20)
    )
    assert completion.alternatives[0][0].text == "is"


async def test_row_is_independent_of_batch(transformers):
    alone = await transformers.complete(ASK, Params(12, 1.0, 0.9, 7))
    others = [transformers.complete(ASK, Params(20, 1.0, 1.0, seed)) for seed in range(3)]
    among, *_ = await asyncio.gather(transformers.complete(ASK, Params(12, 1.0, 0.9, 7)), *others)
    assert among.text == alone.text


async def test_tiny_top_p_is_greedy(transformers):
    greedy = await transformers.complete(ASK, Params(8))
    assert (await transformers.complete(ASK, Params(8, 1.0, 1e-6, 3))).text == greedy.text
