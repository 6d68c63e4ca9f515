from dataclasses import replace

import pytest

from grm_service.improving.gain import Gain, paired_gain
from grm_service.types import Critique, Principle, Sample
from tests.audit.records import record


def sample(scores, index=0, order=(0, 1), analysis="", counted=True):
    critique = Critique((Principle("Be right."),), analysis, scores)
    return Sample(index, 0, order, critique=critique, counted=counted)


def verdict(*rows):
    return replace(record(1).verdict, samples=tuple(sample(row, i) for i, row in enumerate(rows)))


def test_gain_is_paired():
    assert paired_gain(verdict((1, 2), (5, 6), (9, 10)), 1, 0) == Gain(1, 0)
    assert paired_gain(verdict((1, 3), (5, 5)), 1, 0) == Gain(1, 1)
    assert paired_gain(verdict((1, 3), (5, 5)), 0, 1) == Gain(-1, 1)


@pytest.mark.parametrize(
    ("gain", "clear"),
    [
        (Gain(1, 0.49), True),
        (Gain(1, 0.5), False),
        (Gain(0, 0), False),
        (Gain(9, None), False),
        (Gain(-1, 0), False),
    ],
)
def test_clear_gain_exceeds_twice_its_error(gain, clear):
    assert gain.clear is clear


def test_gain_needs_counted_samples_of_both():
    rows = (sample((1, 5)), sample((None, 9)), sample((9, 1), counted=False))
    assert paired_gain(replace(record(1).verdict, samples=rows), 1, 0) == Gain(4, None)
    assert paired_gain(replace(record(1).verdict, samples=rows[1:]), 1, 0) is None
