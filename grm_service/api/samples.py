"""Reply models: samples and their plan, principles and token usage."""

from __future__ import annotations

from grm_service.api.base import Described
from grm_service.judging.plan import Plan
from grm_service.types import Principle, Sample, Usage, Verdict


class PrincipleOut(Described):
    """A principle, as stated by the model or the caller."""

    text: str
    """The criterion."""
    weight: float | None = None
    """Relative weight, 0 to 1; null: not stated."""

    @classmethod
    def of(cls, principle: Principle) -> PrincipleOut:
        return cls(text=principle.text, weight=principle.weight)


class UsageOut(Described):
    """Tokens used. A number is null if the model's server does not state it."""

    prompt_tokens: int | None
    """Tokens of the prompts."""
    cached_tokens: int | None
    """The part of `prompt_tokens` that was in the prefix cache and needed no prefill."""
    completion_tokens: int | None
    """Generated tokens."""

    @classmethod
    def of(cls, usage: Usage) -> UsageOut:
        return cls(
            prompt_tokens=usage.prompt_tokens,
            cached_tokens=usage.cached_tokens,
            completion_tokens=usage.completion_tokens,
        )


class SampleOut(Described):
    """One of the samples behind a verdict."""

    index: int
    """Index of the sample in the verdict, from 0."""
    seed: int
    """Sampling seed, derived from the request's seed."""
    order: list[int]
    """`order[p]` is your index of the response at position p of the prompt, both from 0. In a large group a
    sample covers some responses only.
    """
    principles: list[PrincipleOut]
    """Principles that the critique states; empty if the sample could not be read."""
    analysis: str | None
    """Analysis of the responses in the critique; null if the sample could not be read."""
    scores: list[float | None] | None
    """Scores as written, in your response order, on the profile's scale. Null for a response that the sample
    does not cover, and as a whole if the sample could not be read.
    """
    expected: list[float | None] | None
    """Soft scores, in your response order, on the profile's scale; they are voted in place of `scores`. Null
    if the scores are hard, the sample could not be read, or for the reason in `soft_error`.
    """
    grade: float | None
    """The meta RM's probability that the critique is right, 0 to 1; null: not graded."""
    counted: bool
    """Whether the sample is in the vote; not if it could not be read, or if others were graded higher."""
    closed: bool
    """Whether the service completed an answer that ended without scores."""
    closed_reason: str | None
    """Why the answer was completed, such as `no_scores`; null if it was not."""
    soft_error: str | None
    """Why a sample has no soft scores although they apply, so that `scores` are voted; else null."""
    error: str | None
    """Why the sample could not be read, such as `no_scores` or `deadline_exceeded`; null if it could."""
    finish_reason: str | None
    """Why the model ended its answer: `stop`, or `length` at a token limit; null if it did not."""
    completion_tokens: int | None
    """Generated tokens, those for closing and soft scores included; null: the server does not state them."""
    thinking: str | None
    """What the model wrote before its answer, without tags; null if nothing."""
    thinking_cut: bool
    """Whether the thinking did not come to its end."""
    text: str
    """The answer of the model, from which principles and scores are read; empty if there is none."""

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


class PlanOut(Described):
    """The plan of a verdict: the order of your responses and the seed of each sample.

    There are `k` samples, or in a large group several for each of the `k`.
    """

    profile: str
    """Name of the profile that judges."""
    k: int
    """Samples to vote over; in a large group, rounds of samples."""
    orders: list[list[int]]
    """For each sample, the indices (from 0) of the responses in the order of its prompt."""
    seeds: list[int]
    """Sampling seed of each sample."""
    principles: list[PrincipleOut]
    """Principles in the prompts; empty if the judge writes its own and there is no constitution."""

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
