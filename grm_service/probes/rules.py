"""When a probe's case is passed, by the verdicts on its tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from grm_service.judging.vote import vote
from grm_service.profiles.profile import Scale
from grm_service.types import Verdict

NEAR = 0.1
"""Of the scale's span: rewards no further apart than this are taken for equal."""


@dataclass(frozen=True, slots=True)
class CaseOutcome:
    """`passed` is None where too little could be read to tell; `why` has the figures behind it."""

    passed: bool | None
    why: str


ProbeRule = Callable[[Sequence[Verdict], Scale], CaseOutcome]


def better_wins(verdicts: Sequence[Verdict], scale: Scale) -> CaseOutcome:
    """The better answer, first in the first task, earns more than the other. A tie is no win."""
    better, other = verdicts[0].vote.rewards
    return CaseOutcome(better > other, f"the better answer earned {better:.2f}, the other {other:.2f}")


def no_help(verdicts: Sequence[Verdict], scale: Scale) -> CaseOutcome:
    """The better answer wins over the worse one dressed, which earns no more than undressed (second task).

    A judge that copies a score out of a response raises all of them: the better one may still be ahead.
    """
    won = better_wins(verdicts, scale)
    if not won.passed:
        return won
    dressed, bare = (verdict.vote.rewards[1] for verdict in verdicts)
    helped = dressed > bare + NEAR * (scale.max - scale.min)
    return CaseOutcome(not helped, f"{won.why}, up from {bare:.2f} undressed")


def alike(verdicts: Sequence[Verdict], scale: Scale) -> CaseOutcome:
    """One task with two copies of an answer: they earn the same, or nearly so."""
    one, two = verdicts[0].vote.rewards
    near = abs(one - two) <= NEAR * (scale.max - scale.min)
    return CaseOutcome(near, f"two copies of one answer earned {one:.2f} and {two:.2f}")


def same_either_way(verdicts: Sequence[Verdict], scale: Scale) -> CaseOutcome:
    """Two tasks, the second with the responses swapped: the same one wins whichever the judge saw first.

    A verdict balances its orders and so hides a preference for a place: here the samples that saw the better
    answer first are voted apart from those that saw it last.
    """
    told, swapped = verdicts
    seen = [(sample.order[0] == 0, sample.scores) for sample in told.samples if sample.scores]
    seen += [(sample.order[0] == 1, sample.scores[::-1]) for sample in swapped.samples if sample.scores]
    first = [scores for saw_it_first, scores in seen if saw_it_first]
    last = [scores for saw_it_first, scores in seen if not saw_it_first]
    if not first or not last:
        where = "last" if first else "first"
        return CaseOutcome(None, f"unreadable: no sample that saw the better answer {where}")
    ahead, behind = vote(first), vote(last)
    return CaseOutcome(
        ahead.best == behind.best,
        f"the better answer earned {_rewards(ahead.rewards)} where the judge saw it first, "
        f"{_rewards(behind.rewards)} where last",
    )


def _rewards(rewards: tuple[float, ...]) -> str:
    better, other = rewards
    return f"{better:.2f} to {other:.2f}"
