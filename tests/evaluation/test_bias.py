import pytest

from grm_service.evaluation import bias
from grm_service.evaluation.cost import cost_of, tokens
from grm_service.evaluation.report import measure
from grm_service.profiles.profile import Scale
from tests.evaluation.judged import SETUP, item

ORDER = [(0, 1), (1, 0)] * 4


def by_place(first, last):
    """A judge that sees nothing but the place."""
    return [(first, last) if order[0] == 0 else (last, first) for order in ORDER]


def test_a_judge_that_prefers_a_place_shows_it():
    found = bias.position([item(by_place(9.0, 3.0), order=ORDER, name=str(i)) for i in range(10)])
    assert found.first_wins.value == 1.0
    assert (found.right_when_first.value, found.right_when_last.value) == (1.0, 0.0)
    assert found.order_consistency.value == 0.0
    assert found.halves_consistency.value == 1.0


def test_a_judge_of_content_shows_no_place():
    found = bias.position([item([(8.0, 3.0)] * 8, order=ORDER, name=str(i)) for i in range(10)])
    assert found.first_wins.value == 0.5
    assert (found.right_when_first.value, found.right_when_last.value) == (1.0, 1.0)
    assert found.order_consistency.value == 1.0


def test_samples_of_one_item_are_no_independent_evidence():
    few = bias.position(
        [
            item(by_place(9.0, 3.0) if i % 2 else by_place(3.0, 9.0), order=ORDER, name=str(i))
            for i in range(8)
        ]
    )
    assert few.first_wins.n == 64
    interval = few.first_wins.interval
    assert interval.high - interval.low > 0.5, "as wide as 8 items, not as narrow as 64 samples"


def test_a_judge_that_prefers_length_shows_it():
    items = [
        item([(8.0, 3.0)] * 8, (0,) if i < 3 else (1,), lengths=(100, 10), name=str(i)) for i in range(8)
    ]
    found = bias.length(items)
    assert (found.longest_right.n, found.longest_right.value) == (3, 1.0)
    assert (found.other_right.n, found.other_right.value) == (5, 0.0)
    assert found.longest_wins.value == 1.0
    assert found.longest_is_right == 3 / 8


def test_a_judge_that_prefers_its_own_model_shows_it():
    authors = ("lab/Judge-7B", "other")
    items = [
        item([(8.0, 3.0)] * 8, (i % 2,), authors=authors, model="Judge-7b", name=str(i)) for i in range(10)
    ]
    own, other = bias.authors(items, "judge-7b")
    assert (own.author, own.self, own.n) == ("lab/Judge-7B", True, 10)
    assert (own.wins, own.right, own.favour) == (1.0, 0.5, 0.5)
    assert own.interval.low > 0
    assert other.favour == -0.5


def test_items_without_known_authors_say_nothing_of_preference():
    assert bias.authors([item([(8.0, 3.0)])], "judge") == ()


def test_stopping_saves_what_the_rule_would_not_have_taken():
    sure = item([(10.0, 1.0)] * 8, name="sure")
    unsure = item([(5.0, 5.0)] * 8, name="unsure")
    found = cost_of([sure, unsure], Scale(1, 10), 8)
    exact = found.stopping[0]
    # A lead of 9 a sample cannot be lost once 9 * taken > 9 * left, looked at after every rotation: 6 of 8.
    assert exact.rule == "exact"
    assert exact.samples_saved == pytest.approx(2 / 16)
    assert exact.tokens_saved == pytest.approx(2 / 16)
    assert (exact.same_winner, exact.accuracy_change) == (1.0, 0.0)


def test_without_a_scale_nothing_is_said_of_stopping():
    assert cost_of([item([(5.0, 4.0)] * 8)], None, 8).stopping == ()


def test_tokens_of_principles_are_spent_at_every_k():
    judged = item([(5.0, 4.0)] * 8, completion_tokens=100)  # 8 samples of 10, so 20 for principles
    assert (tokens(judged, 8, 8), tokens(judged, 2, 8)) == (100, 40)


def test_what_failed_counts_as_wrong_and_is_told_apart():
    good = [item([(8.0, 3.0)] * 8, name=str(i)) for i in range(3)]
    lost = item([None, *[(0.0, 0.0)] * 7], name="lost", error="all_unreadable")
    found = measure([*good, lost], SETUP, [1, 8])
    assert (found.overall.n, found.overall.failed) == (4, 1)
    assert found.overall.strict == found.overall.half == found.scaling[0].half == 0.75
    assert found.failed == {"all_unreadable": 1}
    assert found.calibration.n == 3


def test_items_that_people_call_a_tie_are_no_part_of_accuracy():
    tied = item([(5.0, 5.0)] * 8, (), name="tied")
    found = measure([item([(8.0, 3.0)] * 8), tied], SETUP, [8])
    assert found.overall.n == 1
    assert (found.ties.n, found.ties.judged_ties, found.ties.gap) == (1, 1.0, 0.0)


def test_probes_are_reported_by_name():
    items = [item([(8.0, 3.0)] * 8, (i % 2,), probe="verbosity", name=str(i)) for i in range(4)]
    assert measure(items, SETUP, [8]).by_probe["verbosity"].strict == 0.5
