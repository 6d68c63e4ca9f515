"""Expected scores from the probabilities of score tokens."""

import math

import pytest

from grm_service.judging.soft_scores import expected_score, on_scale, score_offsets, score_probabilities
from grm_service.profiles.profile import Scale
from grm_service.types import Alternative

pytestmark = pytest.mark.anyio


def next_tokens(table):
    """Return a function that looks up the next tokens of a prefix; `table` has their probabilities."""
    prefixes = []

    async def alternatives(text):
        prefixes.append(text)
        return [Alternative(token, math.log(p)) for token, p in table[text].items()]

    alternatives.prefixes = prefixes
    return alternatives


async def test_expected_score_is_probability_weighted():
    probabilities = await score_probabilities(next_tokens({"": {"8": 0.5, "6": 0.3, "7": 0.2}}), Scale(1, 9))
    assert expected_score(probabilities) == pytest.approx(8 * 0.5 + 6 * 0.3 + 7 * 0.2)


async def test_ten_as_two_tokens():
    alternatives = next_tokens({"": {"1": 0.8, "9": 0.2}, "1": {"0": 0.75, ",": 0.2, "}": 0.05}})
    probabilities = await score_probabilities(alternatives, Scale())
    assert probabilities["10"] == pytest.approx(0.8 * 0.75)
    assert probabilities["1"] == pytest.approx(0.8 * 0.25)
    assert probabilities["9"] == pytest.approx(0.2)
    assert alternatives.prefixes == ["", "1"]
    assert expected_score(probabilities) == pytest.approx(10 * 0.6 + 1 * 0.2 + 9 * 0.2)


async def test_ten_as_one_or_two_tokens():
    probabilities = await score_probabilities(
        next_tokens({"": {"10": 0.5, "1": 0.5}, "1": {"0": 0.5, ",": 0.5}}), Scale()
    )
    assert probabilities["10"] == pytest.approx(0.75)
    assert probabilities["1"] == pytest.approx(0.25)


async def test_hundred_as_three_tokens():
    table = {"": {"1": 1.0}, "1": {"0": 0.6, "5": 0.2, ",": 0.2}, "10": {"0": 0.5, ",": 0.5}}
    table["15"] = table["100"] = {}
    probabilities = await score_probabilities(next_tokens(table), Scale(0, 100))
    assert {x: round(p, 6) for x, p in probabilities.items() if p > 0} == {
        "1": 0.2,
        "10": 0.3,
        "15": 0.2,
        "100": 0.3,
    }


async def test_leading_space_is_ignored():
    probabilities = await score_probabilities(next_tokens({"": {" 8": 0.5, "8": 0.5}}), Scale(1, 9))
    assert probabilities["8"] == pytest.approx(1)


async def test_other_tokens_are_ignored():
    alternatives = next_tokens({"": {"x": 0.5, "0": 0.2, "12": 0.2, "4": 0.1}})
    assert expected_score(await score_probabilities(alternatives, Scale())) == pytest.approx(4)


async def test_digits_must_be_adjacent():
    probabilities = await score_probabilities(
        next_tokens({"": {"1": 1.0}, "1": {" 0": 0.9, "0": 0.1}}), Scale()
    )
    assert probabilities["10"] == pytest.approx(0.1)


async def test_unlikely_prefixes_are_not_extended():
    alternatives = next_tokens({"": {"9": 0.99999, "1": 0.00001}})
    await score_probabilities(alternatives, Scale())
    assert alternatives.prefixes == [""]


async def test_no_score_token_gives_none():
    assert expected_score(await score_probabilities(next_tokens({"": {"x": 1.0}}), Scale())) is None


def test_score_offsets():
    assert score_offsets("8, 4") == [0, 3]
    assert score_offsets(" 10,7 ") == [1, 4]


def test_shares_on_the_scale():
    assert on_scale([0.6, 0.2], Scale(1, 9)) == pytest.approx((7, 3))
    assert on_scale([0.0, 1.0], Scale(0, 10)) == (0, 10)
    assert on_scale([0.0, 0.0], Scale()) is None
