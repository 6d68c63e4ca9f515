"""What the probes showed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from grm_service.errors import AllUnreadable
from grm_service.probes.cases import Case, Probe
from grm_service.probes.rules import CaseOutcome, ProbeRule
from grm_service.profiles.profile import Scale
from grm_service.types import Task, Verdict

ROUTE = "probe"
"""The route of what is judged for a probe, in records."""
Verdicts = Mapping[Task, Verdict | AllUnreadable]


@dataclass(frozen=True, slots=True)
class CaseFailure:
    """A case that was not passed, and why; one that could not be read says so."""

    case: str
    why: str


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """One probe: of its `cases`, some `passed`, some were `unreadable`, the others failed.

    `failures` has all that did not pass.
    """

    name: str
    what: str
    cases: int
    passed: int
    unreadable: int
    failures: tuple[CaseFailure, ...]

    @property
    def rate(self) -> float | None:
        """Share of the readable cases that passed (0..1); None where none could be read."""
        readable = self.cases - self.unreadable
        return self.passed / readable if readable else None

    def misses(self, alarm: float) -> bool:
        """Whether less than this share of all cases passed: what could not be read vouches for nothing."""
        return self.passed < alarm * self.cases


@dataclass(frozen=True, slots=True)
class ProbeReport:
    """All probes of one run; `ran` is when it ended, None where there was none yet."""

    profile: str
    alarm: float | None = None
    ran: datetime | None = None
    probes: tuple[ProbeResult, ...] = ()

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of the probes that miss the alarm."""
        if self.alarm is None:
            return ()
        return tuple(result.name for result in self.probes if result.misses(self.alarm))


def result(probe: Probe, verdicts: Verdicts, scale: Scale) -> ProbeResult:
    """What the verdicts on its tasks say of a probe."""
    outcomes = [(case.name, _outcome(case, probe.rule, verdicts, scale)) for case in probe.cases]
    return ProbeResult(
        name=probe.name,
        what=probe.what,
        cases=len(outcomes),
        passed=sum(outcome.passed is True for _, outcome in outcomes),
        unreadable=sum(outcome.passed is None for _, outcome in outcomes),
        failures=tuple(CaseFailure(case, outcome.why) for case, outcome in outcomes if not outcome.passed),
    )


def _outcome(case: Case, rule: ProbeRule, verdicts: Verdicts, scale: Scale) -> CaseOutcome:
    read = list[Verdict]()
    for task in case.tasks:
        found = verdicts[task]
        if isinstance(found, AllUnreadable):
            return CaseOutcome(None, f"unreadable: {found}")
        read.append(found)
    return rule(read, scale)
