"""Reply models: votes, verdicts, principles and problems."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from grm_service.api.base import Described
from grm_service.api.samples import PrincipleOut, SampleOut, UsageOut
from grm_service.api.schemas import Detail, RewardRequest
from grm_service.api.shaping import Shaped, shape
from grm_service.audit.records import Record
from grm_service.profiles.profile import Scale
from grm_service.types import StopRule, Vote


class TimingOut(Described):
    """The duration of a judgement."""

    queue_s: float
    """Seconds from the arrival of the request to the start of judging."""
    judge_s: float
    """Seconds of judging."""


class ShapedOut(Described):
    """Shaped rewards, in your response order."""

    transformed: list[float]
    """Rewards after the transform."""
    length_penalty: list[float]
    """Length penalty of each response, 0 or less."""
    rewards: list[float]
    """The shaped rewards: the sums of `transformed` and `length_penalty`."""

    @classmethod
    def of(cls, shaped: Shaped) -> ShapedOut:
        return cls.model_validate(shaped, from_attributes=True)


class VoteOut(Described):
    """A vote over samples."""

    rewards: list[float]
    """Mean score of each response over the counted samples, in your response order, on the profile's scale;
    in a large group the lowest and the highest may lie outside of it.
    """
    best: int | None
    """Index (from 0) of the response with the highest reward; null if several have it."""
    ties: list[list[int]]
    """Groups of responses with equal rewards, by their indices (from 0); empty if all differ."""
    ranking: list[int]
    """Rank of each response, 1 for the best; equal rewards share a rank."""
    agreement: float | None
    """Share of the counted samples (0 to 1) that put the best response on top; one with m responses on top
    counts 1/m. Null for a single response.
    """
    std: list[float]
    """Population standard deviation of each response's scores over the counted samples."""

    @classmethod
    def of(cls, vote: Vote) -> VoteOut:
        return cls(
            rewards=list(vote.rewards),
            best=vote.best,
            ties=[list(group) for group in vote.ties],
            ranking=list(vote.ranking),
            agreement=vote.agreement,
            std=list(vote.std),
        )


class RewardReply(Described):
    """A verdict: the rewards of the responses, and the samples behind them."""

    id: str
    """Id of the verdict in the audit trail, see GET /v1/verdicts/{id}."""
    status: Literal["ok", "partial"]
    """`partial` if a sample has an `error` or a `soft_error`, else `ok`."""
    profile: str
    """Name of the profile that judged."""
    fingerprint: str
    """`sha256:` and the hash of the profile's content."""
    model: str
    """Model of the judge: a hub id, a path, or its name on the model's server."""
    created: datetime
    """Time of the verdict, in UTC."""
    constitution: str | None
    """`sha256:` and the hash of the principles in the request, those of a named set included; null: none."""
    rewards: list[float]
    """Mean score of each response over the counted samples, in your response order, on the profile's scale;
    in a large group the lowest and the highest may lie outside of it.
    """
    best: int | None
    """Index (from 0) of the response with the highest reward; null if several have it."""
    ties: list[list[int]]
    """Groups of responses with equal rewards, by their indices (from 0); empty if all differ."""
    ranking: list[int]
    """Rank of each response, 1 for the best; equal rewards share a rank."""
    agreement: float | None
    """Share of the counted samples (0 to 1) that put the best response on top; one with m responses on top
    counts 1/m. Null for a single response.
    """
    std: list[float]
    """Population standard deviation of each response's scores over the counted samples."""
    response_ids: list[str] | None
    """Your ids of the responses, in their order; null if one has none, and for verdicts from the trail."""
    k: int
    """Samples requested; in a large group, rounds of several samples."""
    valid: int
    """Number of samples with readable scores."""
    counted: int
    """Number of samples in the vote."""
    stopped: StopRule | None
    """The rule that ended sampling early; null if all samples were drawn."""
    unfiltered: VoteOut | None
    """Vote of all readable samples, if a meta RM selected among them; else null."""
    meta_rm: str | None
    """Model of the meta RM that selected the samples in the vote; null: none did."""
    shaped: ShapedOut | None
    """Shaped rewards; null if the request has no `shaping`."""
    principles: list[PrincipleOut]
    """Principles in the prompts: fixed ones, a constitution, or those written for the query."""
    samples: list[SampleOut] | None = None
    """The samples, in the order of their indices; absent or null if `detail` is `rewards`."""
    usage: UsageOut
    """Tokens of all samples, and of the principles for the query, also if these were reused."""
    timing: TimingOut
    """Seconds of waiting and of judging."""

    @classmethod
    def answer(cls, record: Record, request: RewardRequest, scale: Scale) -> RewardReply:
        """Return the reply with the detail, ids and shaping of the request."""
        reply = cls.of(record, request.detail, request.response_ids())
        if request.shaping is not None:
            texts, shaping = record.task.responses, request.shaping.to_shaping()
            reply.shaped = ShapedOut.of(shape(record.verdict.vote.rewards, texts, scale, shaping))
        return reply

    @classmethod
    def of(
        cls, record: Record, detail: Detail = "samples", response_ids: list[str] | None = None
    ) -> RewardReply:
        verdict = record.verdict
        return cls(
            id=record.id,
            status=verdict.status,
            profile=verdict.profile,
            fingerprint=verdict.fingerprint,
            model=verdict.model,
            created=record.created,
            constitution=record.constitution,
            **dict(VoteOut.of(verdict.vote)),
            response_ids=response_ids,
            k=verdict.k,
            valid=sum(s.critique is not None for s in verdict.samples),
            counted=sum(s.counted for s in verdict.samples),
            stopped=verdict.stopped,
            unfiltered=None if verdict.unfiltered is None else VoteOut.of(verdict.unfiltered),
            meta_rm=verdict.meta_rm,
            shaped=None,
            principles=[PrincipleOut.of(p) for p in verdict.principles],
            samples=[SampleOut.of(s) for s in verdict.samples] if detail == "samples" else None,
            usage=UsageOut.of(verdict.usage),
            timing=TimingOut(queue_s=record.queue_s, judge_s=verdict.judge_s),
        )


class PrinciplesReply(Described):
    """Principles for a query; edit them and send them as `principles.items` with mode 'fixed'."""

    profile: str
    """Name of the profile that wrote them."""
    principles: list[PrincipleOut]
    """The principles, in the order in which they were written."""
    usage: UsageOut
    """Tokens used to write them, also if they are reused from an earlier request."""


class Problem(Described):
    """RFC 9457 problem details; fields that do not apply are absent."""

    type: str = "about:blank"
    """Always `about:blank`: `code` identifies the problem."""
    title: str
    """Short name of the status."""
    status: int
    """HTTP status; in a batch or a stream, that of the item or the event."""
    detail: str
    """What is wrong with this request, and what to do."""
    code: str
    """Stable code of the problem, such as `overloaded`; docs/failure-codes.md lists all."""
    retryable: bool
    """Whether the same request may succeed later."""
    errors: list[dict[str, str]] | None = None
    """The first 20 invalid fields of the request, each with its `field` and a `message`."""
    rewards: list[None] | None = None
    """One null for each response, if the code is `all_unreadable`."""
    reasons: dict[str, int] | None = None
    """Number of samples by the reason why they could not be read, if the code is `all_unreadable`."""
    samples: list[SampleOut] | None = None
    """The unreadable samples, if the code is `all_unreadable`."""
    error: str | None = None
    """The message for clients of TEI."""
    error_type: str | None = None
    """The type of error for clients of TEI: `overloaded`, or the `code`."""
