"""What a judge learns from: rejective sampling's rules on cases made by hand."""

from dataclasses import replace

import pytest

from grm_service.errors import BadTask
from grm_service.judging.orders import balanced_orders
from grm_service.training.rejection_sampling import choose, too_easy
from grm_service.training.sampling import right
from grm_service.training.trajectories import ItemTrajectories, Trajectory
from tests.training.conftest import item

ITEM = item(1, (0,))
RIGHT = Trajectory((0, 1), "Scores: \\boxed{8, 3}", (8.0, 3.0), True)
WRONG = Trajectory((1, 0), "Scores: \\boxed{8, 3}", (3.0, 8.0), False)


def tried(*trajectories, of=ITEM):
    return ItemTrajectories.of(of, trajectories)


def kept(*found, items=(ITEM,), **asked):
    return [example.trajectory for example in choose(items, found, **asked).examples]


def shown(order, **changed):
    """A right trajectory of the item, shown in this order."""
    return replace(RIGHT, order=order, **changed)


BOTH = (shown((0, 1)), shown((1, 0)))


@pytest.mark.parametrize(
    ("scores", "correct", "judged"),
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
def test_right_is_strictly_above_every_wrong_one(scores, correct, judged):
    assert right(scores, item(1, correct, n=3 if len(correct) > 1 else 2)) is judged


def test_wrong_and_unreadable_ones_are_rejected_and_counted():
    unread = Trajectory((0, 1), "", None, False, error="no_scores")
    choice = choose([ITEM], [tried(*BOTH, WRONG, unread)])
    assert [each.trajectory for each in choice.examples] == list(BOTH)
    assert choice.rates == {"maths": {"kept": 2, "wrong": 1, "no_scores": 1}}


def test_an_item_that_is_right_every_time_is_too_easy_unless_the_judge_is_a_better_one():
    assert too_easy(tried(*BOTH))
    assert kept(tried(*BOTH)) == []
    assert kept(tried(*BOTH), keep_easy=True) == list(BOTH)


def test_an_item_that_was_tried_once_is_not_known_to_be_easy():
    assert not too_easy(tried(RIGHT))
    assert not too_easy(tried(*(replace(each, origin="form") for each in BOTH)))


def test_a_hinted_trajectory_that_tells_of_the_hint_is_rejected():
    hinted = [shown(order, origin="hinted") for order in ((0, 1), (1, 0))]
    assert kept(tried(WRONG, *hinted)) == hinted
    telling = [replace(each, text=f"As told, the best response is 1. {each.text}") for each in hinted]
    assert kept(tried(WRONG, *telling)) == []


def test_the_best_response_stands_in_every_place_equally_often_in_every_source():
    items = [item(i, (i % 3,), source, n=3) for source in "ab" for i in range(40)]
    found = [
        tried(Trajectory(order, "", (0.0,) * 3, True), of=each)
        for each in items
        for order in balanced_orders(3, 1 + each.correct[0], each.seed(0))
    ]
    examples = choose(items, found, keep_easy=True).examples
    places = {}
    for example in examples:
        place = example.trajectory.order.index(example.item.correct[0])
        places[example.item.source, place] = places.get((example.item.source, place), 0) + 1
    assert set(places) == {(source, place) for source in "ab" for place in range(3)}
    assert {source: len({places[source, place] for place in range(3)}) for source in "ab"} == {"a": 1, "b": 1}


def test_the_same_trajectories_are_chosen_every_time():
    items = [item(i, (0,)) for i in range(30)]
    found = [tried(shown(balanced_orders(2, 1, each.seed(0))[0]), of=each) for each in items]
    first, again, other = (choose(items, found, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert 0 < len(first.examples) < 30
    assert first.examples != other.examples


def test_data_that_has_changed_since_is_refused():
    with pytest.raises(BadTask, match="maths:1 has other texts now"):
        choose([replace(ITEM, responses=("other", "texts"))], [tried(*BOTH)])
