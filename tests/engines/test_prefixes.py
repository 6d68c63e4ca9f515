import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from grm_service.engines.prefixes import Prefixes, shared

IDS = st.lists(st.integers(0, 1), max_size=12).map(lambda ids: np.array(ids, np.int64))


def ids(*spans):
    """Token ids in runs: (value, length) each."""
    return np.repeat([value for value, _ in spans], [length for _, length in spans])


@given(IDS, IDS)
def test_shared_is_the_common_start(one, other):
    n = shared(one, other)
    assert (one[:n] == other[:n]).all()
    assert n == min(len(one), len(other)) or one[n] != other[n]


def test_a_sibling_waits_for_the_first_and_then_not():
    prefixes, prompt = Prefixes(32), ids((1, 1000))
    assert not prefixes.worth_waiting(prompt, [])
    assert prefixes.worth_waiting(prompt, [prompt])
    prefixes.computed(prompt)
    assert not prefixes.worth_waiting(prompt, [prompt])


def test_another_order_waits_for_the_part_before_the_responses():
    prefixes = Prefixes(32)
    first, second = ids((1, 600), (2, 200), (3, 200)), ids((1, 600), (3, 200), (2, 200))
    assert prefixes.worth_waiting(second, [first])
    prefixes.computed(first)
    assert not prefixes.worth_waiting(second, [])
    # A sibling of the second still gains by its prefill, one of the first does not.
    assert prefixes.worth_waiting(second, [second])
    assert not prefixes.worth_waiting(first, [second])


def test_unrelated_prompts_with_a_common_template_go_together():
    prefixes = Prefixes(32)
    assert not prefixes.worth_waiting(ids((1, 150), (2, 850)), [ids((1, 150), (3, 850))])


def test_less_than_a_block_is_nothing():
    assert not Prefixes(32).worth_waiting(ids((1, 31)), [ids((1, 31))])


def test_what_it_remembers_is_bounded():
    prefixes = Prefixes(1)
    old = ids((1, 8))
    prefixes.computed(old)
    for value in range(300):
        prefixes.computed(ids((value + 2, 8)))
    assert prefixes.worth_waiting(old, [old])
