"""The reply of /v1/improve: drafts, rounds, the second opinion, flags and cost."""

from __future__ import annotations

from pydantic import BaseModel

from grm_service.api.replies import PrincipleOut, RewardReply, UsageOut
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


class DraftOut(BaseModel):
    """One answer. `parent`: the draft that it revises, based on `critiques` (samples) of the verdict on that.

    Both are empty if it was sampled from the conversation alone, or `given` in the request. `cut`: it reached
    its token limit. `same_as`: an earlier draft with the same text; this one was not judged.
    """

    id: int
    round: int
    parent: int | None
    critiques: list[int]
    given: bool
    cut: bool
    same_as: int | None
    text: str

    @classmethod
    def of(cls, draft: Draft) -> DraftOut:
        return cls.model_validate(draft, from_attributes=True)


class GainOut(BaseModel):
    """The mean of the paired differences within each sample, and its standard error (null for one sample).

    `clear`: the mean is more than twice its error.
    """

    mean: float
    error: float | None
    clear: bool

    @classmethod
    def of(cls, gain: Gain | None) -> GainOut | None:
        return None if gain is None else cls(mean=gain.mean, error=gain.error, clear=gain.clear)


class RoundOut(BaseModel):
    """One verdict on `drafts`, in this order; `best` is the draft with the highest reward.

    `gain`: of `best` over the previous best, null in the first round.
    """

    round: int
    drafts: list[int]
    best: int
    gain: GainOut | None
    verdict: RewardReply

    @classmethod
    def of(cls, judged: Round, detail: Detail) -> RoundOut:
        return cls(
            round=judged.number,
            drafts=list(judged.drafts),
            best=judged.best,
            gain=GainOut.of(judged.gain),
            verdict=RewardReply.of(judged.record, detail),
        )


class OpinionOut(BaseModel):
    """The verdict by another standard on the original and the best, its two responses.

    `shared`: it finds a clear gain too. `error`: the code of the failure; then the other results are null.
    """

    profile: str | None
    mode: PrincipleMode
    set: str | None
    items: list[PrincipleOut]
    shared: bool | None
    gain: GainOut | None
    verdict: RewardReply | None
    error: str | None

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


class LengthOut(BaseModel):
    """Characters of the original and the best; `growth`: their ratio, null if the original is empty."""

    original: int
    best: int
    growth: float | None


class CostOut(BaseModel):
    """Tokens of policy, judge and second opinion; `generated` is the part that counts towards the budget.

    Null: a server does not state them. The budget then counts the most that they can be.
    """

    generated: int | None
    policy: UsageOut
    judge: UsageOut
    second_opinion: UsageOut
    seconds: float

    @classmethod
    def of(cls, cost: ImprovementCost, seconds: float) -> CostOut:
        return cls(
            generated=cost.generated,
            policy=UsageOut.of(cost.policy),
            judge=UsageOut.of(cost.judge),
            second_opinion=UsageOut.of(cost.opinion),
            seconds=seconds,
        )


class FailureOut(BaseModel):
    """The error that ended the loop."""

    code: str
    detail: str


class ImproveReply(BaseModel):
    """The whole lineage. `text` is the best draft's; `original` is 0: the request's draft, or the first one.

    `stopped`: 'rounds' (all done), 'tokens' or 'seconds' (budget used up), 'no_gain' (in the last round), or
    'failed'. `flags`: 'same_model' (policy and judge are one model), 'gain_not_shared' (the second opinion
    does not confirm it), 'gain_unclear' (within the spread of the votes), 'grew_longer' (by more than half).
    `gain` and `second_opinion` are null if the original is still the best.
    """

    text: str
    best: int
    original: int
    gain: GainOut | None
    second_opinion: OpinionOut | None
    length: LengthOut
    flags: list[Flag]
    stopped: Stop
    failure: FailureOut | None
    policy: str
    judge: str
    drafts: list[DraftOut]
    rounds: list[RoundOut]
    cost: CostOut

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
