import random
from itertools import combinations
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grm_service.engines.scripted import ScriptedEngine
from grm_service.evaluation.outcomes import credit, earned
from grm_service.evaluation.run_folder import SampleResult
from grm_service.evaluation.scaling import expect
from grm_service.factory import open_catalog
from grm_service.judging.judge import GenerativeRewardModel
from grm_service.judging.orders import balanced_orders
from grm_service.settings import Settings
from grm_service.types import JudgeOptions, Message, Task
from tests.evaluation.judged import item, large


@pytest.mark.parametrize(
    ("rewards", "correct", "strict", "half"),
    [
        ((7.0, 5.0), (0,), 1, 1),
        ((5.0, 7.0), (0,), 0, 0),
        ((5.0, 5.0), (0,), 0, 1 / 2),
        ((5.0, 5.0, 5.0, 1.0), (1,), 0, 1 / 3),
        ((5.0, 5.0, 6.0), (0,), 0, 0),
        ((8.0, 6.0, 5.0), (0, 1), 1, 1),
        ((8.0, 5.0, 5.0), (0, 1), 0, 1 / 2),
        ((8.0, 4.0, 5.0), (0, 1), 0, 0),
    ],
)
def test_a_tie_counts_its_share_and_strictly_nothing(rewards, correct, strict, half):
    found = credit(rewards, correct)
    assert (found.strict, found.half) == (strict, pytest.approx(half))


def brute(judged, j):
    """All subsets of a pair's samples with both orders equally often; both ways of an odd j are as likely."""
    one = [s for s in judged.samples if s.order[0] == 0]
    other = [s for s in judged.samples if s.order[0] == 1]
    ways = []
    for a in {j // 2, j - j // 2}:
        if a <= len(one) and j - a <= len(other):
            found = [
                earned([*x, *y], judged.correct)
                for x in combinations(one, a)
                for y in combinations(other, j - a)
            ]
            ways.append((fmean(c.strict for c in found), fmean(c.half for c in found)))
    return tuple(map(fmean, zip(*ways, strict=True)))


row = st.one_of(st.none(), st.tuples(st.integers(1, 4).map(float), st.integers(1, 4).map(float)))


@settings(deadline=None)
@given(st.lists(row, min_size=2, max_size=9).filter(any), st.integers(1, 8), st.sampled_from([(0,), (1,)]))
def test_counting_gives_what_every_balanced_subset_gives(rows, j, correct):
    judged, j = item(rows, correct), min(j, len(rows) - 1)
    found, how = expect(judged, j, len(rows))
    assert how == "counted"
    assert (found.strict, found.half) == pytest.approx(brute(judged, j))


def test_soft_scores_are_counted_as_well():
    drawing = random.Random(3)
    judged = item([(drawing.uniform(1, 10), drawing.uniform(1, 10)) for _ in range(10)])
    for j in (1, 2, 3, 4, 9):
        found, how = expect(judged, j, 10)
        assert how == "counted"
        assert (found.strict, found.half) == pytest.approx(brute(judged, j))


def test_many_samples_are_counted_too_and_agree_with_draws():
    drawing = random.Random(4)
    rows = [(float(drawing.randint(1, 10)), float(drawing.randint(1, 9))) for _ in range(32)]
    judged = item(rows)
    counted, how = expect(judged, 16, 32)
    by_order = [[s for s in judged.samples if s.order[0] == i] for i in (0, 1)]
    drawn = [
        earned([*drawing.sample(by_order[0], 8), *drawing.sample(by_order[1], 8)], (0,)).half
        for _ in range(4000)
    ]
    assert how == "counted"
    assert counted.half == pytest.approx(fmean(drawn), abs=0.03)


def test_sums_beyond_counting_are_drawn_and_the_same_every_time():
    drawing = random.Random(5)
    judged = item([(drawing.uniform(1, 10), drawing.uniform(1, 9)) for _ in range(64)])
    found, how = expect(judged, 32, 64)
    assert how == "drawn"
    assert found == expect(judged, 32, 64)[0]
    assert 0 < found.half <= 1


def test_three_responses_take_whole_rotations_and_the_beginning_of_another():
    drawing = random.Random(6)
    rows = [tuple(float(drawing.randint(1, 5)) for _ in range(3)) for _ in range(8)]
    judged = item(rows, (1,))
    units = [judged.samples[0:3], judged.samples[3:6], judged.samples[6:8]]
    # j = 4: one of both whole rotations, and one sample of what else there is.
    subsets = [[*units[i], one] for i in (0, 1) for at in range(3) if at != i for one in units[at]]
    found, how = expect(judged, 4, 8)
    assert how == "listed"
    assert found.half == pytest.approx(fmean(earned(s, (1,)).half for s in subsets))
    # j = 1: any sample.
    assert expect(judged, 1, 8)[0].half == pytest.approx(
        fmean(earned([s], (1,)).half for s in judged.samples)
    )


def test_more_subsets_than_can_be_listed_are_drawn():
    drawing = random.Random(7)
    rows = [tuple(float(drawing.randint(1, 9)) for _ in range(3)) for _ in range(63)]
    found, how = expect(item(rows), 30, 63)
    assert how == "drawn"
    assert found == expect(item(rows), 30, 63)[0]


def test_a_large_group_takes_whole_rounds():
    judged = large(3, 9, lambda order: [float(9 - i) for i in order])
    found, how = expect(judged, 1, 3)
    assert how == "listed"
    rounds = [judged.samples[at : at + 3] for at in (0, 3, 6)]
    assert found.half == pytest.approx(fmean(earned(r, (0,)).half for r in rounds))


def test_what_failed_is_wrong_at_every_k():
    judged = item([(1.0, 2.0)] * 4, error="all_unreadable")
    assert expect(judged, 2, 4)[0].half == 0


QUESTION = (Message("user", "Name a prime."),)


@pytest.mark.anyio
@pytest.mark.parametrize("script", ["content", "first"])
@pytest.mark.parametrize(("texts", "k"), [(("11", "nine"), 8), (("11", "nine", "eight"), 9)])
async def test_smaller_runs_earn_what_subsets_of_a_large_one_say(script, texts, k):
    judge = GenerativeRewardModel(ScriptedEngine(script))
    profile = open_catalog(Settings()).profile("smollm2-135m")

    async def run(k, seed):
        task = Task(QUESTION, texts, options=JudgeOptions(k=k, seed=seed, temperature=0.5))
        verdict = await judge.judge(task, profile)
        return [SampleResult(s.order, s.scores, s.error, s.closed, 1) for s in verdict.samples]

    large_runs = [
        item([s.scores for s in samples], order=[s.order for s in samples])
        for samples in [await run(k, seed) for seed in range(60)]
    ]
    for j in (1, 2, 3, 4):
        said = fmean(expect(each, j, k)[0].half for each in large_runs)
        real = fmean([earned(await run(j, 1000 + seed), (0,)).half for seed in range(300)])
        assert said == pytest.approx(real, abs=0.08), j


def test_orders_of_the_tests_are_those_of_the_judge():
    assert [s.order for s in item([(1.0, 2.0)] * 4).samples] == list(balanced_orders(2, 4, 0))
