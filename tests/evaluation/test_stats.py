import math
import random
from statistics import fmean

import pytest

from grm_service.evaluation.stats import (
    Area,
    Interval,
    area_under_risk,
    auc,
    auc_within,
    bootstrap,
    calibration_error,
    reliability,
    risk_coverage,
    wilson,
)


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    # Newcombe 1998, table I: the score method without continuity correction.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_the_published_intervals(right, n, low, high):
    found = wilson(right, n)
    assert found.low == pytest.approx(low, abs=5e-5)
    assert found.high == pytest.approx(high, abs=5e-5)


def test_wilson_holds_the_truth_in_95_of_100_draws():
    drawing = random.Random(1)
    held = 0
    for _ in range(20_000):
        p, n = drawing.uniform(0.05, 0.95), drawing.randint(10, 300)
        found = wilson(sum(drawing.random() < p for _ in range(n)), n)
        held += found.low <= p <= found.high
    assert 0.93 <= held / 20_000 <= 0.97


def test_the_bootstrap_of_differences_holds_the_truth_in_about_95_of_100_draws():
    drawing, held, truth = random.Random(2), 0, 0.7 - 0.6
    for trial in range(300):
        hard = [drawing.random() for _ in range(80)]  # what is hard is hard for both
        differences = [(h < 0.7) - (0.2 * drawing.random() + 0.8 * h < 0.58) for h in hard]
        # P(0.2 u + 0.8 h < 0.58) with u, h uniform: (0.58 - 0.1) / 0.8
        found = bootstrap(differences, range(80), trial)
        held += found.low <= truth <= found.high
    assert 0.91 <= held / 300 <= 0.98


def test_the_bootstrap_draws_what_belongs_together_together():
    values = [float(group % 2) for group in range(40) for _ in range(5)]
    together = bootstrap(values, [group for group in range(40) for _ in range(5)])
    apart = bootstrap(values, range(200))
    assert together.high - together.low == pytest.approx(2 * 1.96 * 0.5 / math.sqrt(40), rel=0.12)
    assert apart.high - apart.low == pytest.approx(2 * 1.96 * 0.5 / math.sqrt(200), rel=0.12)


def test_the_bootstrap_gives_the_same_every_time():
    values = [0.0, 1.0, 0.5, 1.0]
    assert bootstrap(values, "abcd", 3) == bootstrap(values, "abcd", 3)
    assert bootstrap([1.0] * 4, "abcd") == Interval(1.0, 1.0)


def test_the_calibration_error_is_the_mean_gap_by_items():
    # Two bins: 4 predictions of 0.75 of which 2 are right, 1 of 0.5 that is right.
    bins = reliability([0.75, 0.75, 0.75, 0.75, 0.5], [1, 1, 0, 0, 1])
    assert [(b.n, b.low, b.high, b.predicted, b.right) for b in bins] == [
        (1, 0.4, 0.5, 0.5, 1.0),
        (4, 0.7, 0.8, 0.75, 0.5),
    ]
    assert calibration_error(bins) == pytest.approx((4 * 0.25 + 1 * 0.5) / 5)


def test_a_bin_holds_its_upper_end_and_the_first_holds_zero():
    bins = reliability([0.0, 0.1, 0.3, 1.0], [0, 0, 0, 1])
    assert [(b.low, b.n) for b in bins] == [(0.0, 2), (0.2, 1), (0.9, 1)]


def test_the_surest_are_kept_first_and_the_equally_sure_together():
    assert risk_coverage([0.9, 0.6, 0.9, 0.5], [1, 0, 1, 1]) == ((0.5, 1.0), (0.75, 2 / 3), (1.0, 0.75))


def test_the_area_under_risk_is_that_of_every_order_of_equal_predictions():
    predicted, right = [0.9, 0.6, 0.6, 0.6], [1, 1, 0, 1]
    orders = [[1, 1, 0, 1], [1, 0, 1, 1], [1, 1, 1, 0]]
    by_hand = fmean(fmean(sum(1 - r for r in order[:i]) / i for i in range(1, 5)) for order in orders)
    assert area_under_risk(predicted, right) == pytest.approx(by_hand)


def test_an_agreement_that_says_nothing_has_the_share_of_errors_as_its_area():
    assert area_under_risk([0.7] * 8, [1, 1, 1, 0, 0, 1, 1, 1]) == pytest.approx(0.25)


def test_the_auc_and_its_interval_are_those_of_delong_on_a_case_worked_by_hand():
    # 3 of 4 pairs; structural components 1, 1/2 and 1/2, 1: variance 1/16 + 1/16.
    found = auc([0.9, 0.6, 0.7, 0.2], [True, True, False, False], range(4))
    assert found.value == 0.75
    assert found.interval == Interval(pytest.approx(0.75 - 1.959964 * math.sqrt(1 / 8)), 1.0)


@pytest.mark.parametrize(
    ("values", "right", "area"),
    [
        ([1, 2, 3, 4], [False, False, True, True], 1.0),
        ([4, 3, 2, 1], [False, False, True, True], 0.0),
        ([5, 5, 5, 5], [False, True, False, True], 0.5),
        ([1, 2, 2, 3], [False, True, False, True], (1 + 0.5 + 2) / 4),
    ],
)
def test_the_auc_is_the_share_of_pairs_in_order(values, right, area):
    assert auc(values, right, range(4)).value == area


def test_where_all_or_none_are_right_there_is_no_auc():
    assert auc([1, 2], [True, True], range(2)) is None
    assert auc_within([1, 2], [True, False], range(2)) is None
    assert auc([2, 1], [True, False], range(2)) == Area(1.0, None)


def test_the_interval_of_an_auc_holds_the_truth_though_values_of_a_group_are_alike():
    # A value is the group's own share of noise, one of its own, and 1 where it is right: P(d > -1), d of
    # variance 2 between groups.
    drawing, held, trials = random.Random(3), 0, 400
    truth = 0.5 * (1 + math.erf(1 / math.sqrt(2) / math.sqrt(2)))
    for _ in range(trials):
        values, right, groups = [], [], []
        for group in range(60):
            shared = drawing.gauss(0, math.sqrt(0.7))
            for _ in range(4):
                is_right = drawing.random() < 0.5
                values.append(shared + drawing.gauss(0, math.sqrt(0.3)) + is_right)
                right.append(is_right)
                groups.append(group)
        found = auc(values, right, groups).interval
        held += found.low <= truth <= found.high
    assert 0.91 <= held / trials <= 0.98


def test_the_auc_within_groups_compares_no_two_groups():
    values, right = [9, 8, 2, 1, 5], [False, True, False, True, True]
    found = auc_within([*values, 7, 3], [*right, True, False], [0, 0, 1, 1, 2, 3, 3])
    assert found.value == pytest.approx(1 / 3)
    assert found.interval.low < 1 / 3 < found.interval.high
