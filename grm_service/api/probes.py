"""What the probes showed, over HTTP."""

from __future__ import annotations

from datetime import datetime

from fastapi import APIRouter, Request
from pydantic import BaseModel

from grm_service.api.problems import documented
from grm_service.api.state import probe_runner
from grm_service.probes.report import ProbeReport, ProbeResult

router = APIRouter(tags=["oversight"])


class FailureOut(BaseModel):
    """A case that was not passed, and why."""

    case: str
    why: str


class ProbeOut(BaseModel):
    """One probe. `rate` is the share of the readable cases that passed, null where none could be read.

    `failures` has all cases that did not pass, the unreadable ones among them.
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
    """The last run; `ran` is null before there was one.

    `failed` names the probes of which less than the share `alarm` of all cases passed: what could not be
    read has not. Without an alarm none fails.
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


@router.get("/v1/probes", responses=documented(401))
async def probes(request: Request) -> ProbesReply:
    """What the bias and attack probes showed when they last ran here (GRM_PROBE_EVERY_S sets how often)."""
    return ProbesReply.of(probe_runner(request).report)
