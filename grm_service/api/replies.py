"""Reply models: verdicts, principles and problems."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel

from grm_service.api.schemas import Detail, RewardRequest
from grm_service.api.shaping import Shaped, shape
from grm_service.audit.records import Record
from grm_service.judging.plan import Plan
from grm_service.profiles.profile import Scale
from grm_service.types import Principle, Sample, StopRule, Usage, Verdict, Vote


class PrincipleOut(BaseModel):
    """A principle, as stated by the model or the caller."""

    text: str
    weight: float | None = None

    @classmethod
    def of(cls, principle: Principle) -> PrincipleOut:
        return cls(text=principle.text, weight=principle.weight)


class UsageOut(BaseModel):
    """Tokens used; `cached_tokens` of the prompt needed no prefill. Null: the server does not state it."""

    prompt_tokens: int | None
    cached_tokens: int | None
    completion_tokens: int | None

    @classmethod
    def of(cls, usage: Usage) -> UsageOut:
        return cls(
            prompt_tokens=usage.prompt_tokens,
            cached_tokens=usage.cached_tokens,
            completion_tokens=usage.completion_tokens,
        )


class SampleOut(BaseModel):
    """A sample. `order[p]` is your index of the response at position p, `scores` are in your order.

    In a large group a sample covers some responses only: `order` lists those, `scores` is null for the
    others. If the sample could not be read, `scores` is null as a whole and `error` is the reason. `expected`
    are the soft scores, if requested; if they could not be had, `soft_error` is the reason, and `scores` are
    voted. `closed`: the service completed an answer that ended without scores, because of `closed_reason`.
    `grade` (0..1) is the meta RM's; `counted` is false if others were graded higher. `thinking` is what the
    model wrote before its answer `text`, null if nothing; `thinking_cut`: it did not end.
    """

    index: int
    seed: int
    order: list[int]
    principles: list[PrincipleOut]
    analysis: str | None
    scores: list[float | None] | None
    expected: list[float | None] | None
    grade: float | None
    counted: bool
    closed: bool
    closed_reason: str | None
    soft_error: str | None
    error: str | None
    finish_reason: str | None
    completion_tokens: int | None
    thinking: str | None
    thinking_cut: bool
    text: str

    @classmethod
    def of(cls, sample: Sample) -> SampleOut:
        critique, thinking = sample.critique, sample.thinking
        return cls(
            index=sample.index,
            seed=sample.seed,
            order=list(sample.order),
            principles=[PrincipleOut.of(p) for p in critique.principles] if critique else [],
            analysis=critique.analysis if critique else None,
            scores=list(critique.scores) if critique else None,
            expected=list(sample.expected) if sample.expected else None,
            grade=sample.grade,
            counted=sample.counted,
            closed=sample.closed,
            closed_reason=sample.closed_reason,
            soft_error=sample.soft_error,
            error=sample.error,
            finish_reason=sample.finish_reason,
            completion_tokens=sample.usage.completion_tokens,
            thinking=None if thinking is None else thinking.text,
            thinking_cut=thinking is not None and thinking.cut,
            text=sample.text,
        )


class PlanOut(BaseModel):
    """The plan of a verdict: the order of your responses and the seed of each sample.

    There are `k` samples, or in a large group several for each of the `k`.
    """

    profile: str
    k: int
    orders: list[list[int]]
    seeds: list[int]
    principles: list[PrincipleOut]

    @classmethod
    def of(cls, planned: Plan) -> PlanOut:
        return cls(
            profile=planned.profile.name,
            k=planned.k,
            orders=[list(order) for order in planned.orders],
            seeds=[planned.params(i).seed for i in range(len(planned.orders))],
            principles=[PrincipleOut.of(p) for p in planned.principles],
        )

    @classmethod
    def of_verdict(cls, verdict: Verdict) -> PlanOut:
        """Return the plan of a replayed verdict, as far as it was carried out."""
        return cls(
            profile=verdict.profile,
            k=verdict.k,
            orders=[list(sample.order) for sample in verdict.samples],
            seeds=[sample.seed for sample in verdict.samples],
            principles=[PrincipleOut.of(p) for p in verdict.principles],
        )


class TimingOut(BaseModel):
    """Seconds in the queue and seconds of judging."""

    queue_s: float
    judge_s: float


class ShapedOut(BaseModel):
    """Shaped rewards: `transformed` + `length_penalty` (0 or less)."""

    transformed: list[float]
    length_penalty: list[float]
    rewards: list[float]

    @classmethod
    def of(cls, shaped: Shaped) -> ShapedOut:
        return cls.model_validate(shaped, from_attributes=True)


class VoteOut(BaseModel):
    """A vote over samples; the fields are those of a verdict."""

    rewards: list[float]
    best: int | None
    ties: list[list[int]]
    ranking: list[int]
    agreement: float | None
    std: list[float]

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


class RewardReply(BaseModel):
    """A verdict. Rewards, std and scores are in your response order; a reward is the mean score.

    `best` is null if the top is tied. `agreement` is the share of samples that put the best on top, null for
    a single response. `status` is 'partial' if a sample could not be read. `k` is as requested; a large group
    takes several samples for each of the `k`. `stopped` is the rule that ended sampling early. `constitution` is the
    fingerprint of the principles in the request. If the model `meta_rm` selected among the `valid` samples,
    `counted` were voted and `unfiltered` is the vote of all.
    """

    id: str
    status: Literal["ok", "partial"]
    profile: str
    fingerprint: str
    model: str
    created: datetime
    constitution: str | None
    rewards: list[float]
    best: int | None
    ties: list[list[int]]
    ranking: list[int]
    agreement: float | None
    std: list[float]
    response_ids: list[str] | None
    k: int
    valid: int
    counted: int
    stopped: StopRule | None
    unfiltered: VoteOut | None
    meta_rm: str | None
    shaped: ShapedOut | None
    principles: list[PrincipleOut]
    samples: list[SampleOut] | None = None
    usage: UsageOut
    timing: TimingOut

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


class PrinciplesReply(BaseModel):
    """Principles for a query; edit them and send them as `principles.items` with mode 'fixed'."""

    profile: str
    principles: list[PrincipleOut]
    usage: UsageOut


class Problem(BaseModel):
    """RFC 9457 problem details. `code` is stable; `retryable`: the same request may succeed later.

    `error` and `error_type` are for clients of TEI.
    """

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    code: str
    retryable: bool
    errors: list[dict[str, str]] | None = None
    rewards: list[None] | None = None
    reasons: dict[str, int] | None = None
    samples: list[SampleOut] | None = None
    error: str | None = None
    error_type: str | None = None
