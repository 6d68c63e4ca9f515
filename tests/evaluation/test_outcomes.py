from dataclasses import replace

import pytest

from grm_service.errors import BadTask
from grm_service.evaluation import markdown
from grm_service.evaluation.outcomes import META_VOTE, VOTES, credit, item_credit, vote_rewards
from grm_service.evaluation.report import measure
from grm_service.evaluation.stats import Area
from tests.evaluation.judged import SETUP, item, large

UNGUIDED = [kind for kind in VOTES if kind != META_VOTE]


def graded(judged, *grades):
    samples = zip(judged.samples, grades, strict=True)
    return replace(judged, samples=tuple(replace(sample, grade=grade) for sample, grade in samples))


@pytest.mark.parametrize(
    ("rewards", "correct", "strict", "half"),
    [
        ((7.0, 5.0), (0,), 1, 1),
        ((5.0, 7.0), (0,), 0, 0),
        ((5.0, 5.0), (0,), 0, 1 / 2),
        ((5.0, 5.0, 5.0, 1.0), (1,), 0, 1 / 3),
        ((5.0, 5.0, 6.0), (0,), 0, 0),
        ((8.0, 6.0, 5.0), (0, 1), 1, 1),
        ((8.0, 5.0, 5.0), (0, 1), 0, 1 / 2),
        ((8.0, 4.0, 5.0), (0, 1), 0, 0),
    ],
)
def test_credit_of_ties(rewards, correct, strict, half):
    result = credit(rewards, correct)
    assert (result.strict, result.half) == (strict, pytest.approx(half))


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
def test_votes(kind, rows, expected):
    assert VOTES[kind](rows) == pytest.approx(expected)


@pytest.mark.parametrize("kind", UNGUIDED)
def test_unreadable_sample_changes_no_vote(kind):
    with_it, without = [(9.0, 1.0), None, (3.0, 5.0)], [(9.0, 1.0), (3.0, 5.0)]
    order = [(0, 1)] * 3
    assert vote_rewards(item(with_it, order=order).samples, kind) == vote_rewards(
        item(without, order=order[:2]).samples, kind
    )


@pytest.mark.parametrize("kind", UNGUIDED)
def test_large_group_vote(kind):
    judged = large(4, 9, lambda order: [float(9 - i) for i in order])
    result = vote_rewards(judged.samples, kind)
    assert len(result) == 9
    assert result[0] == max(result)
    assert item_credit(judged, kind).strict == 1


def test_report_has_every_vote():
    # One sample with a large margin decides the mean, the others decide the median and the majority.
    loud = [item([(9.0, 1.0), (4.0, 5.0), (4.0, 5.0), (4.0, 5.0)], name=str(i)) for i in range(10)]
    result = {each.vote: each for each in measure(loud, SETUP, [8]).votes}
    assert (result["mean"].half, result["mean"].difference) == (1.0, 0.0)
    assert (result["majority"].half, result["majority"].difference) == (0.0, -1.0)
    assert result["median"].strict == 0.0
    assert result["median"].difference_interval.high == -1.0


def test_meta_vote_of_best_half():
    judged = graded(item([(9.0, 1.0), (2.0, 3.0), (4.0, 5.0), None]), 0.1, 0.9, 0.8, None)
    assert vote_rewards(judged.samples, META_VOTE) == (3.0, 4.0)
    assert vote_rewards(judged.samples) == (5.0, 3.0)
    assert vote_rewards(graded(item([(9.0, 1.0)]), 0.5).samples, META_VOTE) == (9.0, 1.0)
    assert vote_rewards(graded(item([(9.0, 1.0), None, None]), 0.5, None, None).samples, META_VOTE) == (
        9.0,
        1.0,
    )


@pytest.mark.parametrize(("share", "rewards"), [(1 / 4, (2.0, 3.0)), (3 / 4, (5.0, 3.0)), (1.0, (5.0, 3.0))])
def test_meta_vote_over_a_share(share, rewards):
    judged = graded(item([(9.0, 1.0), (2.0, 3.0), (4.0, 5.0), None]), 0.1, 0.9, 0.8, None)
    assert vote_rewards(judged.samples, META_VOTE, share) == rewards


def test_ungraded_samples_have_no_meta_vote():
    with pytest.raises(BadTask, match="judge them with a meta RM"):
        vote_rewards(item([(9.0, 1.0), (2.0, 3.0)]).samples, META_VOTE)
    report = measure([item([(9.0, 1.0)])], SETUP, [8])
    assert (report.grading, [each.vote for each in report.votes]) == (None, UNGUIDED)
    assert "`meta`" not in markdown.render_report(report, [])


def test_report_has_meta_vote_and_grading():
    # Two samples are wrong with a large margin, and the meta RM grades both low.
    rows = [(3.0, 9.0), (3.0, 9.0), (5.0, 4.0), (5.0, 4.0)]
    judged = [graded(item(rows, name=str(i)), 0.2, 0.4, 0.5, 0.9) for i in range(10)]
    report = measure(judged, SETUP, [8])
    result = {each.vote: each for each in report.votes}
    assert (result["mean"].strict, result["meta"].strict) == (0.0, 1.0)
    assert result["meta"].difference_interval.low == 1.0
    assert (report.grading.n, report.grading.right) == (40, 0.5)
    assert (report.grading.auc.value, report.grading.within.value) == (1.0, 1.0)
    assert "an area under the ROC curve of 1.000" in markdown.render_report(report, [])


def test_grading_within_items_ignores_difficulty():
    # The grades depend only on the difficulty of the item.
    easy = [graded(item([(9.0, 1.0)] * 3 + [(1.0, 9.0)], name=f"e{i}"), *[0.9] * 4) for i in range(20)]
    hard = [graded(item([(1.0, 9.0)] * 3 + [(9.0, 1.0)], name=f"h{i}"), *[0.1] * 4) for i in range(20)]
    result = measure([*easy, *hard], SETUP, [8]).grading
    assert result.auc.value == 0.75
    assert result.within == Area(0.5, result.within.interval)
