"""The transformers engine; the tests of all engines are in test_contract.py."""

import asyncio
from collections import Counter

import pytest
import torch

from grm_service.engines.transformers import seeded_gumbel
from grm_service.errors import EngineError, PromptTooLong
from grm_service.judging.parse import closing_regex
from grm_service.profiles.profile import Scale
from grm_service.types import Message, Params, Prompt

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]
ASK = Prompt((Message("user", "Tell me a story about a river and a stone."),))
CLOSING = Prompt(ASK.messages, "Both.\n\nScores: \\boxed{")


@pytest.mark.parametrize(
    ("prompt", "params"),
    [
        (ASK, Params(8)),
        (ASK, Params(8, 0.8, 1.0, 5)),
        (ASK, Params(8, 1.0, 0.6, 6)),
        (CLOSING, Params(32, 1.0, 1.0, 3, regex=closing_regex(3, Scale()))),
        (CLOSING, Params(2, alternatives=5)),
    ],
    ids=["greedy", "sampled", "top-p", "regex", "alternatives"],
)
async def test_paged_equals_batched(paged, transformers, prompt, params):
    first, second = [await engine.complete(prompt, params) for engine in (paged, transformers)]
    assert (first.text, first.finish_reason, first.usage) == (second.text, second.finish_reason, second.usage)
    assert len(first.alternatives) == (2 if params.alternatives else 0)
    for mine, theirs in zip(first.alternatives, second.alternatives, strict=True):
        assert [token.text for token in mine] == [token.text for token in theirs]
        assert [token.logprob for token in mine] == pytest.approx([t.logprob for t in theirs], abs=1e-3)


@pytest.mark.slow
async def test_more_requests_than_slots(paged):
    pending = [paged.complete(CLOSING, Params(1, seed=seed, alternatives=3)) for seed in range(70)]
    completions = await asyncio.gather(*pending)
    assert len({tuple(token.text for token in c.alternatives[0]) for c in completions}) == 1


async def test_siblings_wait_for_prefill(paged, monkeypatch):
    submitted = []
    request = paged_request(paged)
    monkeypatch.setattr(
        paged._generator,
        "_request",
        lambda ids, params, slot=0: submitted.append(params) or request(ids, params, slot),
    )
    cold = Prompt((Message("user", "A cold prompt. " * 30),))
    await asyncio.gather(*(paged.complete(cold, Params(3, 1.0, 1.0, seed)) for seed in range(4)))
    assert [params.max_tokens for params in submitted] == [1, 3, 3, 3, 3]


def paged_request(engine):
    return engine._generator._request


async def test_too_long_for_cache_is_refused(paged, monkeypatch):
    monkeypatch.setattr(paged._generator, "capacity", 20)
    with pytest.raises(PromptTooLong, match=r"key-value cache \(GRM_KV_CACHE_GB\) holds 20"):
        await paged.complete(ASK, Params(10))


async def test_crash_of_continuous_batching(smollm):
    from grm_service.engines.files import weights
    from grm_service.engines.transformers.engine import TransformersEngine

    engine = TransformersEngine("m", lambda: weights.ensure_safetensors(smollm.gguf, smollm.cache), 0.5, True)
    await engine.start()
    assert engine.ready

    def crash(*args, **kwargs):
        raise RuntimeError("out of memory")

    engine._generator._manager.batch_processor._generation_step = crash
    with pytest.raises(EngineError, match="out of memory"):
        await engine.complete(ASK, Params(4))
    for _ in range(100):
        if not engine.ready:
            break
        await asyncio.sleep(0.05)
    assert not engine.ready  # the worker process exits then, and is restarted
    with pytest.raises(EngineError, match="stopped"):
        await engine.complete(ASK, Params(4))
    await engine.close()


def test_noise_samples_from_softmax():
    """4,000 seeds over four tokens: each share within five standard deviations."""
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0])
    keys = torch.tensor([seeded_gumbel.noise_key(seed, 7) for seed in range(4000)])
    drawn = Counter((logits + seeded_gumbel.gumbel_noise(keys, 4)).argmax(-1).tolist())
    for token, share in enumerate(logits.softmax(-1).tolist()):
        assert abs(drawn[token] / 4000 - share) < 5 * (share * (1 - share) / 4000) ** 0.5


def test_noise_depends_on_seed_and_position():
    keys = torch.tensor(
        [
            seeded_gumbel.noise_key(1, 5),
            seeded_gumbel.noise_key(1, 6),
            seeded_gumbel.noise_key(2, 5),
            0,
            seeded_gumbel.noise_key(1, 5),
        ]
    )
    rows = seeded_gumbel.gumbel_noise(keys, 1000)
    assert torch.equal(rows[0], rows[4])
    assert torch.equal(rows[3], torch.zeros(1000))
    assert rows[:3].isfinite().all()
    correlation = torch.corrcoef(rows[:3]) - torch.eye(3)
    assert correlation.abs().max() < 0.15


@pytest.mark.parametrize(("seed", "position"), [(0, 0), (2**31 - 1, 10**6), (2**63 - 1, 3)])
def test_noise_key_is_positive_int32(seed, position):
    assert 0 < seeded_gumbel.noise_key(seed, position) < 2**31
