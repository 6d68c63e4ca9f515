"""The report of a probe run."""

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
"""The route of probe requests in audit records."""
Verdicts = Mapping[Task, Verdict | AllUnreadable]


@dataclass(frozen=True, slots=True)
class CaseFailure:
    """A case that failed or was unreadable, and why."""

    case: str
    why: str


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """The result of one probe: of its `cases`, some `passed`, some were `unreadable`, the others failed.

    `failures` lists all cases that did not pass.
    """

    name: str
    what: str
    cases: int
    passed: int
    unreadable: int
    failures: tuple[CaseFailure, ...]

    @property
    def rate(self) -> float | None:
        """The share of readable cases that passed (0..1); None if no case was readable."""
        readable = self.cases - self.unreadable
        return self.passed / readable if readable else None

    def is_below(self, alarm: float) -> bool:
        """Return whether the share of all cases that passed, readable or not, is below `alarm` (0..1)."""
        return self.passed < alarm * self.cases


@dataclass(frozen=True, slots=True)
class ProbeReport:
    """The results of one run; `ran` is the time when it ended, None before the first run."""

    profile: str
    alarm: float | None = None
    ran: datetime | None = None
    probes: tuple[ProbeResult, ...] = ()

    @property
    def failed(self) -> tuple[str, ...]:
        """The names of the probes below the alarm."""
        if self.alarm is None:
            return ()
        return tuple(result.name for result in self.probes if result.is_below(self.alarm))


def probe_result(probe: Probe, verdicts: Verdicts, scale: Scale) -> ProbeResult:
    """Apply the rule of a probe to the verdicts on its tasks."""
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
    readable = list[Verdict]()
    for task in case.tasks:
        verdict = verdicts[task]
        if isinstance(verdict, AllUnreadable):
            return CaseOutcome(None, f"unreadable: {verdict}")
        readable.append(verdict)
    return rule(readable, scale)
