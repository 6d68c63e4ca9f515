import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from grm_service.engines.prefixes import PrefixTracker, common_prefix_length

IDS = st.lists(st.integers(0, 1), max_size=12).map(lambda ids: np.array(ids, np.int64))


def ids(*spans):
    """Return token ids from runs of (value, length)."""
    return np.repeat([value for value, _ in spans], [length for _, length in spans])


@given(IDS, IDS)
def test_common_prefix_length(one, other):
    n = common_prefix_length(one, other)
    assert (one[:n] == other[:n]).all()
    assert n == min(len(one), len(other)) or one[n] != other[n]


def test_sibling_waits_for_first_prefill():
    prefixes, prompt = PrefixTracker(32), ids((1, 1000))
    assert not prefixes.should_wait(prompt, [])
    assert prefixes.should_wait(prompt, [prompt])
    prefixes.mark_computed(prompt)
    assert not prefixes.should_wait(prompt, [prompt])


def test_other_order_waits_for_query():
    prefixes = PrefixTracker(32)
    first, second = ids((1, 600), (2, 200), (3, 200)), ids((1, 600), (3, 200), (2, 200))
    assert prefixes.should_wait(second, [first])
    prefixes.mark_computed(first)
    assert not prefixes.should_wait(second, [])
    # A sibling of the second prompt still gains from its prefill, one of the first does not.
    assert prefixes.should_wait(second, [second])
    assert not prefixes.should_wait(first, [second])


def test_common_template_alone_does_not_wait():
    prefixes = PrefixTracker(32)
    assert not prefixes.should_wait(ids((1, 150), (2, 850)), [ids((1, 150), (3, 850))])


def test_less_than_a_block_does_not_wait():
    assert not PrefixTracker(32).should_wait(ids((1, 31)), [ids((1, 31))])


def test_memory_is_bounded():
    prefixes = PrefixTracker(1)
    old = ids((1, 8))
    prefixes.mark_computed(old)
    for value in range(300):
        prefixes.mark_computed(ids((value + 2, 8)))
    assert prefixes.should_wait(old, [old])
