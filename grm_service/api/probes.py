"""Route of the probe report."""

from __future__ import annotations

from datetime import datetime

from fastapi import APIRouter, Request
from pydantic import BaseModel

from grm_service.api.judge_options import parse_judge_options
from grm_service.api.problems import documented
from grm_service.api.state import probe_runner
from grm_service.probes.report import ProbeReport, ProbeResult
from grm_service.probes.runner import Schedule
from grm_service.settings import Settings

router = APIRouter(tags=["oversight"])


class FailureOut(BaseModel):
    """A case that did not pass, and why."""

    case: str
    why: str


class ProbeOut(BaseModel):
    """The result of one probe.

    `rate` is the share of readable cases that passed, null if no case was readable. `failures` lists all
    cases that did not pass, including the unreadable ones.
    """

    name: str
    what: str
    cases: int
    passed: int
    rate: float | None
    unreadable: int
    failures: list[FailureOut]

    @classmethod
    def of(cls, result: ProbeResult) -> ProbeOut:
        return cls(
            name=result.name,
            what=result.what,
            cases=result.cases,
            passed=result.passed,
            rate=result.rate,
            unreadable=result.unreadable,
            failures=[FailureOut(case=failure.case, why=failure.why) for failure in result.failures],
        )


class ProbesReply(BaseModel):
    """The report of the last run; `ran` is null before the first run.

    `failed` names the probes with less than the share `alarm` of all cases passed; unreadable cases count as
    not passed. Without an alarm no probe fails.
    """

    ran: datetime | None
    profile: str
    alarm: float | None
    failed: list[str]
    probes: list[ProbeOut]

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


@router.get("/v1/probes", responses=documented(401))
async def probes(request: Request) -> ProbesReply:
    """Return the report of the last bias and attack probes on this server (see GRM_PROBE_EVERY_S)."""
    return ProbesReply.of(probe_runner(request).report)
