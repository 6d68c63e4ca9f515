"""Reply models about the server: profiles, principle sets, usage, readiness."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from grm_service.api.base import Described
from grm_service.api.samples import PrincipleOut, UsageOut
from grm_service.serving.usage import CallerUsage


class ProfileOut(Described):
    """A profile, and whether this server can judge with it."""

    name: str
    """Name of the profile, for the field `profile` of a request."""
    description: str
    """What the profile is for."""
    model: str | None
    """Model of the judge: a hub id or a path; null: any model that the server runs."""
    meta_rm: str | None
    """Meta RM that grades the samples: a hub id or a path; null: none."""
    served: bool
    """Whether this server can judge with the profile: it is for the running model, or for any."""
    default: bool
    """Whether requests without a profile are judged with it."""
    fingerprint: str
    """`sha256:` and the hash of the profile's content."""
    scale: list[int]
    """Lowest and highest score."""
    k: int
    """Samples to vote over, if a request does not set their number."""


class CallerUsageOut(Described):
    """A caller's usage since the server started; shared and replayed verdicts cost nothing."""

    caller: str
    """Name of your API key; empty if the server has no keys."""
    verdicts: int
    """Number of verdicts returned to you."""
    judged: int
    """Number of verdicts that were judged for you, not shared or replayed."""
    samples: int
    """Number of samples of the judged verdicts."""
    usage: UsageOut
    """Tokens of the judged verdicts."""

    @classmethod
    def of(cls, caller: str, used: CallerUsage) -> CallerUsageOut:
        return cls(
            caller=caller,
            verdicts=used.verdicts,
            judged=used.judged,
            samples=used.samples,
            usage=UsageOut.of(used.usage),
        )


class PrincipleSetOut(Described):
    """A named set of principles."""

    name: str
    """Name of the set, for `principles.set` of a request."""
    description: str
    """What the set is for."""
    principles: list[PrincipleOut]
    """Principles of the set, with their weights."""


class ProbesSeen(Described):
    """The last run of the probes; see GET /v1/probes."""

    ran: datetime | None
    """Time when the run ended, in UTC; null before the first run."""
    failed: list[str]
    """Names of the probes below the alarm."""


class ThinkingOut(Described):
    """How the model thinks before it answers, as far as the engine knows."""

    thinks: Literal["inline", "field"] | None
    """Where the thinking is: `inline` in the text, `field` in a field of the reply; null: nowhere."""
    opened: bool
    """Whether the prompt ends in the start tag of the thinking."""
    can_disable: bool
    """Whether `thinking_tokens` 0 turns the thinking off without fields in the profile."""


class Ready(Described):
    """The running profile, engine and models, and what the engine lacks."""

    status: Literal["ready"] = "ready"
    """Always `ready`; a server that is not replies with a problem (503)."""
    profile: str
    """Name of the profile for requests that name none."""
    engine: str
    """Engine that runs the model, such as `openvino`, `transformers` or `openai`."""
    model: str
    """Model of the judge: a hub id, a path, or its name on the model's server."""
    meta_rm: str | None
    """Meta RM that grades samples; null: none runs."""
    chosen: str
    """Why this engine runs."""
    lacks: list[str]
    """Features that the engine lacks: continues, constrains, alternatives, continues_thinking."""
    thinking: ThinkingOut
    """How the model thinks before it answers."""
    dropped_fields: dict[str, str]
    """Sampling parameters that the model's server refuses, so that requests leave them out, each with what
    that means for verdicts.
    """
    probes: ProbesSeen
    """The last run of the probes; a failed probe does not make the server unready."""
