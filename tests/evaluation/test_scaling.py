import random
from itertools import combinations
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grm_service.engines.scripted import ScriptedEngine
from grm_service.evaluation.outcomes import sample_credit
from grm_service.evaluation.run_folder import SampleResult
from grm_service.evaluation.scaling import expected_credit
from grm_service.factory import open_catalog
from grm_service.judging.judge import GenerativeRewardModel
from grm_service.judging.orders import balanced_orders
from grm_service.judging.plan import plan
from grm_service.settings import Settings
from grm_service.types import JudgeOptions, Message, Task
from tests.evaluation.judged import item, large


def brute(judged, j):
    """Return the mean credit over all balanced subsets of a pair's samples."""
    one = [s for s in judged.samples if s.order[0] == 0]
    other = [s for s in judged.samples if s.order[0] == 1]
    ways = []
    for a in {j // 2, j - j // 2}:
        if a <= len(one) and j - a <= len(other):
            result = [
                sample_credit([*x, *y], judged.correct)
                for x in combinations(one, a)
                for y in combinations(other, j - a)
            ]
            ways.append((fmean(c.strict for c in result), fmean(c.half for c in result)))
    return tuple(map(fmean, zip(*ways, strict=True)))


row = st.one_of(st.none(), st.tuples(st.integers(1, 4).map(float), st.integers(1, 4).map(float)))


@settings(deadline=None)
@given(st.lists(row, min_size=2, max_size=9).filter(any), st.integers(1, 8), st.sampled_from([(0,), (1,)]))
def test_counting_equals_all_balanced_subsets(rows, j, correct):
    judged, j = item(rows, correct), min(j, len(rows) - 1)
    result, how = expected_credit(judged, j, len(rows))
    assert how == "counted"
    assert (result.strict, result.half) == pytest.approx(brute(judged, j))


def test_soft_scores_are_counted():
    rng = random.Random(3)
    judged = item([(rng.uniform(1, 10), rng.uniform(1, 10)) for _ in range(10)])
    for j in (1, 2, 3, 4, 9):
        result, how = expected_credit(judged, j, 10)
        assert how == "counted"
        assert (result.strict, result.half) == pytest.approx(brute(judged, j))


def test_counting_many_samples_matches_draws():
    rng = random.Random(4)
    rows = [(float(rng.randint(1, 10)), float(rng.randint(1, 9))) for _ in range(32)]
    judged = item(rows)
    counted, how = expected_credit(judged, 16, 32)
    by_order = [[s for s in judged.samples if s.order[0] == i] for i in (0, 1)]
    drawn = [
        sample_credit([*rng.sample(by_order[0], 8), *rng.sample(by_order[1], 8)], (0,)).half
        for _ in range(4000)
    ]
    assert how == "counted"
    assert counted.half == pytest.approx(fmean(drawn), abs=0.03)


def test_uncountable_sums_are_drawn_reproducibly():
    rng = random.Random(5)
    judged = item([(rng.uniform(1, 10), rng.uniform(1, 9)) for _ in range(64)])
    result, how = expected_credit(judged, 32, 64)
    assert how == "drawn"
    assert result == expected_credit(judged, 32, 64)[0]
    assert 0 < result.half <= 1


def test_three_responses_use_whole_rotations():
    rng = random.Random(6)
    rows = [tuple(float(rng.randint(1, 5)) for _ in range(3)) for _ in range(8)]
    judged = item(rows, (1,))
    units = [judged.samples[0:3], judged.samples[3:6], judged.samples[6:8]]
    # j = 4: one of the two whole rotations, and one of the other samples.
    subsets = [[*units[i], one] for i in (0, 1) for at in range(3) if at != i for one in units[at]]
    result, how = expected_credit(judged, 4, 8)
    assert how == "listed"
    assert result.half == pytest.approx(fmean(sample_credit(s, (1,)).half for s in subsets))
    # j = 1: any sample.
    assert expected_credit(judged, 1, 8)[0].half == pytest.approx(
        fmean(sample_credit([s], (1,)).half for s in judged.samples)
    )


def test_too_many_subsets_are_drawn():
    rng = random.Random(7)
    rows = [tuple(float(rng.randint(1, 9)) for _ in range(3)) for _ in range(63)]
    result, how = expected_credit(item(rows), 30, 63)
    assert how == "drawn"
    assert result == expected_credit(item(rows), 30, 63)[0]


def test_large_group_uses_whole_rounds():
    judged = large(3, 9, lambda order: [float(9 - i) for i in order])
    result, how = expected_credit(judged, 1, 3)
    assert how == "listed"
    rounds = [judged.samples[at : at + 3] for at in (0, 3, 6)]
    assert result.half == pytest.approx(fmean(sample_credit(r, (0,)).half for r in rounds))


def test_failed_item_is_always_wrong():
    judged = item([(1.0, 2.0)] * 4, error="all_unreadable")
    assert expected_credit(judged, 2, 4)[0].half == 0


QUESTION = (Message("user", "Name a prime."),)


@pytest.mark.anyio
@pytest.mark.parametrize("script", ["content", "first"])
@pytest.mark.parametrize(("texts", "k"), [(("11", "nine"), 8), (("11", "nine", "eight"), 9)])
async def test_subsets_predict_smaller_runs(script, texts, k):
    judge = GenerativeRewardModel(ScriptedEngine(script))
    profile = open_catalog(Settings()).profile("smollm2-135m")

    async def run(k, seed):
        task = Task(QUESTION, texts, options=JudgeOptions(k=k, seed=seed, temperature=0.5))
        verdict = await judge.judge(plan(task, profile))
        return [SampleResult(s.order, s.scores, s.error, s.closed, 1) for s in verdict.samples]

    large_runs = [
        item([s.scores for s in samples], order=[s.order for s in samples])
        for samples in [await run(k, seed) for seed in range(60)]
    ]
    for j in (1, 2, 3, 4):
        predicted = fmean(expected_credit(each, j, k)[0].half for each in large_runs)
        actual = fmean([sample_credit(await run(j, 1000 + seed), (0,)).half for seed in range(300)])
        assert predicted == pytest.approx(actual, abs=0.08), j


def test_orders_match_the_judge():
    assert [s.order for s in item([(1.0, 2.0)] * 4).samples] == list(balanced_orders(2, 4, 0))
