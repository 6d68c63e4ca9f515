import pytest
from hypothesis import given
from hypothesis import strategies as st

from grm_service.api.shaping import GROUP_TRANSFORMS, LengthPenalty, Shaping, shape
from grm_service.profiles.profile import Scale

REWARDS = (10.0, 4.0, 4.0, 1.0)
TEXTS = ("a" * 3000, "b" * 1000, "c", "")


def shaped(rewards=REWARDS, texts=TEXTS, **shaping):
    return shape(rewards, texts, Scale(), Shaping(**shaping))


def test_default_shaping_changes_nothing():
    assert shaped().rewards == REWARDS
    assert shaped().length_penalty == (0.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("transform", "expected"),
    [
        ("minmax", (1.0, 1 / 3, 1 / 3, 0.0)),
        ("rank", (1.0, 0.5, 0.5, 0.0)),
        ("centered", (5.25, -0.75, -0.75, -3.75)),
        ("zscore", (1.606, -0.229, -0.229, -1.147)),
    ],
)
def test_transforms(transform, expected):
    assert shaped(transform=transform).transformed == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    ("transform", "same"), [("minmax", 4 / 9), ("rank", 0.5), ("centered", 0.0), ("zscore", 0.0)]
)
def test_equal_rewards_stay_equal_and_finite(transform, same):
    assert shaped((5.0, 5.0), ("a", "b"), transform=transform).rewards == pytest.approx((same, same))


def test_length_penalty_is_capped():
    penalty = LengthPenalty(free=500, per_1000=0.4, most=0.9)
    result = shaped(length_penalty=penalty)
    assert result.length_penalty == pytest.approx((-0.9, -0.2, 0.0, 0.0))
    assert result.rewards == pytest.approx((9.1, 3.8, 4.0, 1.0))
    assert result.transformed == REWARDS


@pytest.mark.parametrize("transform", GROUP_TRANSFORMS)
def test_group_transforms_need_two_responses(transform):
    with pytest.raises(ValueError, match="only one"):
        shaped((5.0,), ("a",), transform=transform)


@given(st.lists(st.floats(1, 10), min_size=2, max_size=64), st.sampled_from(["minmax", *GROUP_TRANSFORMS]))
def test_transforms_preserve_the_order(rewards, transform):
    transformed = shaped(rewards, [""] * len(rewards), transform=transform).rewards
    for i, reward in enumerate(rewards):
        for j, other in enumerate(rewards):
            assert reward >= other or transformed[i] <= transformed[j]
