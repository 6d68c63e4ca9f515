"""Agreement between reviewers and the judge: share of equal choices, and Cohen's kappa."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import groupby
from operator import attrgetter
from typing import Any

from grm_service.audit.records import Review


@dataclass(frozen=True, slots=True)
class Agreement:
    """The number of reviews in which the reviewer chose as the judge did, and kappa with its interval."""

    reviews: int
    agreed: int
    kappa: float | None
    interval: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class AgreementStats:
    """Agreement by profile and kind of principles, and by week (its Monday)."""

    groups: tuple[tuple[str, str, Agreement], ...]
    weeks: tuple[tuple[date, Agreement], ...]


@dataclass(frozen=True, slots=True)
class RatedPair:
    """The choices of the judge and of one reviewer on one verdict (see `top` and `reviewed_top`)."""

    group: tuple[str, str]
    week: date
    judge: str
    reviewer: str


def top(best: int | None) -> str:
    """Return the judge's choice by its vote's `best`: the index of the best response, or "tie"."""
    return "tie" if best is None else str(best)


def reviewed_top(best: int | None, review: Review) -> str | None:
    """Return the reviewer's choice, like `top`; None if the review does not rate the responses."""
    if review.decision == "unsound_principle":
        return None
    if review.decision == "agree":
        return top(best)
    ranked = [-rank for rank in review.ranking] if review.ranking else list(review.scores or ())
    chosen = [i for i, value in enumerate(ranked) if value == max(ranked)]
    if not chosen:
        return None
    return str(chosen[0]) if len(chosen) == 1 else "tie"


def agreement_stats(pairs: Sequence[RatedPair]) -> AgreementStats:
    """Return the agreement of each group and of each week, both in order."""
    groups = _by("group", pairs)
    return AgreementStats(tuple((*group, each) for group, each in groups), tuple(_by("week", pairs)))


def kappa(pairs: Sequence[tuple[str, str]]) -> tuple[float, tuple[float, float]] | None:
    """Return Cohen's kappa of two raters with its 95 % interval (large-sample standard error; Cohen 1960).

    None if kappa is undefined: without pairs, or if the raters would always agree by chance.
    """
    n = len(pairs)
    first, second = Counter(a for a, _ in pairs), Counter(b for _, b in pairs)
    by_chance = sum(first[label] * second[label] for label in first) / n**2 if n else 1.0
    if by_chance == 1.0:
        return None
    observed = sum(a == b for a, b in pairs) / n
    value = (observed - by_chance) / (1 - by_chance)
    half = 1.96 * math.sqrt(observed * (1 - observed) / n) / (1 - by_chance)
    return value, (max(-1.0, value - half), min(1.0, value + half))


def _by(attribute: str, pairs: Iterable[RatedPair]) -> list[tuple[Any, Agreement]]:
    key = attrgetter(attribute)
    ordered = sorted(pairs, key=key)
    return [(label, _agreement(list(group))) for label, group in groupby(ordered, key=key)]


def _agreement(pairs: Sequence[RatedPair]) -> Agreement:
    agreed = sum(pair.judge == pair.reviewer for pair in pairs)
    value, interval = kappa([(pair.judge, pair.reviewer) for pair in pairs]) or (None, None)
    return Agreement(len(pairs), agreed, value, interval)
