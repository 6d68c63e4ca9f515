"""More responses than one prompt holds: judged in overlapping groups, rewarded on one scale."""

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
_SHOWN = re.compile(r"^quality (\S+)$", re.MULTILINE)


def task(worth, **fields):
    responses = tuple(f"quality {value}" for value in worth)
    return Task((Message("user", "q"),), responses, options=JudgeOptions(**fields))


def seen(prompt):
    return [float(value) for value in _SHOWN.findall(prompt.messages[-1].content)]


def boxed(scores):
    return "\\boxed{" + ", ".join(str(min(10, max(1, round(score)))) for score in scores) + "}"


def absolute(prompt, params):
    return boxed(seen(prompt))


def comparing(prompt, params):
    """A critic whose scores have the same mean whatever it sees."""
    values = seen(prompt)
    return boxed(5.5 + value - fmean(values) for value in values)


async def judged(script, asked, profile=PROFILE):
    return await GenerativeRewardModel(ScriptedEngine(script)).judge(plan(asked, profile))


def error(rewards, worth):
    """How far rewards are from the worth, but for what is added to all alike."""
    shift = fmean(rewards) - fmean(worth)
    return fmean((r - shift - w) ** 2 for r, w in zip(rewards, worth, strict=True)) ** 0.5


def worths(n):
    chance = random.Random(n)
    return [chance.randint(1, 10) for _ in range(n)]


@pytest.mark.parametrize("n", [9, 17, 64])
async def test_a_large_group_gets_the_rewards_of_judging_all_at_once(n):
    worth = worths(n)
    at_once = await judged(absolute, task(worth, k=2), replace(PROFILE, most_responses=64))
    split = await judged(absolute, task(worth, k=2))
    assert len(at_once.samples) == 2
    assert split.vote.rewards == pytest.approx(at_once.vote.rewards)
    assert split.vote.ranking == at_once.vote.ranking


@pytest.mark.parametrize("n", [16, 25, 64])
async def test_a_critic_that_only_compares_is_brought_onto_one_scale(n):
    chance = random.Random(n)
    worth = [chance.uniform(3.5, 7.5) for _ in range(n)]
    rounds = plane_order(n) + 1
    split = await judged(comparing, task(worth, k=rounds))
    at_once = await judged(comparing, task(worth, k=1), replace(PROFILE, most_responses=64))
    raw = [
        fmean(s.critique.scores[i] for s in split.samples if s.critique.scores[i] is not None)
        for i in range(n)
    ]
    print(
        f"\nn = {n}: error of blocks {error(split.vote.rewards, worth):.2f}, of plain means "
        f"{error(raw, worth):.2f}, of all in one prompt {error(at_once.vote.rewards, worth):.2f}"
    )
    assert error(split.vote.rewards, worth) < error(raw, worth)
    assert error(split.vote.rewards, worth) < error(at_once.vote.rewards, worth) + 0.05


async def test_every_two_responses_share_one_prompt_in_a_cycle():
    verdict = await judged(absolute, task(worths(20), k=6))
    shared = Counter(pair for s in verdict.samples for pair in combinations(sorted(s.order), 2))
    assert shared == dict.fromkeys(combinations(range(20), 2), 1)
    assert verdict.k == len(verdict.samples)
    for sample in verdict.samples:
        shown = [i for i, score in enumerate(sample.critique.scores) if score is not None]
        assert shown == sorted(sample.order)


async def test_what_fits_no_context_at_once_is_split():
    def narrow(prompt, params):
        if len(seen(prompt)) > 3:
            raise PromptTooLong(900, 100, 512)
        return absolute(prompt, params)

    told = []
    worth = worths(7)
    verdict = await GenerativeRewardModel(ScriptedEngine(narrow)).judge(
        plan(task(worth, k=4), PROFILE), on_event=told.append
    )
    assert verdict.vote.rewards == pytest.approx(worth)
    assert [max(map(len, event.orders)) for event in told if isinstance(event, Plan)] == [7, 3]


@pytest.mark.parametrize("n", [2, 8])
async def test_what_fits_no_context_even_so_is_refused_with_the_sizes(n):
    def narrower(prompt, params):
        raise PromptTooLong(900, 100, 512)

    with pytest.raises(PromptTooLong, match="900 tokens"):
        await judged(narrower, task(worths(n)))


async def test_too_many_for_the_profile_are_refused_before_any_work():
    with pytest.raises(BadTask, match="at least 5 are needed"):
        plan(task(worths(20)), replace(PROFILE, most_responses=4))


async def test_a_response_that_nobody_could_read_gets_no_reward():
    def blind(prompt, params):
        return "nothing" if 3.5 in seen(prompt) else absolute(prompt, params)

    worth = [*worths(11), 3.5]
    engine = ScriptedEngine(blind)
    with pytest.raises(ResponseUnread, match="responses 11 "):
        await GenerativeRewardModel(engine).judge(
            plan(task(worth, k=5), replace(PROFILE, closing=PROFILE.closing))
        )


async def test_agreement_is_of_the_samples_that_saw_the_best():
    worth = [1] * 15 + [9]
    verdict = await judged(absolute, task(worth, k=5))
    assert verdict.vote.best == 15
    assert verdict.vote.agreement == 1.0


async def test_rounds_are_what_is_asked_for():
    assert len(plan(task(worths(64), k=3), PROFILE).orders) == 24
    assert len(plan(task(worths(8), k=3), PROFILE).orders) == 3
