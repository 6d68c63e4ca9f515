from grm_service.evaluation import bias
from tests.evaluation.judged import item

ORDER = [(0, 1), (1, 0)] * 4


def by_place(first, last):
    """Return the scores of a judge that sees only the position."""
    return [(first, last) if order[0] == 0 else (last, first) for order in ORDER]


def test_position_bias_is_measured():
    result = bias.position_bias([item(by_place(9.0, 3.0), order=ORDER, name=str(i)) for i in range(10)])
    assert result.first_wins.value == 1.0
    assert (result.right_when_first.value, result.right_when_last.value) == (1.0, 0.0)
    assert result.order_consistency.value == 0.0
    assert result.halves_consistency.value == 1.0


def test_unbiased_judge_has_no_position_bias():
    result = bias.position_bias([item([(8.0, 3.0)] * 8, order=ORDER, name=str(i)) for i in range(10)])
    assert result.first_wins.value == 0.5
    assert (result.right_when_first.value, result.right_when_last.value) == (1.0, 1.0)
    assert result.order_consistency.value == 1.0


def test_interval_is_clustered_by_item():
    few = bias.position_bias(
        [
            item(by_place(9.0, 3.0) if i % 2 else by_place(3.0, 9.0), order=ORDER, name=str(i))
            for i in range(8)
        ]
    )
    assert few.first_wins.n == 64
    interval = few.first_wins.interval
    assert interval.high - interval.low > 0.5, "as wide as 8 items, not as narrow as 64 samples"


def test_length_bias_is_measured():
    items = [
        item([(8.0, 3.0)] * 8, (0,) if i < 3 else (1,), lengths=(100, 10), name=str(i)) for i in range(8)
    ]
    result = bias.length_bias(items)
    assert (result.longest_right.n, result.longest_right.value) == (3, 1.0)
    assert (result.other_right.n, result.other_right.value) == (5, 0.0)
    assert result.longest_wins.value == 1.0
    assert result.longest_is_right == 3 / 8


def test_self_preference_is_measured():
    authors = ("lab/Judge-7B", "other")
    items = [
        item([(8.0, 3.0)] * 8, (i % 2,), authors=authors, model="Judge-7b", name=str(i)) for i in range(10)
    ]
    own, other = bias.author_bias(items, "judge-7b")
    assert (own.author, own.self, own.n) == ("lab/Judge-7B", True, 10)
    assert (own.wins, own.right, own.favour) == (1.0, 0.5, 0.5)
    assert own.interval.low > 0
    assert other.favour == -0.5


def test_items_without_authors_are_ignored():
    assert bias.author_bias([item([(8.0, 3.0)])], "judge") == ()
