"""Balanced orders and per-sample seeds, both drawn from the request's seed."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence

from grm_service.types import Scores


def sample_seed(seed: int, index: int) -> int:
    """H(seed, index): the seed of sample `index`, 0..2**31-1 (every server accepts that range)."""
    digest = hashlib.sha256(f"{seed}:{index}".encode()).digest()
    return int.from_bytes(digest[:4]) >> 1


def orders(n: int, k: int, seed: int) -> tuple[tuple[int, ...], ...]:
    """The k permutations shown to the model; `order[p]` is the index of the response at position p.

    Each block of n samples uses the n rotations of one base permutation, so over any such block every
    response stands once in every position: a preference for a position cancels exactly when n divides k.
    Random shuffles (the paper, section 2.3) only cancel it on average.
    """
    planned: list[tuple[int, ...]] = []
    while len(planned) < k:
        base = list(range(n))
        random.Random(sample_seed(seed, len(planned))).shuffle(base)
        planned += [tuple(base[r:] + base[:r]) for r in range(n)]
    return tuple(planned[:k])


def undo(order: tuple[int, ...], shown: Sequence[float | None], n: int) -> Scores:
    """Maps one value a position back to the n responses, in the caller's order; None for one not shown."""
    by_response = dict(zip(order, shown, strict=True))
    return tuple(by_response.get(i) for i in range(n))
