import math

import pytest

from grm_service.judging.soft_scores import expected_score, score_offsets, score_probabilities
from grm_service.profiles.profile import Scale
from grm_service.types import Alternative

pytestmark = pytest.mark.anyio


def spelled(table):
    """What follows each beginning, as probabilities; asking for another beginning fails."""
    asked = []

    async def following(text):
        asked.append(text)
        return [Alternative(token, math.log(p)) for token, p in table[text].items()]

    following.asked = asked
    return following


async def test_the_expected_score_weighs_every_number_by_its_probability():
    found = await score_probabilities(spelled({"": {"8": 0.5, "6": 0.3, "7": 0.2}}), Scale(1, 9))
    assert expected_score(found) == pytest.approx(8 * 0.5 + 6 * 0.3 + 7 * 0.2)


async def test_ten_of_two_tokens_takes_its_share_from_what_follows_the_one():
    following = spelled({"": {"1": 0.8, "9": 0.2}, "1": {"0": 0.75, ",": 0.2, "}": 0.05}})
    found = await score_probabilities(following, Scale())
    assert found["10"] == pytest.approx(0.8 * 0.75)
    assert found["1"] == pytest.approx(0.8 * 0.25)
    assert found["9"] == pytest.approx(0.2)
    assert following.asked == ["", "1"]
    assert expected_score(found) == pytest.approx(10 * 0.6 + 1 * 0.2 + 9 * 0.2)


async def test_ten_of_one_token_counts_beside_ten_of_two():
    found = await score_probabilities(
        spelled({"": {"10": 0.5, "1": 0.5}, "1": {"0": 0.5, ",": 0.5}}), Scale()
    )
    assert found["10"] == pytest.approx(0.75)
    assert found["1"] == pytest.approx(0.25)


async def test_a_hundred_of_three_tokens():
    table = {"": {"1": 1.0}, "1": {"0": 0.6, "5": 0.2, ",": 0.2}, "10": {"0": 0.5, ",": 0.5}}
    table["15"] = table["100"] = {}
    found = await score_probabilities(spelled(table), Scale(0, 100))
    assert {x: round(p, 6) for x, p in found.items() if p > 0} == {"1": 0.2, "10": 0.3, "15": 0.2, "100": 0.3}


async def test_a_space_before_the_number_belongs_to_its_token():
    found = await score_probabilities(spelled({"": {" 8": 0.5, "8": 0.5}}), Scale(1, 9))
    assert found["8"] == pytest.approx(1)


async def test_what_is_no_score_has_no_part():
    following = spelled({"": {"x": 0.5, "0": 0.2, "12": 0.2, "4": 0.1}})
    assert expected_score(await score_probabilities(following, Scale())) == pytest.approx(4)


async def test_the_rest_of_a_number_must_follow_at_once():
    found = await score_probabilities(spelled({"": {"1": 1.0}, "1": {" 0": 0.9, "0": 0.1}}), Scale())
    assert found["10"] == pytest.approx(0.1)


async def test_an_unlikely_beginning_is_not_worth_asking_on():
    following = spelled({"": {"9": 0.99999, "1": 0.00001}})
    await score_probabilities(following, Scale())
    assert following.asked == [""]


async def test_no_score_among_the_likely_is_none_and_not_zero():
    assert expected_score(await score_probabilities(spelled({"": {"x": 1.0}}), Scale())) is None


def test_places():
    assert score_offsets("8, 4") == [0, 3]
    assert score_offsets(" 10,7 ") == [1, 4]
