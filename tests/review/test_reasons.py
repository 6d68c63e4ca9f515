"""Reasons to queue a verdict for review."""

from dataclasses import replace

import pytest

from grm_service.judging.vote import vote
from grm_service.principles.wording import normalise
from grm_service.profiles.profile import Scale
from grm_service.review.reasons import reasons, worth
from tests.audit.records import PRINCIPLE, record

CLEAR = record(1).verdict


def reasons_of(verdict=CLEAR, unsound=(), alarms=()):
    return reasons(verdict, Scale(), unsound, alarms)


def test_clear_verdict_has_no_reasons():
    assert reasons_of() == ()
    assert worth(()) == 0


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([(5.0, 5.0)], {"tie", "low_agreement"}),
        ([(9.0, 4.0), (9.0, 4.0), (3.0, 4.0)], {"high_spread"}),
        ([(8.0, 4.0), (7.0, 5.0), (4.0, 6.0), (5.0, 6.0)], {"low_agreement"}),
    ],
)
def test_reasons_in_the_vote(scores, expected):
    assert set(reasons_of(replace(CLEAR, vote=vote(scores)))) == expected


def test_unfiltered_vote_may_differ():
    verdict = replace(CLEAR, unfiltered=vote([(4.0, 7.0)]))
    assert reasons_of(verdict) == ("votes_apart",)


def test_unreadable_sample_is_a_reason():
    unreadable = replace(CLEAR.samples[0], critique=None, error="no_scores")
    assert reasons_of(replace(CLEAR, samples=(unreadable,))) == ("unreadable",)


def test_unsound_principle_is_a_reason():
    assert reasons_of(unsound={normalise(PRINCIPLE.text.upper())}) == ("flagged_principle",)
    assert reasons_of(unsound={"something else"}) == ()


def test_alarms_apply_to_every_verdict():
    assert reasons_of(alarms=("probes_failed",)) == ("probes_failed",)


def test_worth_is_the_sum():
    assert worth(("tie", "votes_apart")) == 4.0
