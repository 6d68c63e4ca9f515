"""Reply models about the server: profiles, principle sets, usage, readiness."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel

from grm_service.api.replies import PrincipleOut, UsageOut
from grm_service.serving.usage import CallerUsage


class ProfileOut(BaseModel):
    """A profile, and whether this server can judge with it."""

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
    """A caller's usage since the server started; shared and replayed verdicts cost nothing."""

    caller: str
    verdicts: int
    judged: int
    samples: int
    usage: UsageOut

    @classmethod
    def of(cls, caller: str, used: CallerUsage) -> SpentOut:
        return cls(
            caller=caller,
            verdicts=used.verdicts,
            judged=used.judged,
            samples=used.samples,
            usage=UsageOut.of(used.usage),
        )


class PrincipleSetOut(BaseModel):
    """A named set of principles."""

    name: str
    description: str
    principles: list[PrincipleOut]


class ProbesSeen(BaseModel):
    """The time of the last probe run, and the probes below the alarm; see GET /v1/probes."""

    ran: datetime | None
    failed: list[str]


class ThinkingOut(BaseModel):
    """How the model thinks before it answers: in its text ('inline'), in a field of the reply, or not (null).

    `opened`: the prompt ends in the start tag of the thinking. `can_disable`: `thinking_tokens` 0 turns it
    off, without fields in the profile.
    """

    thinks: Literal["inline", "field"] | None
    opened: bool
    can_disable: bool


class Ready(BaseModel):
    """The running profile, engine and models, and the abilities that the engine lacks.

    `chosen` is the reason for the engine. `dropped_fields` are the sampling parameters that its server
    refuses, so that requests leave them out, each with what that means for verdicts. Failed probes do not
    make a server unready.
    """

    status: Literal["ready"] = "ready"
    profile: str
    engine: str
    model: str
    meta_rm: str | None
    chosen: str
    lacks: list[str]
    thinking: ThinkingOut
    dropped_fields: dict[str, str]
    probes: ProbesSeen
