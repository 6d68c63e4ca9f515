"""Balanced orders and one seed per sample, both derived from the request's seed."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence

from grm_service.types import Scores


def sample_seed(seed: int, index: int) -> int:
    """Return H(seed, index), the seed of sample `index`: 0..2**31-1, a range that every server accepts."""
    digest = hashlib.sha256(f"{seed}:{index}".encode()).digest()
    return int.from_bytes(digest[:4]) >> 1


def balanced_orders(n: int, k: int, seed: int) -> tuple[tuple[int, ...], ...]:
    """Return k permutations of n responses; `order[p]` is the index of the response at position p.

    Each n consecutive samples use the n rotations of one base permutation, so that every response is once in
    every position: position bias cancels exactly if n divides k. Random shuffles (SPCT, section 2.3) cancel
    it only on average.
    """
    planned: list[tuple[int, ...]] = []
    while len(planned) < k:
        base = list(range(n))
        random.Random(sample_seed(seed, len(planned))).shuffle(base)
        planned += [tuple(base[r:] + base[:r]) for r in range(n)]
    return tuple(planned[:k])


def undo(order: tuple[int, ...], values: Sequence[float | None], n: int) -> Scores:
    """Return one value per response, in the caller's order, from one per position; None if it has none."""
    by_response = dict(zip(order, values, strict=True))
    return tuple(by_response.get(i) for i in range(n))
