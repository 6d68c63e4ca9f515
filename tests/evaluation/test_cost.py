from dataclasses import replace

import pytest

from grm_service.evaluation.cost import completion_tokens, measure_cost
from grm_service.profiles.profile import Scale
from tests.evaluation.judged import item


def test_stop_rule_savings():
    sure = item([(10.0, 1.0)] * 8, name="sure")
    unsure = item([(5.0, 5.0)] * 8, name="unsure")
    result = measure_cost([sure, unsure], Scale(1, 10), 8)
    exact = result.stopping[0]
    # A lead of 9 per sample is safe once 9 * judged > 9 * remaining, checked after each rotation: 6 of 8.
    assert exact.rule == "exact"
    assert exact.samples_saved == pytest.approx(2 / 16)
    assert exact.tokens_saved == pytest.approx(2 / 16)
    assert (exact.same_winner, exact.accuracy_change) == (1.0, 0.0)


def test_no_savings_without_a_scale():
    assert measure_cost([item([(5.0, 4.0)] * 8)], None, 8).stopping == ()


def test_unknown_tokens_make_unknown_means():
    known = item([(5.0, 4.0)] * 8)
    unknown = item([(5.0, 4.0)] * 8, completion_tokens=None, prompt_tokens=None)
    assert completion_tokens(unknown, 2, 8) is None
    result = measure_cost([known, unknown], Scale(1, 10), 8)
    assert (result.prompt_tokens, result.cached_tokens, result.completion_tokens) == (None, 0, None)


def test_unknown_sample_tokens_save_an_unknown_share():
    judged = item([(5.0, 4.0)] * 8)
    judged = replace(judged, samples=tuple(replace(sample, tokens=None) for sample in judged.samples))
    assert [rule.tokens_saved for rule in measure_cost([judged], Scale(1, 10), 8).stopping] == [None, None]


def test_principle_tokens_count_at_every_k():
    judged = item([(5.0, 4.0)] * 8, completion_tokens=100)  # 8 samples of 10, so 20 for principles
    assert (completion_tokens(judged, 8, 8), completion_tokens(judged, 2, 8)) == (100, 40)
