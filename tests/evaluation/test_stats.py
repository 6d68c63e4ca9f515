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
def test_wilson_matches_published_intervals(right, n, low, high):
    result = wilson(right, n)
    assert result.low == pytest.approx(low, abs=5e-5)
    assert result.high == pytest.approx(high, abs=5e-5)


def test_wilson_covers_the_truth():
    rng = random.Random(1)
    covered = 0
    for _ in range(20_000):
        p, n = rng.uniform(0.05, 0.95), rng.randint(10, 300)
        result = wilson(sum(rng.random() < p for _ in range(n)), n)
        covered += result.low <= p <= result.high
    assert 0.93 <= covered / 20_000 <= 0.97


def test_paired_bootstrap_covers_the_truth():
    rng, covered, truth = random.Random(2), 0, 0.7 - 0.6
    for trial in range(100):
        hard = [rng.random() for _ in range(80)]  # what is hard is hard for both
        differences = [(h < 0.7) - (0.2 * rng.random() + 0.8 * h < 0.58) for h in hard]
        # P(0.2 u + 0.8 h < 0.58) with u, h uniform: (0.58 - 0.1) / 0.8
        result = bootstrap(differences, range(80), trial)
        covered += result.low <= truth <= result.high
    assert 0.91 <= covered / 100 <= 0.98


def test_bootstrap_resamples_whole_groups():
    values = [float(group % 2) for group in range(40) for _ in range(5)]
    together = bootstrap(values, [group for group in range(40) for _ in range(5)])
    apart = bootstrap(values, range(200))
    assert together.high - together.low == pytest.approx(2 * 1.96 * 0.5 / math.sqrt(40), rel=0.12)
    assert apart.high - apart.low == pytest.approx(2 * 1.96 * 0.5 / math.sqrt(200), rel=0.12)


def test_bootstrap_is_deterministic():
    values = [0.0, 1.0, 0.5, 1.0]
    assert bootstrap(values, "abcd", 3) == bootstrap(values, "abcd", 3)
    assert bootstrap([1.0] * 4, "abcd") == Interval(1.0, 1.0)


def test_calibration_error_is_weighted_gap():
    # Two bins: 4 predictions of 0.75 of which 2 are right, 1 of 0.5 that is right.
    bins = reliability([0.75, 0.75, 0.75, 0.75, 0.5], [1, 1, 0, 0, 1])
    assert [(b.n, b.low, b.high, b.predicted, b.right) for b in bins] == [
        (1, 0.4, 0.5, 0.5, 1.0),
        (4, 0.7, 0.8, 0.75, 0.5),
    ]
    assert calibration_error(bins) == pytest.approx((4 * 0.25 + 1 * 0.5) / 5)


def test_bin_includes_its_upper_end():
    bins = reliability([0.0, 0.1, 0.3, 1.0], [0, 0, 0, 1])
    assert [(b.low, b.n) for b in bins] == [(0.0, 2), (0.2, 1), (0.9, 1)]


def test_risk_coverage_groups_ties():
    assert risk_coverage([0.9, 0.6, 0.9, 0.5], [1, 0, 1, 1]) == ((0.5, 1.0), (0.75, 2 / 3), (1.0, 0.75))


def test_area_under_risk_averages_ties():
    predicted, right = [0.9, 0.6, 0.6, 0.6], [1, 1, 0, 1]
    orders = [[1, 1, 0, 1], [1, 0, 1, 1], [1, 1, 1, 0]]
    by_hand = fmean(fmean(sum(1 - r for r in order[:i]) / i for i in range(1, 5)) for order in orders)
    assert area_under_risk(predicted, right) == pytest.approx(by_hand)


def test_uninformative_area_is_error_share():
    assert area_under_risk([0.7] * 8, [1, 1, 1, 0, 0, 1, 1, 1]) == pytest.approx(0.25)


def test_auc_interval_matches_delong():
    # 3 of 4 pairs; structural components 1, 1/2 and 1/2, 1: variance 1/16 + 1/16.
    result = auc([0.9, 0.6, 0.7, 0.2], [True, True, False, False], range(4))
    assert result.value == 0.75
    assert result.interval == Interval(pytest.approx(0.75 - 1.959964 * math.sqrt(1 / 8)), 1.0)


@pytest.mark.parametrize(
    ("values", "right", "area"),
    [
        ([1, 2, 3, 4], [False, False, True, True], 1.0),
        ([4, 3, 2, 1], [False, False, True, True], 0.0),
        ([5, 5, 5, 5], [False, True, False, True], 0.5),
        ([1, 2, 2, 3], [False, True, False, True], (1 + 0.5 + 2) / 4),
    ],
)
def test_auc_is_share_of_ordered_pairs(values, right, area):
    assert auc(values, right, range(4)).value == area


def test_no_auc_without_both_classes():
    assert auc([1, 2], [True, True], range(2)) is None
    assert auc_within([1, 2], [True, False], range(2)) is None
    assert auc([2, 1], [True, False], range(2)) == Area(1.0, None)


def test_clustered_auc_interval_covers_the_truth():
    # A value is noise shared by its group, plus its own noise, plus 1 if it is right: P(d > -1), with d of
    # variance 2 between groups.
    rng, covered, trials = random.Random(3), 0, 400
    truth = 0.5 * (1 + math.erf(1 / math.sqrt(2) / math.sqrt(2)))
    for _ in range(trials):
        values, right, groups = [], [], []
        for group in range(60):
            shared = rng.gauss(0, math.sqrt(0.7))
            for _ in range(4):
                is_right = rng.random() < 0.5
                values.append(shared + rng.gauss(0, math.sqrt(0.3)) + is_right)
                right.append(is_right)
                groups.append(group)
        result = auc(values, right, groups).interval
        covered += result.low <= truth <= result.high
    assert 0.91 <= covered / trials <= 0.98


def test_auc_within_groups():
    values, right = [9, 8, 2, 1, 5], [False, True, False, True, True]
    result = auc_within([*values, 7, 3], [*right, True, False], [0, 0, 1, 1, 2, 3, 3])
    assert result.value == pytest.approx(1 / 3)
    assert result.interval.low < 1 / 3 < result.interval.high
