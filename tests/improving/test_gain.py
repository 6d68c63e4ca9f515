"""What the loop is made of: paired gains, and what a policy is told."""

from dataclasses import replace

import pytest

from grm_service.improving.gain import Gain, gain
from grm_service.improving.revising import dealt, revising
from grm_service.types import Critique, Message, Principle, Sample
from tests.audit.records import record
from tests.improving.world import QUERY


def sample(scores, index=0, order=(0, 1), analysis="", counted=True):
    critique = Critique((Principle("Be right."),), analysis, scores)
    return Sample(index, 0, order, critique=critique, counted=counted)


def verdict(*rows):
    return replace(record(1).verdict, samples=tuple(sample(row, i) for i, row in enumerate(rows)))


def test_a_gain_is_paired_so_that_strict_and_lenient_samples_do_not_blur_it():
    assert gain(verdict((1, 2), (5, 6), (9, 10)), 1, 0) == Gain(1, 0)
    assert gain(verdict((1, 3), (5, 5)), 1, 0) == Gain(1, 1)
    assert gain(verdict((1, 3), (5, 5)), 0, 1) == Gain(-1, 1)


@pytest.mark.parametrize(
    ("found", "clear"),
    [
        (Gain(1, 0.49), True),
        (Gain(1, 0.5), False),
        (Gain(0, 0), False),
        (Gain(9, None), False),
        (Gain(-1, 0), False),
    ],
)
def test_a_gain_is_clear_beyond_twice_its_error(found, clear):
    assert found.clear is clear


def test_only_counted_samples_that_saw_both_make_a_gain():
    rows = (sample((1, 5)), sample((None, 9)), sample((9, 1), counted=False))
    assert gain(replace(record(1).verdict, samples=rows), 1, 0) == Gain(4, None)
    assert gain(replace(record(1).verdict, samples=rows[1:]), 1, 0) is None


def test_reviews_speak_of_places_in_no_prompt_that_the_policy_has_not_seen():
    said = sample(
        (5, 3, 4), order=(2, 0, 1), analysis="Response 2 is right, response 1 is not, Response 3 is late."
    )
    prompt = revising(QUERY, "Eleven.", 0, [said], ())
    assert prompt.messages[:2] == (*QUERY, Message("assistant", "Eleven."))
    assert (
        "your answer is right, another answer is not, another answer is late." in prompt.messages[2].content
    )
    assert "- Be right." in prompt.messages[2].content


def test_critiques_are_dealt_in_turn_and_every_revision_gets_some():
    said = [sample((1, 2), i) for i in range(5)]
    hands = [[each.index for each in dealt(said, i, 2)] for i in range(2)]
    assert hands == [[0, 2, 4], [1, 3]]
    assert [[each.index for each in dealt(said[:2], i, 3)] for i in range(3)] == [[0], [1], [0]]
    assert len(dealt([sample((1, 2), i) for i in range(64)], 0, 1)) == 4
