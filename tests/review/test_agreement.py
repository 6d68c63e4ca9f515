"""Choices of judge and reviewer, and their agreement."""

from datetime import date

import pytest

from grm_service.judging.vote import vote
from grm_service.review.agreement import RatedPair, agreement_stats, kappa, reviewed_top, top
from tests.audit.records import review

FIRST, TIE = vote([(7.0, 4.0)]), vote([(5.0, 5.0)])


def test_top_is_index_or_tie():
    assert (top(FIRST.best), top(TIE.best)) == ("0", "tie")


@pytest.mark.parametrize(
    ("decision", "fields", "choice"),
    [
        ("agree", {}, "0"),
        ("overrule", {"ranking": (2, 1)}, "1"),
        ("overrule", {"ranking": (1, 1)}, "tie"),
        ("overrule", {"scores": (3.0, 8.5)}, "1"),
        ("overrule", {"scores": (4.0, 4.0)}, "tie"),
        ("unsound_principle", {"principle": "It is long."}, None),
    ],
)
def test_reviewed_top(decision, fields, choice):
    assert reviewed_top(FIRST.best, review(1, "vd_1", decision, **fields)) == choice


def test_kappa_of_a_known_table():
    # 20 + 15 agreements of 50; Cohen's kappa is 0.4.
    pairs = [("0", "0")] * 20 + [("0", "1")] * 5 + [("1", "0")] * 10 + [("1", "1")] * 15
    value, (low, high) = kappa(pairs)
    assert value == pytest.approx(0.4)
    assert (low, high) == pytest.approx((0.146, 0.654), abs=1e-3)


def test_perfect_agreement_has_kappa_one():
    assert kappa([("0", "0"), ("1", "1")]) == (1.0, (1.0, 1.0))


@pytest.mark.parametrize("pairs", [[], [("0", "0")] * 3])
def test_kappa_can_be_undefined(pairs):
    assert kappa(pairs) is None


def test_stats_group_by_profile_and_week():
    one, two = date(2026, 1, 5), date(2026, 1, 12)
    stats = agreement_stats(
        [
            RatedPair(("b", "self"), two, "0", "1"),
            RatedPair(("a", "self"), one, "0", "0"),
            RatedPair(("a", "self"), two, "1", "1"),
        ]
    )
    assert [(profile, kind, each.reviews, each.agreed) for profile, kind, each in stats.groups] == [
        ("a", "self", 2, 2),
        ("b", "self", 1, 0),
    ]
    assert [(week, each.reviews, each.agreed) for week, each in stats.weeks] == [(one, 1, 1), (two, 2, 1)]
