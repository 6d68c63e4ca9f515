"""Large groups: every two responses are compared equally often, and a prompt's mood does not matter."""

import random
from collections import Counter
from itertools import combinations
from statistics import fmean

import pytest

from grm_service.judging.block_design import PLANE_ORDERS, balanced_blocks, plane_order, remove_block_effects

SIZES = range(3, 65)


@pytest.mark.parametrize("n", SIZES)
def test_any_two_responses_share_exactly_one_prompt_of_a_cycle(n):
    q = plane_order(n)
    shared = Counter(
        pair for block in balanced_blocks(n, q + 1, seed=5) for pair in combinations(sorted(block), 2)
    )
    assert shared == dict.fromkeys(combinations(range(n), 2), 1)


@pytest.mark.parametrize("n", SIZES)
def test_no_prompt_holds_more_than_the_order_or_a_single_one(n):
    sizes = [len(block) for block in balanced_blocks(n, plane_order(n) + 1, seed=1)]
    assert 2 <= min(sizes) <= max(sizes) <= plane_order(n)


@pytest.mark.parametrize("n", SIZES)
def test_a_round_shows_every_response_once_but_for_lone_ones(n):
    q = plane_order(n)
    rounds, shown = q + 1, Counter()
    for block in balanced_blocks(n, rounds, seed=2):
        shown.update(block)
    assert max(shown.values()) <= rounds
    assert sum(shown.values()) >= 0.9 * n * rounds or n < 8
    for turn in range(rounds):
        one = [
            i for block in balanced_blocks(n, turn + 1, 2)[len(balanced_blocks(n, turn, 2)) :] for i in block
        ]
        assert len(one) == len(set(one))


@pytest.mark.parametrize("n", [9, 16, 25, 49, 64])
def test_a_full_plane_goes_through_the_positions_evenly(n):
    q = plane_order(n)
    assert q * q == n
    places = Counter((i, p) for block in balanced_blocks(n, q * (q + 1), seed=3) for p, i in enumerate(block))
    each = [places[i, p] for i in range(n) for p in range(q)]
    assert max(each) - min(each) <= q


def test_the_same_seed_plans_the_same_and_another_another():
    assert balanced_blocks(20, 8, seed=1) == balanced_blocks(20, 8, seed=1)
    assert balanced_blocks(20, 8, seed=1) != balanced_blocks(20, 8, seed=2)
    assert (
        balanced_blocks(20, 4, seed=1)
        == balanced_blocks(20, 8, seed=1)[: len(balanced_blocks(20, 4, seed=1))]
    )


def test_orders_reach_to_sixty_four():
    assert [plane_order(n) for n in (3, 4, 5, 9, 10, 16, 17, 25, 26, 49, 50, 64)] == [
        2, 2, 3, 3, 4, 4, 5, 5, 7, 7, 8, 8,
    ]  # fmt: skip
    assert PLANE_ORDERS[-1] ** 2 == 64


def rows_of(n, rounds, worth, generosity, noise=lambda: 0.0):
    rows = []
    for block in balanced_blocks(n, rounds, seed=4):
        given = generosity(block)
        rows.append([worth[i] + given + noise() if i in block else None for i in range(n)])
    return rows


def means(rows):
    return [fmean(row[i] for row in rows if row[i] is not None) for i in range(len(rows[0]))]


@pytest.mark.parametrize("n", [9, 20, 64])
def test_the_generosity_of_prompts_cancels_exactly_after_a_cycle(n):
    chance = random.Random(n)
    worth = [chance.uniform(1, 10) for _ in range(n)]
    rows = rows_of(n, plane_order(n) + 1, worth, lambda block: chance.gauss(0, 2))
    found = means(remove_block_effects(rows))
    shift = fmean(found) - fmean(worth)
    assert max(abs(f - shift - w) for f, w in zip(found, worth, strict=True)) < 1e-3


def test_a_critic_who_only_compares_is_brought_onto_one_scale():
    n, chance = 25, random.Random(0)
    worth = [chance.uniform(1, 10) for _ in range(n)]

    def relative(block):
        return 5.5 - fmean(worth[i] for i in block)  # every prompt's scores have the same mean

    rows = rows_of(n, 6, worth, relative, lambda: chance.gauss(0, 0.3))

    def error(rewards):
        shift = fmean(rewards) - fmean(worth)
        return fmean((r - shift - w) ** 2 for r, w in zip(rewards, worth, strict=True)) ** 0.5

    assert error(means(remove_block_effects(rows))) < 0.25 < error(means(rows))


def test_where_nothing_links_the_prompts_scores_stay():
    rows = rows_of(16, 1, [float(i % 10) for i in range(16)], lambda block: 0.0)
    assert remove_block_effects(rows) == tuple(tuple(row) for row in rows)


def test_rows_that_show_all_stay_as_they_are_but_for_their_mood():
    assert remove_block_effects([(1.0, 3.0), (1.0, 3.0)]) == ((1.0, 3.0), (1.0, 3.0))
