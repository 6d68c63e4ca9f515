"""What a server says of itself: profiles, principle sets, a caller's usage, readiness."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel

from grm_service.api.replies import PrincipleOut, UsageOut
from grm_service.serving.usage import CallerUsage


class ProfileOut(BaseModel):
    """A profile and whether this server can judge with it."""

    name: str
    description: str
    model: str | None
    meta_rm: str | None
    served: bool
    default: bool
    fingerprint: str
    scale: list[int]
    k: int


class SpentOut(BaseModel):
    """What a caller has had since the server's start; a verdict shared or given again costs nothing."""

    caller: str
    verdicts: int
    judged: int
    samples: int
    usage: UsageOut

    @classmethod
    def of(cls, caller: str, spent: CallerUsage) -> SpentOut:
        return cls(
            caller=caller,
            verdicts=spent.verdicts,
            judged=spent.judged,
            samples=spent.samples,
            usage=UsageOut.of(spent.usage),
        )


class PrincipleSetOut(BaseModel):
    """A named set of principles."""

    name: str
    description: str
    principles: list[PrincipleOut]


class ProbesSeen(BaseModel):
    """When the probes last ran, if they did, and which were below the alarm; GET /v1/probes has the rest."""

    ran: datetime | None
    failed: list[str]


class Ready(BaseModel):
    """What runs here, why it was chosen, and what it lacks of what a request could want.

    Probes that failed do not make a server unready: what to do about them is for people to say.
    """

    status: Literal["ready"] = "ready"
    profile: str
    engine: str
    model: str
    meta_rm: str | None
    chosen: str
    lacks: list[str]
    probes: ProbesSeen
