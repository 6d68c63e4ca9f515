import pytest

from grm_service.evaluation.outcomes import of, rewards
from grm_service.evaluation.report import measure
from grm_service.evaluation.votes import VOTES
from tests.evaluation.judged import SETUP, item, large


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


@pytest.mark.parametrize("kind", VOTES)
def test_a_sample_that_cannot_be_read_moves_no_vote(kind):
    with_it, without = [(9.0, 1.0), None, (3.0, 5.0)], [(9.0, 1.0), (3.0, 5.0)]
    order = [(0, 1)] * 3
    assert rewards(item(with_it, order=order).samples, kind) == rewards(
        item(without, order=order[:2]).samples, kind
    )


@pytest.mark.parametrize("kind", VOTES)
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
