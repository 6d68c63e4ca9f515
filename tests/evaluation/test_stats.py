import math
import random
from statistics import fmean

import pytest

from grm_service.evaluation.stats import (
    Interval,
    area_under_risk,
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
