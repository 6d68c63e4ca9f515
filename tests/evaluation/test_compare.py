from dataclasses import replace

import pytest

from grm_service.errors import BadTask
from grm_service.evaluation.compare import ComparedRun, compare, compare_all
from grm_service.evaluation.report import measure
from grm_service.evaluation.reproduce import check
from tests.evaluation.judged import SETUP, item

RIGHT, WRONG = [(8.0, 3.0)] * 8, [(3.0, 8.0)] * 8
TIED = [(5.0, 5.0)] * 8


def run(name, outcomes, setup=SETUP, vote="mean", **facts):
    items = [item(rows, name=str(i), **facts) for i, rows in enumerate(outcomes)]
    return ComparedRun(name, setup, items, vote)


def test_a_difference_is_paired_and_names_the_items_that_flipped():
    a = run("a", [RIGHT] * 6 + [WRONG] * 4)
    b = run("b", [RIGHT] * 5 + [WRONG] + [RIGHT] * 3 + [TIED])
    found = compare(a, b)
    assert (found.overall.a, found.overall.b) == (0.6, 0.8)
    assert found.overall.strict == pytest.approx(0.2)
    assert found.overall.half == pytest.approx(0.25)
    assert (found.overall.better, found.overall.worse) == (3, 1)
    assert [(flip.id, flip.right) for flip in found.flipped] == [
        ("5", "a"),
        ("6", "b"),
        ("7", "b"),
        ("8", "b"),
    ]
    assert found.overall.strict_interval.low < 0.2 < found.overall.strict_interval.high


def test_what_is_hard_for_both_does_not_blur_a_difference():
    outcomes = [RIGHT, WRONG] * 50
    same = compare(run("a", outcomes), run("b", outcomes)).overall
    assert (same.strict_interval.low, same.strict_interval.high) == (0, 0)
    one_more = compare(run("a", outcomes), run("b", [*outcomes[:-1], RIGHT])).overall
    assert one_more.strict_interval.high <= 0.04, "unpaired it were some 0.14"


def test_settings_and_votes_that_differ_are_named():
    loud = [[(9.0, 1.0), (4.0, 5.0), (4.0, 5.0), (4.0, 5.0)]] * 3
    a, b = run("a", loud), run("a@majority", loud, replace(SETUP, score="soft"), "majority", model="m")
    found = compare(a, b)
    assert found.settings["vote"] == ("mean", "majority")
    assert found.settings["score"] == ("hard", "soft")
    assert found.settings["model"] == ("", "m")
    assert (found.overall.a, found.overall.b) == (1.0, 0.0)


def test_items_of_one_run_only_are_counted_and_ties_are_no_such():
    a, b = run("a", [RIGHT] * 5), run("b", [RIGHT] * 3)
    for each in (a, b):
        each.items.append(item(TIED, (), name="people call it a tie"))
    found = compare(a, b)
    assert (found.overall.n, found.only_a, found.only_b) == (3, 2, 0)


def test_runs_over_other_data_are_not_compared():
    with pytest.raises(BadTask, match="0 had other texts"):
        compare(run("a", [RIGHT]), ComparedRun("b", SETUP, [replace(item(RIGHT, name="0"), digest="other")]))
    with pytest.raises(BadTask, match="no item in common"):
        compare(run("a", [RIGHT]), ComparedRun("b", SETUP, [item(RIGHT, name="else")]))


def test_curves_show_accuracy_and_tokens_at_every_k_less_the_first():
    mixed = [(8.0, 3.0)] * 4 + [(3.0, 8.0)] * 2 + [(5.0, 5.0)] * 2
    runs = [
        run("a", [RIGHT] * 4),
        run("b", [mixed] * 4, prompt_tokens=80),
        run("c", [WRONG] * 4, vote="median"),
    ]
    first, other, voted = compare_all(runs).curves
    assert [point.k for point in first.points] == [1, 2, 4, 8]
    assert [point.tokens for point in first.points] == [10, 20, 40, 80]
    assert [point.difference for point in first.points] == [0, 0, 0, 0]
    assert other.prompt_tokens == 80
    assert other.points[0].half == pytest.approx(5 / 8)
    assert other.points[0].difference == pytest.approx(3 / 8)
    assert [(point.k, point.half, point.difference) for point in voted.points] == [(8, 0.0, 1.0)]


def test_all_others_are_held_against_the_first():
    found = compare_all([run("a", [RIGHT, WRONG]), run("b", [WRONG, WRONG]), run("c", [RIGHT, RIGHT])])
    assert [(each.a, each.b, each.overall.strict) for each in found.against_first] == [
        ("a", "b", -0.5),
        ("a", "c", 0.5),
    ]


def report(right, n=40, **facts):
    return measure(run("r", [RIGHT] * right + [WRONG] * (n - right), **facts).items, SETUP, [1, 8])


def test_a_run_that_reproduces_another_holds_all_its_figures():
    found = check(report(31), report(30))
    assert [each.what for each in found] == [
        "strictly right",
        "k = 1, ties shared",
        "k = 8, ties shared",
        "source",
    ]
    assert all(each.held for each in found)
    assert not any(each.held for each in check(report(10), report(30)))


def test_a_source_that_was_all_wrong_may_have_one_right():
    assert check(report(1, 8), report(0, 8))[-1].held


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (report(20, 41), "numbers of items, 40 and 41"),
        (report(20, model="m"), "models, None and m"),
        (report(20, source="else"), "sources differ"),
    ],
)
def test_reports_of_different_things_are_not_held_against_each_other(other, says):
    with pytest.raises(BadTask, match=says):
        check(report(20), other)
