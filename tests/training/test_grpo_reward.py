"""The reward of online RL, on hand-written completions."""

from dataclasses import replace

import pytest

from grm_service.profiles.profile import Sampling, ThinkingSettings
from grm_service.training.grpo_reward import OrderedItem, OutcomeReward, in_all_orders
from tests.training.conftest import SHORT, item

PROFILE = replace(SHORT, opening="Scores: \\boxed{", sampling=Sampling(max_tokens=8))


def rewards(*texts, profile=PROFILE, opened=False):
    metrics, row = {}, OrderedItem(item(1, (0,)), (1, 0))
    reward = OutcomeReward(profile, [row], decode=lambda ids: texts[ids[0]], opened=opened)
    values = reward(
        completions=[""] * len(texts),
        completion_ids=[[i] for i in range(len(texts))],
        row=[0] * len(texts),
        log_metric=metrics.__setitem__,
        prompts=None,
    )
    return values, metrics


def test_only_right_completions_are_rewarded():
    """The best response has to score strictly above the others."""
    values, metrics = rewards("3, 8}", "8, 3}", "5, 5}", "3, 11}", "3}", "I think", "")
    assert values == [1, -1, -1, -1, -1, -1, -1]
    assert metrics == {"readable": pytest.approx(3 / 7), "right": pytest.approx(1 / 7), "cut_in_thinking": 0}


THINKS = replace(SHORT, opening="")
RIGHT = "Scores: \\boxed{3, 8}"


def test_drafts_in_thinking_earn_nothing():
    wrong = "Scores: \\boxed{8, 3}"
    for start, opened in (("<think>", False), ("", True)):
        texts = (f"{start}{wrong}</think>{RIGHT}", f"{start}{RIGHT}</think>{wrong}", f"{start}{RIGHT}")
        values, metrics = rewards(*texts, profile=THINKS, opened=opened)
        assert values == [1, -1, -1]
        assert metrics == {
            "readable": pytest.approx(2 / 3),
            "right": pytest.approx(1 / 3),
            "cut_in_thinking": pytest.approx(1 / 3),
        }


def test_tags_of_the_profile_hide_drafts():
    profile = replace(THINKS, thinking=ThinkingSettings(tags=(("<plan>", "</plan>"),)))
    text = f"<plan>{RIGHT}</plan>Neither."
    assert rewards(text, profile=profile)[0] == [-1]


def test_text_after_scores_is_ignored():
    assert rewards("3, 8} so it is")[0] == rewards("3, 8}")[0] == [1]


def test_all_orders_balance_positions():
    rows = in_all_orders([item(1, n=3), item(2)], seed=0)
    assert len(rows) == 5
    assert {row.order.index(0) for row in rows[:3]} == {0, 1, 2}
    assert {row.order for row in rows[3:]} == {(0, 1), (1, 0)}
    first = {in_all_orders([item(i)], 0)[0].order for i in range(9)}
    assert len(first) == 2
