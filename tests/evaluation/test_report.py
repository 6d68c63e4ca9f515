from dataclasses import replace

import pytest

from grm_service.evaluation.markdown import render_report
from grm_service.evaluation.report import measure
from grm_service.profiles.profile import Scale
from tests.evaluation.judged import SETUP, item


def test_failed_items_count_as_wrong():
    good = [item([(8.0, 3.0)] * 8, name=str(i)) for i in range(3)]
    lost = item([None, *[(0.0, 0.0)] * 7], name="lost", error="all_unreadable")
    result = measure([*good, lost], SETUP, [1, 8])
    assert (result.overall.n, result.overall.failed) == (4, 1)
    assert result.overall.strict == result.overall.half == result.scaling[0].half == 0.75
    assert result.failed == {"all_unreadable": 1}
    assert result.calibration.n == 3


def test_labelled_ties_are_not_in_accuracy():
    tied = item([(5.0, 5.0)] * 8, (), name="tied")
    result = measure([item([(8.0, 3.0)] * 8), tied], SETUP, [8])
    assert result.overall.n == 1
    assert (result.ties.n, result.ties.judged_ties, result.ties.gap) == (1, 1.0, 0.0)


def test_probes_are_reported_by_name():
    items = [item([(8.0, 3.0)] * 8, (i % 2,), probe="verbosity", name=str(i)) for i in range(4)]
    assert measure(items, SETUP, [8]).by_probe["verbosity"].strict == 0.5


def stopped(n, error=None):
    """Return an item of which only `n` of 8 samples are readable or were generated."""
    judged = item([(8.0, 3.0)] * 8, name=str(n))
    if error is None:
        return replace(judged, samples=judged.samples[:n])
    cut_off = [replace(sample, scores=None, error=error) for sample in judged.samples[n:]]
    return replace(judged, samples=(*judged.samples[:n], *cut_off))


def test_early_stopping_leaves_figures_out():
    setup = replace(SETUP, stop="exact")
    report = measure([stopped(2), stopped(6), stopped(8)], setup, [1, 2, 8], Scale(1, 10))
    assert [step.k for step in report.scaling] == [8]
    assert (report.votes, report.cost.stopping) == ((), ())
    assert (report.overall.strict, report.calibration.n, report.position.first_wins.n) == (1.0, 3, 16)
    text = render_report(report, [])
    assert "Smaller k are left out: the stop rule `exact` ended items early" in text
    assert "## Votes" not in text


@pytest.mark.parametrize("where", ["sample", "item"])
def test_time_limit_leaves_scaling_out(where):
    late = stopped(3, "deadline_exceeded")
    if where == "item":
        late = replace(late, samples=(), error="deadline_exceeded")
    report = measure([late, item([(8.0, 3.0)] * 8)], replace(SETUP, timeout_s=1.0), [1, 8])
    assert [step.k for step in report.scaling] == [8]
    assert len(report.votes) == 3, "the same samples, whatever the vote"
    assert "Smaller k are left out: the time limit cut off samples" in render_report(report, [])


def test_unknown_tokens_are_reported_as_unknown():
    judged = [item([(8.0, 3.0)] * 8, name=str(i), completion_tokens=None) for i in range(2)]
    text = render_report(measure(judged, SETUP, [1, 8]), [])
    assert "unknown of answers" in text
