import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grm_service.judging.early_stop import ERROR_RATE, next_wave
from grm_service.profiles.profile import Scale

SCALE = Scale()
ROWS = st.integers(2, 5).flatmap(
    lambda n: st.lists(st.none() | st.tuples(*[st.integers(1, 10)] * n), min_size=1, max_size=32).map(
        lambda rows: (n, rows)
    )
)


def run_until_stop(rule, population, n):
    """Return the samples that the rule draws from `population`, and the number of waves."""
    samples, waves = [], 0
    while wave := next_wave(rule, samples, len(population), n, SCALE):
        samples += population[len(samples) : len(samples) + wave]
        waves += 1
    return samples, waves


def winner(rows, n):
    """Return the index of the response with the highest sum, or None if the top is tied."""
    sums = [sum(row[i] for row in rows if row is not None) for i in range(n)]
    top = [i for i in range(n) if sums[i] == max(sums)]
    return top[0] if len(top) == 1 else None


@settings(max_examples=500)
@given(ROWS)
def test_exact_never_changes_the_winner(case):
    n, rows = case
    samples, _ = run_until_stop("exact", rows, n)
    assert winner(samples, n) == winner(rows, n)


@settings(max_examples=300)
@given(ROWS)
def test_exact_stops_as_early_as_possible(case):
    """Before the last wave, the remaining samples could still have changed the winner."""
    n, rows = case
    samples, _ = run_until_stop("exact", rows, n)
    if len(samples) < len(rows):
        before = samples[:-n]
        sums = [sum(row[i] for row in before if row is not None) for i in range(n)]
        lead = sorted(sums)[-1] - sorted(sums)[-2]
        assert lead <= 9 * (len(rows) - len(before))


@given(ROWS, st.sampled_from(["none", "exact", "confident"]))
def test_waves_are_whole_rotations(case, rule):
    """Only the last wave may be shorter."""
    n, rows = case
    samples = []
    while wave := next_wave(rule, samples, len(rows), n, SCALE):
        assert wave % n == 0 or len(samples) + wave == len(rows)
        samples += rows[len(samples) : len(samples) + wave]
    assert len(samples) <= len(rows)


@given(ROWS)
def test_no_rule_takes_one_wave(case):
    n, rows = case
    assert run_until_stop("none", rows, n) == (rows, 1 if rows else 0)


@pytest.mark.parametrize("rule", ["exact", "confident"])
def test_single_response_is_never_stopped(rule):
    rows = [(10,)] * 8
    assert run_until_stop(rule, rows, 1) == (rows, 1)


@pytest.mark.parametrize("rule", ["exact", "confident"])
def test_unreadable_samples_never_stop(rule):
    rows = [None] * 8
    assert run_until_stop(rule, rows, 2)[0] == rows


def test_exact_with_the_largest_margin():
    """If one response always gets 10 and the other 1, just over half of the samples are enough."""
    assert len(run_until_stop("exact", [(10, 1)] * 32, 2)[0]) == 18
    assert len(run_until_stop("exact", [(10, 1)] * 8, 2)[0]) == 6


def test_confident_stops_before_exact():
    clear = [(8, 4), (9, 4), (7, 5), (8, 3)] * 8
    assert len(run_until_stop("confident", clear, 2)[0]) < len(run_until_stop("exact", clear, 2)[0]) < 32


def test_number_of_waves_is_small():
    assert run_until_stop("exact", [(8, 4)] * 32, 2)[1] <= 4
    assert run_until_stop("confident", [(8, 4)] * 32, 2)[1] <= 5


def _clipped(means, spread):
    return lambda rng: tuple(min(10, max(1, round(rng.gauss(mean, spread)))) for mean in means)


def _extreme(share):
    return lambda rng: (10, 1) if rng.random() < share else (1, 10)


def _rare_reversal(share):
    return lambda rng: (1, 10) if rng.random() < share else (6, 5)


@pytest.mark.parametrize(
    "judge",
    [_clipped((5, 5), 2), _clipped((5.5, 5), 3), _clipped((5, 5, 5), 2), _clipped((6, 6, 2, 2), 1),
     _extreme(0.5), _extreme(0.55), _rare_reversal(0.1), _rare_reversal(0.12)],
)  # fmt: skip
@pytest.mark.parametrize("k", [16, 32])
def test_confident_respects_its_error_rate(judge, k):
    """The hardest cases: near ties, all-or-nothing scores, and a lead that rare samples reverse."""
    rng = random.Random(7)
    runs, wrong = 400, 0
    for _ in range(runs):
        rows = [judge(rng) for _ in range(k)]
        n = len(rows[0])
        wrong += winner(run_until_stop("confident", rows, n)[0], n) != winner(rows, n)
    assert wrong / runs <= ERROR_RATE
