"""An improvement as it goes out: drafts, rounds, the second opinion, what to make of it."""

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
    """One answer. `parent`: the draft that it revises, by the `critiques` (samples) of the verdict on that.

    Both are empty for what was sampled from the conversation alone, or `given`. `cut`: it ended at its token
    limit. `same_as`: the draft that said the same before; this one was not judged.
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
    """The mean of the samples' own differences and its standard error, null for a single sample.

    `clear`: it is more than twice its error.
    """

    mean: float
    error: float | None
    clear: bool

    @classmethod
    def of(cls, gain: Gain | None) -> GainOut | None:
        return None if gain is None else cls(mean=gain.mean, error=gain.error, clear=gain.clear)


class RoundOut(BaseModel):
    """One verdict: its responses were `drafts`, in this order, and `best` stayed.

    `gain`: of `best` over what was best before, null in the first round.
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
    """What another standard says of the original and the best: the two responses of its verdict.

    `shared`: it sees a clear gain too. `error` is the code of why it says nothing; then the rest is null.
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
    """Characters of the original and the best; `growth` is their ratio, null where the original is empty."""

    original: int
    best: int
    growth: float | None


class CostOut(BaseModel):
    """Tokens by who generated them; `generated` is what counted for the budget."""

    generated: int
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
    """What ended the loop."""

    code: str
    detail: str


class ImproveReply(BaseModel):
    """The whole lineage. `text` is the best draft's; `original` is always 0: the given draft, or the first.

    `stopped`: 'rounds' and 'tokens', 'seconds' of the budget are used up, a round brought 'no_gain', or it
    'failed'. `flags`: 'same_model' writes and judges; 'gain_not_shared' by the second opinion; 'gain_unclear'
    within the votes' spread; 'grew_longer' by more than half. `gain` and `second_opinion` are null where the
    original stayed the best.
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
    def of(cls, whole: Improvement, detail: Detail = "samples") -> ImproveReply:
        before = len(whole.drafts[whole.original].text)
        failure, opinion = whole.failure, whole.opinion
        return cls(
            text=whole.text,
            best=whole.best,
            original=whole.original,
            gain=GainOut.of(whole.gain),
            second_opinion=None if opinion is None else OpinionOut.of(opinion, detail),
            length=LengthOut(original=before, best=len(whole.text), growth=whole.growth),
            flags=list(whole.flags),
            stopped=whole.stopped,
            failure=None if failure is None else FailureOut(code=failure[0], detail=failure[1]),
            policy=whole.policy,
            judge=whole.judge,
            drafts=[DraftOut.of(draft) for draft in whole.drafts],
            rounds=[RoundOut.of(each, detail) for each in whole.rounds],
            cost=CostOut.of(whole.cost, whole.seconds),
        )
