"""Reasons why a verdict is queued for review by a person."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from grm_service.audit.records import Reason
from grm_service.principles.wording import normalise
from grm_service.profiles.profile import Scale
from grm_service.types import Principle, Verdict

LOW_AGREEMENT = 0.6
"""Share of samples that agree on the best response; below it, a verdict is queued."""
HIGH_SPREAD = 0.25
"""Standard deviation of one response's scores, as a fraction of the scale; above it, a verdict is queued."""

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
    """Return the reasons why a person should review the verdict.

    `unsound` are the normalised principles that a reviewer rejected (principles/wording.py), `alarms` the
    reasons that apply to every verdict at present.
    """
    vote, matches = verdict.vote, list[Reason]()
    if vote.best is None and len(vote.rewards) > 1:
        matches.append("tie")
    if verdict.unfiltered is not None and verdict.unfiltered.best != vote.best:
        matches.append("votes_apart")
    if vote.agreement is not None and vote.agreement < LOW_AGREEMENT:
        matches.append("low_agreement")
    if max(vote.std) > HIGH_SPREAD * (scale.max - scale.min):
        matches.append("high_spread")
    if any(sample.error is not None for sample in verdict.samples):
        matches.append("unreadable")
    if unsound and any(normalise(principle.text) in unsound for principle in _all_principles(verdict)):
        matches.append("flagged_principle")
    return (*matches, *alarms)


def worth(matches: Sequence[Reason]) -> float:
    """Return the priority in the review queue: the sum over the reasons, 0 if there are none."""
    return sum(_WORTH[reason] for reason in matches)


def _all_principles(verdict: Verdict) -> Iterator[Principle]:
    yield from verdict.principles
    for sample in verdict.samples:
        yield from sample.critique.principles if sample.critique else ()
