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


def stopped(rule, population, n):
    """The samples that the rule takes of a population, and in how many waves."""
    taken, waves = [], 0
    while wave := next_wave(rule, taken, len(population), n, SCALE):
        taken += population[len(taken) : len(taken) + wave]
        waves += 1
    return taken, waves


def winner(rows, n):
    """The one response with the highest sum, None where the top is tied."""
    sums = [sum(row[i] for row in rows if row is not None) for i in range(n)]
    top = [i for i in range(n) if sums[i] == max(sums)]
    return top[0] if len(top) == 1 else None


@settings(max_examples=500)
@given(ROWS)
def test_exact_never_changes_the_winner(case):
    n, rows = case
    taken, _ = stopped("exact", rows, n)
    assert winner(taken, n) == winner(rows, n)


@settings(max_examples=300)
@given(ROWS)
def test_exact_stops_at_the_first_rotation_that_decides(case):
    """Before its last wave ended, the samples to come could still have turned the vote."""
    n, rows = case
    taken, _ = stopped("exact", rows, n)
    if len(taken) < len(rows):
        before = taken[:-n]
        sums = [sum(row[i] for row in before if row is not None) for i in range(n)]
        lead = sorted(sums)[-1] - sorted(sums)[-2]
        assert lead <= 9 * (len(rows) - len(before))


@given(ROWS, st.sampled_from(["none", "exact", "confident"]))
def test_waves_are_whole_rotations_until_the_last(case, rule):
    n, rows = case
    taken = []
    while wave := next_wave(rule, taken, len(rows), n, SCALE):
        assert wave % n == 0 or len(taken) + wave == len(rows)
        taken += rows[len(taken) : len(taken) + wave]
    assert len(taken) <= len(rows)


@given(ROWS)
def test_without_a_rule_all_are_taken_at_once(case):
    n, rows = case
    assert stopped("none", rows, n) == (rows, 1 if rows else 0)


@pytest.mark.parametrize("rule", ["exact", "confident"])
def test_a_single_response_has_no_winner_to_decide_so_all_are_taken(rule):
    rows = [(10,)] * 8
    assert stopped(rule, rows, 1) == (rows, 1)


@pytest.mark.parametrize("rule", ["exact", "confident"])
def test_what_cannot_be_read_decides_nothing(rule):
    rows = [None] * 8
    assert stopped(rule, rows, 2)[0] == rows


def test_exact_needs_just_over_half_when_one_always_gets_everything():
    assert len(stopped("exact", [(10, 1)] * 32, 2)[0]) == 18
    assert len(stopped("exact", [(10, 1)] * 8, 2)[0]) == 6


def test_confident_is_never_slower_than_exact_and_faster_on_a_clear_case():
    clear = [(8, 4), (9, 4), (7, 5), (8, 3)] * 8
    assert len(stopped("confident", clear, 2)[0]) < len(stopped("exact", clear, 2)[0]) < 32


def test_it_asks_few_times():
    assert stopped("exact", [(8, 4)] * 32, 2)[1] <= 4
    assert stopped("confident", [(8, 4)] * 32, 2)[1] <= 5


def _clipped(means, spread):
    return lambda draw: tuple(min(10, max(1, round(draw.gauss(mean, spread)))) for mean in means)


def _extreme(share):
    return lambda draw: (10, 1) if draw.random() < share else (1, 10)


def _rarely_against(share):
    return lambda draw: (1, 10) if draw.random() < share else (6, 5)


@pytest.mark.parametrize(
    "judge",
    [_clipped((5, 5), 2), _clipped((5.5, 5), 3), _clipped((5, 5, 5), 2), _clipped((6, 6, 2, 2), 1),
     _extreme(0.5), _extreme(0.55), _rarely_against(0.1), _rarely_against(0.12)],
)  # fmt: skip
@pytest.mark.parametrize("k", [16, 32])
def test_confident_errs_no_more_often_than_it_says(judge, k):
    """The hardest cases: near ties, all-or-nothing scores, and a lead that rare samples take back."""
    draw = random.Random(7)
    runs, wrong = 400, 0
    for _ in range(runs):
        rows = [judge(draw) for _ in range(k)]
        n = len(rows[0])
        wrong += winner(stopped("confident", rows, n)[0], n) != winner(rows, n)
    assert wrong / runs <= ERROR_RATE
