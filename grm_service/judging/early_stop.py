"""Early stopping: the rules behind `stop: exact | confident`.

Samples run in waves of whole rotations (orders.py), so that position bias has cancelled whenever a rule is
evaluated. A wave is the smallest number of rotations after which the rule could be satisfied at all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import permutations

from grm_service.profiles.profile import Scale
from grm_service.types import StopRule

ERROR_RATE = 0.05
ScoreRow = Sequence[float] | None


def next_wave(rule: StopRule, rows: Sequence[ScoreRow], k: int, n: int, scale: Scale) -> int:
    """Return how many of the k planned samples to run next; 0 if the rule stops or all have run.

    `rows` are the samples so far, in the plan's order: scores of the n responses in the caller's order, or
    None for a sample that could not be read. A single response has no winner to decide: all k samples run.
    """
    left = k - len(rows)
    if rule == "none" or n == 1:
        return left
    best = [float(scale.max)] + [float(scale.min)] * (n - 1)
    for more in range(0, left, n):
        # The fastest possible decision: all further samples give the current leader the best scores.
        if _decided(rule, [*rows, *([_led(rows, best)] * more)], k, n, scale):
            return more
    return left


def _led(rows: Sequence[ScoreRow], best: list[float]) -> ScoreRow:
    sums = [math.fsum(column) for column in zip(*(row for row in rows if row is not None), strict=True)]
    leader = sums.index(max(sums)) if sums else 0
    return [*best[1 : leader + 1], best[0], *best[leader + 1 :]]


def _decided(rule: StopRule, rows: Sequence[ScoreRow], k: int, n: int, scale: Scale) -> bool:
    span = scale.max - scale.min
    if rule == "exact":
        return any(
            all(_total(rows, i, j) > span * (k - len(rows)) for j in range(n) if j != i) for i in range(n)
        )
    wealth = {pair: _wealth(_differences(rows, *pair), k, n, span) for pair in permutations(range(n), 2)}
    return any(all(wealth[i, j] >= n / ERROR_RATE for j in range(n) if j != i) for i in range(n))


def _differences(rows: Sequence[ScoreRow], i: int, j: int) -> list[float]:
    # An unreadable sample does not move the vote.
    return [0.0 if row is None else row[i] - row[j] for row in rows]


def _total(rows: Sequence[ScoreRow], i: int, j: int) -> float:
    return math.fsum(_differences(rows, i, j))


def _wealth(differences: list[float], k: int, n: int, span: float) -> float:
    """Return the evidence that i beats j once all k samples are counted: the wealth of a bet on it.

    Under the hypothesis "i does not beat j" the remaining samples average at most `fair`, so that betting
    everything on the mean of each next rotation has no expected gain, and by Ville's inequality the wealth
    ever reaches 1/a with probability at most a, however often it is checked (the Kaplan martingale of
    election audits, without replacement: Waudby-Smith, Stark and Ramdas, "RiLACS", 2021). It assumes nothing
    of the scores but their scale. If no remaining sample can turn the vote the wealth is infinite, so this
    rule never stops later than `exact`.
    """
    wealth, total = 1.0, 0.0
    for start in range(0, len(differences), n):
        rotation = differences[start : start + n]
        fair = -total / (k - start)
        if fair <= -span:
            break
        wealth *= (math.fsum(rotation) / len(rotation) + span) / (fair + span)
        total += math.fsum(rotation)
    return math.inf if math.fsum(differences) > span * (k - len(differences)) else wealth
