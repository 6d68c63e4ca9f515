"""The rules of rejection sampling, on hand-written cases."""

from dataclasses import replace

import pytest

from grm_service.errors import BadTask
from grm_service.judging.orders import balanced_orders
from grm_service.training.rejection_sampling import is_too_easy, select
from grm_service.training.sampling import is_right
from grm_service.training.trajectories import ItemTrajectories, Trajectory
from tests.training.conftest import item

ITEM = item(1, (0,))
RIGHT = Trajectory((0, 1), "Scores: \\boxed{8, 3}", (8.0, 3.0), True)
WRONG = Trajectory((1, 0), "Scores: \\boxed{8, 3}", (3.0, 8.0), False)


def trajectories_of(*trajectories, item=ITEM):
    return ItemTrajectories.of(item, trajectories)


def selected(*trajectories, items=(ITEM,), **options):
    return [example.trajectory for example in select(items, trajectories, **options).examples]


def right_in(order, **changed):
    """Return a right trajectory of the item in this order."""
    return replace(RIGHT, order=order, **changed)


BOTH = (right_in((0, 1)), right_in((1, 0)))


@pytest.mark.parametrize(
    ("scores", "correct", "right"),
    [
        ((8.0, 3.0), (0,), True),
        ((3.0, 8.0), (0,), False),
        ((8.0, 8.0), (0,), False),
        (None, (0,), False),
        ((8.0, None), (0,), False),
        ((8.0, 7.0, 3.0), (0, 1), True),
        ((8.0, 3.0, 3.0), (0, 1), False),
    ],
)
def test_right_is_strictly_above_wrong(scores, correct, right):
    assert is_right(scores, item(1, correct, n=3 if len(correct) > 1 else 2)) is right


def test_rejected_trajectories_are_counted():
    unreadable = Trajectory((0, 1), "", None, False, error="no_scores")
    selection = select([ITEM], [trajectories_of(*BOTH, WRONG, unreadable)])
    assert [each.trajectory for each in selection.examples] == list(BOTH)
    assert selection.rates == {"maths": {"kept": 2, "wrong": 1, "no_scores": 1}}


def test_easy_items_are_dropped():
    assert is_too_easy(trajectories_of(*BOTH))
    assert selected(trajectories_of(*BOTH)) == []
    assert selected(trajectories_of(*BOTH), keep_easy=True) == list(BOTH)


def test_one_sample_is_not_easy():
    assert not is_too_easy(trajectories_of(RIGHT))
    assert not is_too_easy(trajectories_of(*(replace(each, origin="form") for each in BOTH)))


def test_mention_of_the_hint_is_rejected():
    hinted = [right_in(order, origin="hinted") for order in ((0, 1), (1, 0))]
    assert selected(trajectories_of(WRONG, *hinted)) == hinted
    mentioning = [replace(each, text=f"As told, the best response is 1. {each.text}") for each in hinted]
    assert selected(trajectories_of(WRONG, *mentioning)) == []


def test_positions_are_balanced_per_source():
    items = [item(i, (i % 3,), source, n=3) for source in "ab" for i in range(40)]
    trajectories = [
        trajectories_of(Trajectory(order, "", (0.0,) * 3, True), item=each)
        for each in items
        for order in balanced_orders(3, 1 + each.correct[0], each.seed(0))
    ]
    examples = select(items, trajectories, keep_easy=True).examples
    counts = {}
    for example in examples:
        position = example.trajectory.order.index(example.item.correct[0])
        key = example.item.source, position
        counts[key] = counts.get(key, 0) + 1
    assert set(counts) == {(source, position) for source in "ab" for position in range(3)}
    assert {source: len({counts[source, at] for at in range(3)}) for source in "ab"} == {"a": 1, "b": 1}


def test_selection_is_deterministic():
    items = [item(i, (0,)) for i in range(30)]
    trajectories = [
        trajectories_of(right_in(balanced_orders(2, 1, each.seed(0))[0]), item=each) for each in items
    ]
    first, again, other = (select(items, trajectories, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert 0 < len(first.examples) < 30
    assert first.examples != other.examples


def test_changed_data_is_refused():
    with pytest.raises(BadTask, match="the texts of maths:1 have changed"):
        select([replace(ITEM, responses=("other", "texts"))], [trajectories_of(*BOTH)])
