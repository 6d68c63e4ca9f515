"""Route of the probe report."""

from __future__ import annotations

from datetime import datetime

from fastapi import APIRouter, Request

from grm_service.api.base import Described
from grm_service.api.judge_options import parse_judge_options
from grm_service.api.responses import documented, example
from grm_service.api.state import probe_runner
from grm_service.probes.report import ProbeReport, ProbeResult
from grm_service.probes.runner import Schedule
from grm_service.settings import Settings

router = APIRouter(tags=["oversight"])


class CaseFailureOut(Described):
    """A case that did not pass, and why."""

    case: str
    """Name of the case's question."""
    why: str
    """Why it did not pass: the rewards, or why they could not be read."""


class ProbeOut(Described):
    """The result of one probe: a bias or an attack, tested on several questions."""

    name: str
    """Name of the probe, such as `position`."""
    what: str
    """What the probe tests, or what a sound judge does."""
    cases: int
    """Number of cases, one for each question."""
    passed: int
    """Number of cases that passed."""
    rate: float | None
    """Share of the readable cases that passed, 0 to 1; null if no case was readable."""
    unreadable: int
    """Number of cases that cannot be decided, because samples could not be read."""
    failures: list[CaseFailureOut]
    """All cases that did not pass, the unreadable ones included."""

    @classmethod
    def of(cls, result: ProbeResult) -> ProbeOut:
        return cls(
            name=result.name,
            what=result.what,
            cases=result.cases,
            passed=result.passed,
            rate=result.rate,
            unreadable=result.unreadable,
            failures=[CaseFailureOut(case=failure.case, why=failure.why) for failure in result.failures],
        )


class ProbesReply(Described):
    """The report of the last run of all probes."""

    ran: datetime | None
    """Time when the run ended, in UTC; null before the first run."""
    profile: str
    """Name of the tested profile: the server's default."""
    alarm: float | None
    """Share of all cases (0 to 1) that must pass in each probe, GRM_PROBE_ALARM; null: no probe fails."""
    failed: list[str]
    """Names of the probes below the alarm; unreadable cases count as not passed."""
    probes: list[ProbeOut]
    """Results of the probes; empty before the first run."""

    @classmethod
    def of(cls, report: ProbeReport) -> ProbesReply:
        return cls(
            ran=report.ran,
            profile=report.profile,
            alarm=report.alarm,
            failed=list(report.failed),
            probes=[ProbeOut.of(result) for result in report.probes],
        )


def probe_schedule(settings: Settings) -> Schedule:
    """Return the schedule of the settings. Raises BadSetting if GRM_PROBE_OPTIONS is invalid."""
    options = parse_judge_options("GRM_PROBE_OPTIONS", settings.probe_options)
    return Schedule(settings.probe_every_s, settings.probe_alarm, options)


@router.get(
    "/v1/probes", summary="Get the report of the probes", responses=example("/v1/probes") | documented(401)
)
async def probes(request: Request) -> ProbesReply:
    """Return the report of the last bias and attack probes on this server (see GRM_PROBE_EVERY_S)."""
    return ProbesReply.of(probe_runner(request).report)
