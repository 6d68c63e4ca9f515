from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from grm_service.judging.orders import balanced_orders, sample_seed, undo

sizes = st.integers(1, 12)
seeds = st.integers(0, 2**63 - 1)


@given(sizes, st.integers(1, 5), seeds)
def test_over_whole_blocks_every_response_stands_equally_often_everywhere(n, blocks, seed):
    planned = balanced_orders(n, n * blocks, seed)
    for position in range(n):
        assert Counter(order[position] for order in planned) == dict.fromkeys(range(n), blocks)


@given(sizes, st.integers(1, 64), seeds)
def test_each_order_is_a_permutation_and_there_are_k(n, k, seed):
    planned = balanced_orders(n, k, seed)
    assert len(planned) == k
    assert all(sorted(order) == list(range(n)) for order in planned)


@given(sizes, st.integers(1, 63), seeds)
def test_a_larger_k_continues_the_same_plan(n, k, seed):
    assert balanced_orders(n, k + 1, seed)[:k] == balanced_orders(n, k, seed)


@given(st.permutations(range(6)))
def test_order_is_undone(order):
    responses = "abcdef"
    shown = tuple(float(ord(responses[i])) for i in order)
    assert undo(tuple(order), shown, 6) == tuple(float(ord(r)) for r in responses)


def test_what_was_not_shown_has_no_value():
    assert undo((3, 1), (7.0, 4.0), 5) == (None, 4.0, None, 7.0, None)


@given(seeds)
def test_samples_have_seeds_of_their_own_that_any_server_takes(seed):
    drawn = [sample_seed(seed, i) for i in range(64)]
    assert len(set(drawn)) == 64
    assert all(0 <= s < 2**31 for s in drawn)


def test_seeds_and_orders_stay_what_they_are():
    """Old verdicts are replayed with these: a change here breaks them."""
    assert [sample_seed(0, i) for i in range(3)] == [1446583109, 2005510037, 1234457838]
    assert balanced_orders(3, 4, 0) == ((1, 2, 0), (2, 0, 1), (0, 1, 2), (2, 0, 1))
