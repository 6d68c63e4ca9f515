"""Large groups: which responses share a prompt where one prompt cannot hold all, and one scale for all.

The blocks are the lines of an affine plane of order q, the smallest with q*q >= n: a balanced incomplete
block design in which any two responses share exactly one of the q*q + q prompts. Its lines come in q + 1
classes of parallel ones, each of which covers every response once. One class is one round of samples: a round
shows every response once, as judging all at once would, and q + 1 rounds are balanced exactly.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from itertools import product
from statistics import fmean

from grm_service.judging.orders import sample_seed

ORDERS = (2, 3, 4, 5, 7, 8)
"""Of planes, up to 64 responses: the primes, and two fields of polynomials over two elements."""
_MODULUS = {4: 0b111, 8: 0b1011}
_ROUNDS_OF_SETTLING = 500
_SETTLED = 1e-9

Row = Sequence[float | None]
"""What one prompt gave: a score for every response that it showed, None for the others."""


def order_of(n: int) -> int:
    """The order of the plane for n responses: the most that one of its prompts holds."""
    return next(q for q in ORDERS if q * q >= n)


def blocks(n: int, rounds: int, seed: int) -> tuple[tuple[int, ...], ...]:
    """The prompts of so many rounds over n = 3..64 responses; `block[p]` is the response at position p.

    A response that would stand alone in a prompt is left out of that round. Which response is which point of
    the plane, and where it stands, is drawn from the seed anew every q + 1 rounds; within them a response
    goes through the positions in turn.
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


def settle(rows: Sequence[Row]) -> tuple[tuple[float | None, ...], ...]:
    """The scores without what each prompt added to all of its responses alike, so that they share one scale.

    A critic compares: among weak responses it is generous, among strong ones strict. With scores as the sum
    of a response's worth and a prompt's generosity, least squares (the intra-block analysis of incomplete
    block designs; Yates 1940) tells the two apart as far as responses link the prompts. Where nothing links
    them, scores stay as they are.
    """
    n = len(rows[0])
    generosity = [0.0] * len(rows)
    worth = [0.0] * n
    for _ in range(_ROUNDS_OF_SETTLING):
        given = list(zip(rows, generosity, strict=True))
        worth = [
            _mean(score - more for row, more in given if (score := row[i]) is not None) for i in range(n)
        ]
        raw = [_mean(score - worth[i] for i, score in enumerate(row) if score is not None) for row in rows]
        centre = fmean(raw)
        moved = [value - centre for value in raw]
        change = max(abs(a - b) for a, b in zip(moved, generosity, strict=True))
        generosity = moved
        if change < _SETTLED:
            break
    return tuple(
        tuple(None if score is None else round(score - given, 6) for score in row)
        for row, given in zip(rows, generosity, strict=True)
    )


def _classes(n: int) -> list[list[tuple[int, ...]]]:
    """The plane's classes of parallel lines over n of its points, lines of a single point left out."""
    q = order_of(n)
    points = _points(n, q)
    found = []
    for slope in [*range(q), None]:
        lines: dict[int, list[int]] = {}
        for point, (x, y) in enumerate(points):
            through = x if slope is None else _minus(q, y, _times(q, slope, x))
            lines.setdefault(through, []).append(point)
        found.append([tuple(line) for line in lines.values() if len(line) > 1])
    return found


def _points(n: int, q: int) -> list[tuple[int, int]]:
    """All but q*q - n of the points; parabolas are left out, which no line meets more than twice."""
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
    found = list(values)
    return fmean(found) if found else 0.0
