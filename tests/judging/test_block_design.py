"""Block design for large groups: every pair shares a block equally often, and block effects cancel."""

import random
from collections import Counter
from itertools import combinations
from statistics import fmean

import pytest

from grm_service.judging.block_design import PLANE_ORDERS, balanced_blocks, plane_order, remove_block_effects

SIZES = range(3, 65)


@pytest.mark.parametrize("n", SIZES)
def test_each_pair_shares_one_block(n):
    """In one cycle of q + 1 rounds, any two responses are in exactly one block together."""
    q = plane_order(n)
    shared = Counter(
        pair for block in balanced_blocks(n, q + 1, seed=5) for pair in combinations(sorted(block), 2)
    )
    assert shared == dict.fromkeys(combinations(range(n), 2), 1)


@pytest.mark.parametrize("n", SIZES)
def test_block_sizes(n):
    """A block has at least two responses and at most q, the order of the plane."""
    sizes = [len(block) for block in balanced_blocks(n, plane_order(n) + 1, seed=1)]
    assert 2 <= min(sizes) <= max(sizes) <= plane_order(n)


@pytest.mark.parametrize("n", SIZES)
def test_round_has_each_response_once(n):
    """Only a response that would be alone in its block is left out of a round."""
    q = plane_order(n)
    rounds, appearances = q + 1, Counter()
    for block in balanced_blocks(n, rounds, seed=2):
        appearances.update(block)
    assert max(appearances.values()) <= rounds
    assert sum(appearances.values()) >= 0.9 * n * rounds or n < 8
    for index in range(rounds):
        members = [
            i
            for block in balanced_blocks(n, index + 1, 2)[len(balanced_blocks(n, index, 2)) :]
            for i in block
        ]
        assert len(members) == len(set(members))


@pytest.mark.parametrize("n", [9, 16, 25, 49, 64])
def test_full_plane_balances_positions(n):
    q = plane_order(n)
    assert q * q == n
    counts = Counter((i, p) for block in balanced_blocks(n, q * (q + 1), seed=3) for p, i in enumerate(block))
    per_position = [counts[i, p] for i in range(n) for p in range(q)]
    assert max(per_position) - min(per_position) <= q


def test_blocks_depend_on_the_seed():
    """More rounds extend the same design."""
    assert balanced_blocks(20, 8, seed=1) == balanced_blocks(20, 8, seed=1)
    assert balanced_blocks(20, 8, seed=1) != balanced_blocks(20, 8, seed=2)
    assert (
        balanced_blocks(20, 4, seed=1)
        == balanced_blocks(20, 8, seed=1)[: len(balanced_blocks(20, 4, seed=1))]
    )


def test_plane_orders_up_to_64():
    assert [plane_order(n) for n in (3, 4, 5, 9, 10, 16, 17, 25, 26, 49, 50, 64)] == [
        2, 2, 3, 3, 4, 4, 5, 5, 7, 7, 8, 8,
    ]  # fmt: skip
    assert PLANE_ORDERS[-1] ** 2 == 64


def score_rows(n, rounds, quality, offset_of, noise=lambda: 0.0):
    rows = []
    for block in balanced_blocks(n, rounds, seed=4):
        offset = offset_of(block)
        rows.append([quality[i] + offset + noise() if i in block else None for i in range(n)])
    return rows


def means(rows):
    return [fmean(row[i] for row in rows if row[i] is not None) for i in range(len(rows[0]))]


@pytest.mark.parametrize("n", [9, 20, 64])
def test_block_offsets_cancel_over_a_cycle(n):
    rng = random.Random(n)
    quality = [rng.uniform(1, 10) for _ in range(n)]
    rows = score_rows(n, plane_order(n) + 1, quality, lambda block: rng.gauss(0, 2))
    rewards = means(remove_block_effects(rows))
    shift = fmean(rewards) - fmean(quality)
    assert max(abs(r - shift - q) for r, q in zip(rewards, quality, strict=True)) < 1e-3


def test_relative_scores_get_one_scale():
    n, rng = 25, random.Random(0)
    quality = [rng.uniform(1, 10) for _ in range(n)]

    def relative(block):
        return 5.5 - fmean(quality[i] for i in block)  # every block's scores have the same mean

    rows = score_rows(n, 6, quality, relative, lambda: rng.gauss(0, 0.3))

    def error(rewards):
        shift = fmean(rewards) - fmean(quality)
        return fmean((r - shift - q) ** 2 for r, q in zip(rewards, quality, strict=True)) ** 0.5

    assert error(means(remove_block_effects(rows))) < 0.25 < error(means(rows))


def test_unlinked_blocks_keep_their_scores():
    rows = score_rows(16, 1, [float(i % 10) for i in range(16)], lambda block: 0.0)
    assert remove_block_effects(rows) == tuple(tuple(row) for row in rows)


def test_complete_rows_are_unchanged():
    assert remove_block_effects([(1.0, 3.0), (1.0, 3.0)]) == ((1.0, 3.0), (1.0, 3.0))
