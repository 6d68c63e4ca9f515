from dataclasses import replace

import pytest

from grm_service.errors import BadTask
from grm_service.evaluation.comparison import ComparedRun, check_reports, compare_pair, compare_runs
from grm_service.evaluation.report import measure
from tests.evaluation.judged import SETUP, item

RIGHT, WRONG = [(8.0, 3.0)] * 8, [(3.0, 8.0)] * 8
TIED = [(5.0, 5.0)] * 8


def run(name, outcomes, setup=SETUP, vote="mean", **facts):
    items = [item(rows, name=str(i), **facts) for i, rows in enumerate(outcomes)]
    return ComparedRun(name, setup, items, vote)


def test_difference_is_paired_and_lists_flips():
    a = run("a", [RIGHT] * 6 + [WRONG] * 4)
    b = run("b", [RIGHT] * 5 + [WRONG] + [RIGHT] * 3 + [TIED])
    result = compare_pair(a, b)
    assert (result.overall.a, result.overall.b) == (0.6, 0.8)
    assert result.overall.strict == pytest.approx(0.2)
    assert result.overall.half == pytest.approx(0.25)
    assert (result.overall.better, result.overall.worse) == (3, 1)
    assert [(flip.id, flip.right) for flip in result.flipped] == [
        ("5", "a"),
        ("6", "b"),
        ("7", "b"),
        ("8", "b"),
    ]
    assert result.overall.strict_interval.low < 0.2 < result.overall.strict_interval.high


def test_pairing_narrows_the_interval():
    outcomes = [RIGHT, WRONG] * 50
    same = compare_pair(run("a", outcomes), run("b", outcomes)).overall
    assert (same.strict_interval.low, same.strict_interval.high) == (0, 0)
    one_more = compare_pair(run("a", outcomes), run("b", [*outcomes[:-1], RIGHT])).overall
    assert one_more.strict_interval.high <= 0.04, "unpaired it were some 0.14"


def test_differing_settings_and_votes_are_listed():
    loud = [[(9.0, 1.0), (4.0, 5.0), (4.0, 5.0), (4.0, 5.0)]] * 3
    a, b = run("a", loud), run("a@majority", loud, replace(SETUP, score="soft"), "majority", model="m")
    result = compare_pair(a, b)
    assert result.settings["vote"] == ("mean", "majority")
    assert result.settings["score"] == ("hard", "soft")
    assert result.settings["model"] == ("", "m")
    assert (result.overall.a, result.overall.b) == (1.0, 0.0)


def test_items_of_one_run_are_counted():
    a, b = run("a", [RIGHT] * 5), run("b", [RIGHT] * 3)
    for each in (a, b):
        each.items.append(item(TIED, (), name="people call it a tie"))
    result = compare_pair(a, b)
    assert (result.overall.n, result.only_a, result.only_b) == (3, 2, 0)


def test_runs_over_other_data_are_rejected():
    with pytest.raises(BadTask, match="0 had other texts"):
        compare_pair(
            run("a", [RIGHT]), ComparedRun("b", SETUP, [replace(item(RIGHT, name="0"), digest="other")])
        )
    with pytest.raises(BadTask, match="no item in common"):
        compare_pair(run("a", [RIGHT]), ComparedRun("b", SETUP, [item(RIGHT, name="else")]))


def test_curves_over_every_k():
    mixed = [(8.0, 3.0)] * 4 + [(3.0, 8.0)] * 2 + [(5.0, 5.0)] * 2
    runs = [
        run("a", [RIGHT] * 4),
        run("b", [mixed] * 4, prompt_tokens=80),
        run("c", [WRONG] * 4, vote="median"),
    ]
    first, other, voted = compare_runs(runs).curves
    assert [point.k for point in first.points] == [1, 2, 4, 8]
    assert [point.tokens for point in first.points] == [10, 20, 40, 80]
    assert [point.difference for point in first.points] == [0, 0, 0, 0]
    assert other.prompt_tokens == 80
    assert other.points[0].half == pytest.approx(5 / 8)
    assert other.points[0].difference == pytest.approx(3 / 8)
    assert [(point.k, point.half, point.difference) for point in voted.points] == [(8, 0.0, 1.0)]


def test_stopped_run_has_one_point():
    early = run("a", [RIGHT, WRONG], replace(SETUP, stop="confident"))
    first, other = compare_runs([early, run("b", [RIGHT, WRONG])]).curves
    assert [point.k for point in first.points] == [8]
    assert [point.k for point in other.points] == [1, 2, 4, 8]


def test_all_runs_are_compared_with_first():
    result = compare_runs([run("a", [RIGHT, WRONG]), run("b", [WRONG, WRONG]), run("c", [RIGHT, RIGHT])])
    assert [(each.a, each.b, each.overall.strict) for each in result.against_first] == [
        ("a", "b", -0.5),
        ("a", "c", 0.5),
    ]


def report(right, n=40, **facts):
    return measure(run("r", [RIGHT] * right + [WRONG] * (n - right), **facts).items, SETUP, [1, 8])


def test_reproduced_figures_are_within_intervals():
    result = check_reports(report(31), report(30))
    assert [each.figure for each in result] == [
        "strictly right",
        "k = 1, ties shared",
        "k = 8, ties shared",
        "source",
    ]
    assert all(each.reproduced for each in result)
    assert not any(each.reproduced for each in check_reports(report(10), report(30)))


def test_all_wrong_source_has_an_interval():
    assert check_reports(report(1, 8), report(0, 8))[-1].reproduced


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (report(20, 41), "numbers of items, 40 and 41"),
        (report(20, model="m"), "models, None and m"),
        (report(20, source="else"), "sources differ"),
    ],
)
def test_incomparable_reports_are_rejected(other, says):
    with pytest.raises(BadTask, match=says):
        check_reports(report(20), other)
