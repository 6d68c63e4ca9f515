import pytest
from hypothesis import given
from hypothesis import strategies as st

from grm_service.judging.vote import vote

rows = st.integers(1, 6).flatmap(
    lambda n: st.lists(st.tuples(*[st.integers(1, 10).map(float)] * n), min_size=1, max_size=16)
)


def test_rewards_and_population_std():
    result = vote([(8.0, 4.0), (6.0, 4.0)])
    assert result.rewards == (7.0, 4.0)
    assert result.std == (1.0, 0.0)
    assert result.best == 0
    assert result.ranking == (1, 2)
    assert result.agreement == 1.0


def test_top_tie_has_no_best():
    result = vote([(5.0, 7.0, 7.0)])
    assert result.best is None
    assert result.ties == ((1, 2),)
    assert result.ranking == (3, 1, 1)
    assert result.agreement == 0.5


def test_split_vote_agreement():
    assert vote([(9.0, 3.0), (3.0, 9.0)]).agreement == 0.5


def test_tie_below_the_top():
    result = vote([(9.0, 3.0, 3.0)])
    assert result.best == 0
    assert result.ties == ((1, 2),)


def test_single_response_has_no_agreement():
    result = vote([(7.0,), (8.0,)])
    assert result.rewards == (7.5,)
    assert result.best == 0
    assert result.agreement is None


def test_agreement_is_a_share_of_samples():
    assert vote([(9.0, 1.0)] * 7 + [(1.0, 2.0)]).agreement == pytest.approx(7 / 8)


@given(rows, st.randoms())
def test_vote_is_permutation_equivariant(scores, random):
    n = len(scores[0])
    permuted = list(range(n))
    random.shuffle(permuted)
    plain, moved = vote(scores), vote([tuple(row[i] for i in permuted) for row in scores])
    assert moved.rewards == tuple(plain.rewards[i] for i in permuted)
    assert moved.ranking == tuple(plain.ranking[i] for i in permuted)
    assert moved.agreement == plain.agreement
    assert (moved.best is None) == (plain.best is None)


@given(rows)
def test_best_and_ties_match_the_rewards(scores):
    result = vote(scores)
    winners = [i for i, r in enumerate(result.rewards) if r == max(result.rewards)]
    assert result.best == (winners[0] if len(winners) == 1 else None)
    assert all(len({result.rewards[i] for i in group}) == 1 for group in result.ties)
    assert all(1 <= reward <= 10 for reward in result.rewards)
