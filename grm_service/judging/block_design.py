"""Large groups: which responses share a prompt if one prompt cannot hold all, and one scale for all of them.

The blocks are the lines of an affine plane of order q, the smallest with q*q >= n: a balanced incomplete
block design in which any two responses share exactly one of the q*q + q prompts. Its lines form q + 1 classes
of parallel lines, and each class covers every response once. One class is one round of samples: a round
covers every response once, as one large prompt would, and q + 1 rounds are balanced exactly.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from itertools import product
from statistics import fmean

from grm_service.judging.orders import sample_seed

PLANE_ORDERS = (2, 3, 4, 5, 7, 8)
"""Orders that cover up to 64 responses: primes, and the fields GF(4) and GF(8)."""
_MODULUS = {4: 0b111, 8: 0b1011}
_MAX_ITERATIONS = 500
_TOLERANCE = 1e-9

Row = Sequence[float | None]
"""The scores of one prompt: None for every response that it does not cover."""


def plane_order(n: int) -> int:
    """Return the order of the plane for n responses, which is the size of its largest block."""
    return next(q for q in PLANE_ORDERS if q * q >= n)


def balanced_blocks(n: int, rounds: int, seed: int) -> tuple[tuple[int, ...], ...]:
    """Return the blocks of all rounds over n = 3..64 responses; `block[p]` is the response at position p.

    A response that would be alone in a block is left out of that round. The assignment of responses to points
    and positions is drawn from the seed anew every q + 1 rounds; within these, a response takes the
    positions in turn.
    """
    lines, planned = _classes(n), list[tuple[int, ...]]()
    for turn in range(rounds):
        cycle, at = divmod(turn, len(lines))
        names = list(range(n))
        random.Random(sample_seed(seed, cycle)).shuffle(names)
        for line in lines[at]:
            shift = turn % len(line)
            planned.append(tuple(names[point] for point in line[shift:] + line[:shift]))
    return tuple(planned)


def remove_block_effects(rows: Sequence[Row]) -> tuple[tuple[float | None, ...], ...]:
    """Return the scores without what each prompt adds to all of its responses, so that they share one scale.

    A judge compares: it scores higher among weak responses, lower among strong ones. With a score modelled as
    a response's effect plus a block's effect, least squares (the intra-block analysis of incomplete block
    designs; Yates 1940) separates the two as far as the blocks share responses. Scores of blocks that share
    none stay unchanged.
    """
    n = len(rows[0])
    block_effects = [0.0] * len(rows)
    response_effects = [0.0] * n
    # Alternating least squares: each set of effects is the mean residual of the other.
    for _ in range(_MAX_ITERATIONS):
        pairs = list(zip(rows, block_effects, strict=True))
        response_effects = [
            _mean(score - effect for row, effect in pairs if (score := row[i]) is not None) for i in range(n)
        ]
        residuals = [
            _mean(score - response_effects[i] for i, score in enumerate(row) if score is not None)
            for row in rows
        ]
        centre = fmean(residuals)
        updated = [value - centre for value in residuals]
        change = max(abs(a - b) for a, b in zip(updated, block_effects, strict=True))
        block_effects = updated
        if change < _TOLERANCE:
            break
    return tuple(
        tuple(None if score is None else round(score - effect, 6) for score in row)
        for row, effect in zip(rows, block_effects, strict=True)
    )


def _classes(n: int) -> list[list[tuple[int, ...]]]:
    """Return the classes of parallel lines over n points of the plane, without lines of a single point."""
    q = plane_order(n)
    points = _points(n, q)
    classes = []
    for slope in [*range(q), None]:
        lines: dict[int, list[int]] = {}
        for point, (x, y) in enumerate(points):
            through = x if slope is None else _minus(q, y, _times(q, slope, x))
            lines.setdefault(through, []).append(point)
        classes.append([tuple(line) for line in lines.values() if len(line) > 1])
    return classes


def _points(n: int, q: int) -> list[tuple[int, int]]:
    """Return n of the q*q points. Those left out lie on parabolas, which no line meets more than twice."""
    out = [(x, _plus(q, _times(q, x, x), shift)) for shift in range(q) for x in range(q)][: q * q - n]
    return [(x, y) for x, y in product(range(q), repeat=2) if (x, y) not in out]


def _plus(q: int, a: int, b: int) -> int:
    return a ^ b if q in _MODULUS else (a + b) % q


def _minus(q: int, a: int, b: int) -> int:
    return a ^ b if q in _MODULUS else (a - b) % q


def _times(q: int, a: int, b: int) -> int:
    if q not in _MODULUS:
        return a * b % q
    product_ = 0
    while b:
        product_ ^= a if b & 1 else 0
        a, b = a << 1, b >> 1
        a ^= _MODULUS[q] if a & q else 0
    return product_


def _mean(values: Iterable[float]) -> float:
    numbers = list(values)
    return fmean(numbers) if numbers else 0.0
