from dataclasses import replace

import pytest

from grm_service.errors import BadTask
from grm_service.evaluation import markdown
from grm_service.evaluation.outcomes import of, rewards
from grm_service.evaluation.report import measure
from grm_service.evaluation.stats import Area
from grm_service.evaluation.votes import GUIDED, VOTES
from tests.evaluation.judged import SETUP, item, large

UNGUIDED = [kind for kind in VOTES if kind != GUIDED]


def graded(judged, *grades):
    samples = zip(judged.samples, grades, strict=True)
    return replace(judged, samples=tuple(replace(sample, grade=grade) for sample, grade in samples))


@pytest.mark.parametrize(
    ("kind", "rows", "expected"),
    [
        ("mean", [(9.0, 1.0), (4.0, 5.0), (4.0, 5.0)], (17 / 3, 11 / 3)),
        ("median", [(9.0, 1.0), (4.0, 5.0), (4.0, 5.0)], (4.0, 5.0)),
        ("majority", [(9.0, 1.0), (4.0, 5.0), (4.0, 5.0)], (1 / 3, 2 / 3)),
        ("majority", [(5.0, 5.0), (5.0, 4.0)], (3 / 4, 1 / 4)),
        ("majority", [(5.0, 5.0, 5.0), (5.0, 4.0, 5.0)], ((1 / 3 + 1 / 2) / 2, 1 / 6, (1 / 3 + 1 / 2) / 2)),
        ("median", [(2.0, 1.0), (4.0, 5.0)], (3.0, 3.0)),
    ],
)
def test_votes_are_what_their_names_say(kind, rows, expected):
    assert VOTES[kind](rows) == pytest.approx(expected)


@pytest.mark.parametrize("kind", UNGUIDED)
def test_a_sample_that_cannot_be_read_moves_no_vote(kind):
    with_it, without = [(9.0, 1.0), None, (3.0, 5.0)], [(9.0, 1.0), (3.0, 5.0)]
    order = [(0, 1)] * 3
    assert rewards(item(with_it, order=order).samples, kind) == rewards(
        item(without, order=order[:2]).samples, kind
    )


@pytest.mark.parametrize("kind", UNGUIDED)
def test_a_large_group_is_voted_over_the_samples_that_saw_a_response(kind):
    judged = large(4, 9, lambda order: [float(9 - i) for i in order])
    found = rewards(judged.samples, kind)
    assert len(found) == 9
    assert found[0] == max(found)
    assert of(judged, kind).strict == 1


def test_the_report_has_every_vote_beside_the_mean():
    # One loud sample decides the mean, two quiet ones the others.
    loud = [item([(9.0, 1.0), (4.0, 5.0), (4.0, 5.0), (4.0, 5.0)], name=str(i)) for i in range(10)]
    found = {each.vote: each for each in measure(loud, SETUP, [8]).votes}
    assert (found["mean"].half, found["mean"].difference) == (1.0, 0.0)
    assert (found["majority"].half, found["majority"].difference) == (0.0, -1.0)
    assert found["median"].strict == 0.0
    assert found["median"].difference_interval.high == -1.0


def test_the_meta_rm_s_vote_is_the_mean_of_the_half_that_it_grades_best():
    judged = graded(item([(9.0, 1.0), (2.0, 3.0), (4.0, 5.0), None]), 0.1, 0.9, 0.8, None)
    assert rewards(judged.samples, GUIDED) == (3.0, 4.0)
    assert rewards(judged.samples) == (5.0, 3.0)
    assert rewards(graded(item([(9.0, 1.0)]), 0.5).samples, GUIDED) == (9.0, 1.0)
    assert rewards(graded(item([(9.0, 1.0), None, None]), 0.5, None, None).samples, GUIDED) == (9.0, 1.0)


def test_samples_without_grades_have_no_such_vote():
    with pytest.raises(BadTask, match="judge them with a meta RM"):
        rewards(item([(9.0, 1.0), (2.0, 3.0)]).samples, GUIDED)
    report = measure([item([(9.0, 1.0)])], SETUP, [8])
    assert (report.grading, [each.vote for each in report.votes]) == (None, UNGUIDED)
    assert "`meta`" not in markdown.report(report, [])


def test_the_report_tells_voting_with_the_meta_rm_from_voting_without_and_how_well_it_grades():
    # Two samples are wrong and loud, and the meta RM sees through both.
    rows = [(3.0, 9.0), (3.0, 9.0), (5.0, 4.0), (5.0, 4.0)]
    judged = [graded(item(rows, name=str(i)), 0.2, 0.4, 0.5, 0.9) for i in range(10)]
    report = measure(judged, SETUP, [8])
    found = {each.vote: each for each in report.votes}
    assert (found["mean"].strict, found["meta"].strict) == (0.0, 1.0)
    assert found["meta"].difference_interval.low == 1.0
    assert (report.grading.n, report.grading.right) == (40, 0.5)
    assert (report.grading.auc.value, report.grading.within.value) == (1.0, 1.0)
    assert "an area under the ROC curve of 1.000" in markdown.report(report, [])


def test_how_well_it_grades_within_an_item_is_told_apart_from_knowing_easy_items():
    # It knows which item is easy, and nothing else.
    easy = [graded(item([(9.0, 1.0)] * 3 + [(1.0, 9.0)], name=f"e{i}"), *[0.9] * 4) for i in range(20)]
    hard = [graded(item([(1.0, 9.0)] * 3 + [(9.0, 1.0)], name=f"h{i}"), *[0.1] * 4) for i in range(20)]
    found = measure([*easy, *hard], SETUP, [8]).grading
    assert found.auc.value == 0.75
    assert found.within == Area(0.5, found.within.interval)
