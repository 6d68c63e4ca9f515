"""When enough samples are known: the rules behind `stop: exact | confident` (DESIGN 5.7).

Samples are taken in waves of whole rotations (see core/order.py), so that a preference for a position has
cancelled whenever a rule looks. A wave is the fewest rotations after which the rule could be satisfied at
all, so no wave is larger than it has to be and none is too small to matter.
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
    """How many samples to take next of the k planned ones over n responses; 0 when the rule stops or all
    are taken.

    `rows` are the samples taken so far in the plan's order: scores in the caller's response order, or None
    for one that could not be read. A single response has no winner to be decided: all k are taken.
    """
    left = k - len(rows)
    if rule == "none" or n == 1:
        return left
    best = [float(scale.max)] + [float(scale.min)] * (n - 1)
    for more in range(0, left, n):
        # The quickest way to a decision: from now on the leader of today gets everything.
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
    # What could not be read moves no vote.
    return [0.0 if row is None else row[i] - row[j] for row in rows]


def _total(rows: Sequence[ScoreRow], i: int, j: int) -> float:
    return math.fsum(_differences(rows, i, j))


def _wealth(differences: list[float], k: int, n: int, span: float) -> float:
    """Evidence that i beats j once all k are counted: what a fair game against it would have paid.

    Under "i does not beat j" the samples still to come average at most `fair`, so staking everything on the
    mean of each next rotation gains nothing by expectation, and by Ville's inequality the wealth ever
    reaches 1/a with a probability of at most a, however often one looks (the Kaplan martingale of election
    audits, without replacement: Waudby-Smith, Stark and Ramdas, "RiLACS", 2021). It needs nothing of the
    scores but their scale. Where nothing to come can turn the vote the wealth is infinite: this rule is
    never slower than `exact`.
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
