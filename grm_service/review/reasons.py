"""Which verdicts a person should look at, and how far people and the judge agree."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence

from grm_service.audit.records import Reason, Review
from grm_service.principles.wording import normalise
from grm_service.profiles.profile import Scale
from grm_service.types import Principle, Verdict, Vote

LOW_AGREEMENT = 0.6
HIGH_SPREAD = 0.25
"""Of the scale's span, as the standard deviation of one response's scores."""

_WORTH: Mapping[Reason, float] = {
    "votes_apart": 3.0,
    "flagged_principle": 2.0,
    "low_agreement": 2.0,
    "unreadable": 1.5,
    "tie": 1.0,
    "high_spread": 1.0,
    "probes_failed": 0.5,
}


def reasons(
    verdict: Verdict, scale: Scale, unsound: Collection[str], alarms: Sequence[Reason] = ()
) -> tuple[Reason, ...]:
    """Return why a person should look at the verdict.

    `unsound` are normalised principles that a reviewer rejected (principles/wording.py), `alarms` the reasons
    that hold for every verdict at present.
    """
    vote, found = verdict.vote, list[Reason]()
    if vote.best is None and len(vote.rewards) > 1:
        found.append("tie")
    if verdict.unfiltered is not None and top(verdict.unfiltered) != top(vote):
        found.append("votes_apart")
    if vote.agreement is not None and vote.agreement < LOW_AGREEMENT:
        found.append("low_agreement")
    if max(vote.std) > HIGH_SPREAD * (scale.max - scale.min):
        found.append("high_spread")
    if any(sample.error is not None for sample in verdict.samples):
        found.append("unreadable")
    if unsound and any(normalise(principle.text) in unsound for principle in _stated(verdict)):
        found.append("flagged_principle")
    return (*found, *alarms)


def _stated(verdict: Verdict) -> Iterator[Principle]:
    yield from verdict.principles
    for sample in verdict.samples:
        yield from sample.critique.principles if sample.critique else ()


def worth(found: Sequence[Reason]) -> float:
    """How much a look is worth: 0 where there is no reason."""
    return sum(_WORTH[reason] for reason in found)


def top(vote: Vote) -> str:
    """What the judge chose: an index, or a tie."""
    return "tie" if vote.best is None else str(vote.best)


def reviewed_top(vote: Vote, review: Review) -> str | None:
    """What the reviewer would have chosen; None where the review says nothing of it."""
    if review.decision == "unsound_principle":
        return None
    if review.decision == "agree":
        return top(vote)
    ranked = [-rank for rank in review.ranking] if review.ranking else list(review.scores or ())
    best = [i for i, value in enumerate(ranked) if value == max(ranked)]
    if not best:
        return None
    return str(best[0]) if len(best) == 1 else "tie"


def kappa(pairs: Sequence[tuple[str, str]]) -> tuple[float, tuple[float, float]] | None:
    """Cohen's kappa of two raters with its 95 % interval (large-sample standard error; Cohen 1960).

    None where it is not defined: nothing rated, or chance alone would always agree.
    """
    n = len(pairs)
    ours, theirs = Counter(a for a, _ in pairs), Counter(b for _, b in pairs)
    by_chance = sum(ours[label] * theirs[label] for label in ours) / n**2 if n else 1.0
    if by_chance == 1.0:
        return None
    observed = sum(a == b for a, b in pairs) / n
    value = (observed - by_chance) / (1 - by_chance)
    half = 1.96 * math.sqrt(observed * (1 - observed) / n) / (1 - by_chance)
    return value, (max(-1.0, value - half), min(1.0, value + half))
