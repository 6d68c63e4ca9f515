"""Groups too large for one prompt: judged in overlapping blocks, rewarded on one scale."""

import random
import re
from collections import Counter
from dataclasses import replace
from itertools import combinations
from statistics import fmean

import pytest

from grm_service.engines.scripted import ScriptedEngine
from grm_service.errors import BadTask, PromptTooLong, ResponseUnread
from grm_service.judging.block_design import plane_order
from grm_service.judging.judge import GenerativeRewardModel
from grm_service.judging.plan import Plan, plan
from grm_service.types import JudgeOptions, Message, Task
from tests.judging.profiles import PROFILE

pytestmark = pytest.mark.anyio
_QUALITY = re.compile(r"^quality (\S+)$", re.MULTILINE)


def task(quality, **options):
    responses = tuple(f"quality {value}" for value in quality)
    return Task((Message("user", "q"),), responses, options=JudgeOptions(**options))


def qualities_in(prompt):
    return [float(value) for value in _QUALITY.findall(prompt.messages[-1].content)]


def boxed(scores):
    return "\\boxed{" + ", ".join(str(min(10, max(1, round(score)))) for score in scores) + "}"


def absolute(prompt, params):
    return boxed(qualities_in(prompt))


def relative(prompt, params):
    """Score relative to the mean of the prompt's responses, so that every row has the same mean."""
    values = qualities_in(prompt)
    return boxed(5.5 + value - fmean(values) for value in values)


async def run_judge(script, request, profile=PROFILE):
    return await GenerativeRewardModel(ScriptedEngine(script)).judge(plan(request, profile))


def error(rewards, quality):
    """Return the root mean squared error of rewards, up to a shift common to all."""
    shift = fmean(rewards) - fmean(quality)
    return fmean((r - shift - q) ** 2 for r, q in zip(rewards, quality, strict=True)) ** 0.5


def qualities(n):
    rng = random.Random(n)
    return [rng.randint(1, 10) for _ in range(n)]


@pytest.mark.parametrize("n", [9, 17, 64])
async def test_blocks_match_a_single_prompt(n):
    quality = qualities(n)
    at_once = await run_judge(absolute, task(quality, k=2), replace(PROFILE, most_responses=64))
    split = await run_judge(absolute, task(quality, k=2))
    assert len(at_once.samples) == 2
    assert split.vote.rewards == pytest.approx(at_once.vote.rewards)
    assert split.vote.ranking == at_once.vote.ranking


@pytest.mark.parametrize("n", [16, 25, 64])
async def test_relative_scores_get_one_scale(n):
    rng = random.Random(n)
    quality = [rng.uniform(3.5, 7.5) for _ in range(n)]
    rounds = plane_order(n) + 1
    split = await run_judge(relative, task(quality, k=rounds))
    at_once = await run_judge(relative, task(quality, k=1), replace(PROFILE, most_responses=64))
    raw = [
        fmean(s.critique.scores[i] for s in split.samples if s.critique.scores[i] is not None)
        for i in range(n)
    ]
    print(
        f"\nn = {n}: error of blocks {error(split.vote.rewards, quality):.2f}, of plain means "
        f"{error(raw, quality):.2f}, of all in one prompt {error(at_once.vote.rewards, quality):.2f}"
    )
    assert error(split.vote.rewards, quality) < error(raw, quality)
    assert error(split.vote.rewards, quality) < error(at_once.vote.rewards, quality) + 0.05


async def test_each_pair_shares_one_prompt():
    verdict = await run_judge(absolute, task(qualities(20), k=6))
    shared = Counter(pair for s in verdict.samples for pair in combinations(sorted(s.order), 2))
    assert shared == dict.fromkeys(combinations(range(20), 2), 1)
    assert (verdict.k, len(verdict.samples)) == (6, 30)
    for sample in verdict.samples:
        scored = [i for i, score in enumerate(sample.critique.scores) if score is not None]
        assert scored == sorted(sample.order)


async def test_group_is_split_to_fit():
    def narrow(prompt, params):
        if len(qualities_in(prompt)) > 3:
            raise PromptTooLong(900, 100, 512)
        return absolute(prompt, params)

    events = []
    quality = qualities(7)
    verdict = await GenerativeRewardModel(ScriptedEngine(narrow)).judge(
        plan(task(quality, k=4), PROFILE), on_event=events.append
    )
    assert verdict.vote.rewards == pytest.approx(quality)
    assert [max(map(len, event.orders)) for event in events if isinstance(event, Plan)] == [7, 3]


@pytest.mark.parametrize("n", [2, 8])
async def test_prompt_too_long_even_if_split(n):
    def narrower(prompt, params):
        raise PromptTooLong(900, 100, 512)

    with pytest.raises(PromptTooLong, match="900 tokens"):
        await run_judge(narrower, task(qualities(n)))


async def test_too_many_responses_for_the_profile():
    with pytest.raises(BadTask, match="at least 5 are needed"):
        plan(task(qualities(20)), replace(PROFILE, most_responses=4))


async def test_response_unread_in_every_sample():
    def blind(prompt, params):
        return "nothing" if 3.5 in qualities_in(prompt) else absolute(prompt, params)

    quality = [*qualities(11), 3.5]
    engine = ScriptedEngine(blind)
    with pytest.raises(ResponseUnread, match="responses 11 "):
        await GenerativeRewardModel(engine).judge(
            plan(task(quality, k=5), replace(PROFILE, closing=PROFILE.closing))
        )


async def test_agreement_counts_samples_with_the_best():
    quality = [1] * 15 + [9]
    verdict = await run_judge(absolute, task(quality, k=5))
    assert verdict.vote.best == 15
    assert verdict.vote.agreement == 1.0


async def test_k_counts_rounds():
    assert len(plan(task(qualities(64), k=3), PROFILE).orders) == 24
    assert len(plan(task(qualities(8), k=3), PROFILE).orders) == 3
