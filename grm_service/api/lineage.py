"""The reply of /v1/improve: drafts, rounds, the second opinion, flags and cost."""

from __future__ import annotations

from grm_service.api.base import Described
from grm_service.api.replies import RewardReply
from grm_service.api.samples import PrincipleOut, UsageOut
from grm_service.api.schemas import Detail
from grm_service.improving.gain import Gain
from grm_service.improving.lineage import (
    Draft,
    Flag,
    Improvement,
    ImprovementCost,
    Round,
    SecondOpinion,
    Stop,
)
from grm_service.types import PrincipleMode


class DraftOut(Described):
    """One answer of the lineage."""

    id: int
    """Id of the draft: its index in the lineage, from 0."""
    round: int
    """Number of the round in which it was written; 0 for the first drafts."""
    parent: int | None
    """Id of the draft that it revises; null if it revises none."""
    critiques: list[int]
    """Indices of the samples, in the verdict of the previous round, whose critiques it is based on."""
    given: bool
    """Whether it is the draft of the request."""
    cut: bool
    """Whether it ended at its token limit."""
    same_as: int | None
    """Id of an earlier draft with the same text, which was judged in its place; null if the text is new."""
    text: str
    """The answer."""

    @classmethod
    def of(cls, draft: Draft) -> DraftOut:
        return cls.model_validate(draft, from_attributes=True)


class GainOut(Described):
    """The gain of one draft over another, from the differences of their scores within each sample."""

    mean: float
    """Mean of the differences, on the profile's scale; negative for a loss."""
    error: float | None
    """Standard error of the mean; null for a single sample."""
    clear: bool
    """Whether the mean is more than twice its standard error; never for a single sample."""

    @classmethod
    def of(cls, gain: Gain | None) -> GainOut | None:
        return None if gain is None else cls(mean=gain.mean, error=gain.error, clear=gain.clear)


class RoundOut(Described):
    """One round: drafts that were judged together."""

    round: int
    """Number of the round; 0 has the first drafts, the others have revisions."""
    drafts: list[int]
    """Ids of the judged drafts, in the order of the verdict's responses."""
    best: int
    """Id of the draft with the highest reward; of several, the first."""
    gain: GainOut | None
    """Gain of `best` over the best of the previous round; null in round 0, or if no sample scored both."""
    verdict: RewardReply
    """The verdict on the drafts."""

    @classmethod
    def of(cls, judged: Round, detail: Detail) -> RoundOut:
        return cls(
            round=judged.number,
            drafts=list(judged.drafts),
            best=judged.best,
            gain=GainOut.of(judged.gain),
            verdict=RewardReply.of(judged.record, detail),
        )


class OpinionOut(Described):
    """The verdict of a second judge on the original and the best draft."""

    profile: str | None
    """Name of the second judge's profile; null: the server's default."""
    mode: PrincipleMode
    """Source of its principles, as in the request."""
    set: str | None
    """Name of its principle set; null: none."""
    items: list[PrincipleOut]
    """Principles of the request for the second judge; those of the set are not repeated."""
    shared: bool | None
    """Whether its gain is clear, too; null without a `gain`."""
    gain: GainOut | None
    """Gain of the best over the original; null without a verdict, or if no sample scored both."""
    verdict: RewardReply | None
    """The verdict; its responses are the original and the best, in this order. Null if it failed."""
    error: str | None
    """Code of the failure, see docs/failure-codes.md; null if there is a verdict."""

    @classmethod
    def of(cls, opinion: SecondOpinion, detail: Detail) -> OpinionOut:
        spec, record = opinion.standard.principles, opinion.record
        return cls(
            profile=opinion.standard.profile,
            mode=spec.mode,
            set=spec.set_name,
            items=[PrincipleOut.of(p) for p in spec.items],
            shared=opinion.shared,
            gain=GainOut.of(opinion.gain),
            verdict=None if record is None else RewardReply.of(record, detail),
            error=opinion.error,
        )


class LengthOut(Described):
    """The lengths of the original and the best draft."""

    original: int
    """Characters of the original."""
    best: int
    """Characters of the best draft."""
    growth: float | None
    """`best` divided by `original`; null if the original is empty."""


class CostOut(Described):
    """Tokens and time; tokens of completions that failed or were cancelled are unknown and missing."""

    generated: int | None
    """Generated tokens of policy, judge and second opinion together; null if a server does not state them,
    and then the budget counts the most that they can be.
    """
    policy: UsageOut
    """Tokens of writing the drafts."""
    judge: UsageOut
    """Tokens of the verdicts of all rounds."""
    second_opinion: UsageOut
    """Tokens of the second opinion."""
    seconds: float
    """Seconds from the start of the improvement to its end."""

    @classmethod
    def of(cls, cost: ImprovementCost, seconds: float) -> CostOut:
        return cls(
            generated=cost.generated,
            policy=UsageOut.of(cost.policy),
            judge=UsageOut.of(cost.judge),
            second_opinion=UsageOut.of(cost.opinion),
            seconds=seconds,
        )


class FailureOut(Described):
    """The error that ended the loop."""

    code: str
    """Code of the error, see docs/failure-codes.md."""
    detail: str
    """What went wrong."""


class ImproveReply(Described):
    """The best draft, with the whole lineage: every draft and every verdict on it."""

    text: str
    """Text of the best draft."""
    best: int
    """Id of the best draft."""
    original: int
    """Id of the original, which is always 0: the draft of the request, or the first sampled one."""
    gain: GainOut | None
    """Gain of the best over the original in the last verdict; null if the original is still the best, or no
    sample scored both.
    """
    second_opinion: OpinionOut | None
    """The second opinion on that gain; null if the original is still the best."""
    length: LengthOut
    """Lengths of the original and the best."""
    flags: list[Flag]
    """Reasons to doubt the gain. `same_model`: policy and judge are one model. `gain_not_shared`: the second
    opinion does not confirm the gain. `gain_unclear`: it is within the spread of the votes. `grew_longer`:
    the best has more than 1.5 times the characters of the original.
    """
    stopped: Stop
    """Why the loop ended. `rounds`: all are done. `no_gain`: the last one has no clear gain. `tokens`,
    `seconds`: the budget is used up. `failed`: see `failure`.
    """
    failure: FailureOut | None
    """The error that ended the loop, if `stopped` is `failed`; else null."""
    policy: str
    """Model that wrote the drafts."""
    judge: str
    """Model that judged them."""
    drafts: list[DraftOut]
    """All drafts, in the order of their ids."""
    rounds: list[RoundOut]
    """The judged rounds, oldest first."""
    cost: CostOut
    """Tokens and time used."""

    @classmethod
    def of(cls, improvement: Improvement, detail: Detail = "samples") -> ImproveReply:
        original = len(improvement.drafts[improvement.original].text)
        failure, opinion = improvement.failure, improvement.opinion
        return cls(
            text=improvement.text,
            best=improvement.best,
            original=improvement.original,
            gain=GainOut.of(improvement.gain),
            second_opinion=None if opinion is None else OpinionOut.of(opinion, detail),
            length=LengthOut(original=original, best=len(improvement.text), growth=improvement.growth),
            flags=list(improvement.flags),
            stopped=improvement.stopped,
            failure=None if failure is None else FailureOut(code=failure[0], detail=failure[1]),
            policy=improvement.policy,
            judge=improvement.judge,
            drafts=[DraftOut.of(draft) for draft in improvement.drafts],
            rounds=[RoundOut.of(each, detail) for each in improvement.rounds],
            cost=CostOut.of(improvement.cost, improvement.seconds),
        )
