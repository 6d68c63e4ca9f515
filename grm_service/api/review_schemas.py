"""Request and response models of the routes in reviews.py."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from grm_service.api.judge_options import NAMES
from grm_service.api.replies import PrincipleOut, RewardReply
from grm_service.api.schemas import Finite, PrincipleIn, PrinciplesIn
from grm_service.api.texts import Strict, Text
from grm_service.audit.records import Decision, Reason, Review
from grm_service.principles.observed import Observations
from grm_service.review.agreement import Agreement, AgreementStats
from grm_service.review.reviews import ListedVerdict, ReviewContent, StoredVerdict
from grm_service.types import Role, ScoreKind, StopRule, Task


class ReviewIn(Strict):
    """A review of a verdict.

    `overrule` comes with the correct `ranking` (1 for the best, one number per response) or the correct
    `scores`; `unsound_principle` comes with the `principle` that is not fit to judge by.
    """

    reviewer: Annotated[Text, Field(min_length=1, max_length=100)]
    decision: Decision
    ranking: Annotated[list[Annotated[int, Field(ge=1, le=64)]], Field(max_length=64)] | None = None
    scores: Annotated[list[Finite], Field(max_length=64)] | None = None
    principle: Annotated[Text, Field(min_length=1, max_length=4000)] | None = None
    note: Annotated[Text, Field(max_length=10_000)] = ""

    def to_content(self) -> ReviewContent:
        return ReviewContent(
            self.reviewer,
            self.decision,
            None if self.ranking is None else tuple(self.ranking),
            None if self.scores is None else tuple(self.scores),
            self.principle,
            self.note,
        )


class ReviewOut(BaseModel):
    """A review of a verdict, as stored."""

    id: str
    verdict: str
    created: datetime
    caller: str
    reviewer: str
    decision: Decision
    ranking: list[int] | None
    scores: list[float] | None
    principle: str | None
    note: str

    @classmethod
    def of(cls, review: Review) -> ReviewOut:
        return cls.model_validate(review, from_attributes=True)


class KeptOut(BaseModel):
    """A verdict in a list. `reasons` say why a person should review it, `worth` is its priority."""

    seq: int
    id: str
    created: datetime
    caller: str
    route: str
    profile: str
    status: Literal["ok", "partial"]
    query: str
    responses: int
    rewards: list[float]
    best: int | None
    agreement: float | None
    reasons: list[Reason]
    worth: float
    reviews: int

    @classmethod
    def of(cls, listed: ListedVerdict) -> KeptOut:
        summary = listed.summary
        return cls(
            seq=listed.seq,
            id=listed.id,
            created=listed.created,
            caller=listed.caller,
            route=summary.route,
            profile=listed.profile,
            status=listed.status,
            query=summary.query,
            responses=summary.responses,
            rewards=list(summary.rewards),
            best=summary.best,
            agreement=summary.agreement,
            reasons=list(summary.reasons),
            worth=listed.worth,
            reviews=listed.reviews,
        )


class VerdictsOut(BaseModel):
    """One page of verdicts, newest first; `next` is the `before` of the next page, null on the last page."""

    verdicts: list[KeptOut]
    next: int | None


class QueueOut(BaseModel):
    """Verdicts to review, the highest `worth` first."""

    items: list[KeptOut]


class MessageOut(BaseModel):
    """A turn of the conversation, as text."""

    role: Role
    content: str


class AskedOut(BaseModel):
    """The request as it was judged. Null means the profile's default."""

    messages: list[MessageOut]
    responses: list[str]
    reference: str | None
    principles: PrinciplesIn
    k: int | None
    k_meta: int | None
    seed: int
    temperature: float | None
    max_tokens: int | None
    thinking_tokens: int | None
    score: ScoreKind | None
    stop: StopRule

    @classmethod
    def of(cls, task: Task) -> AskedOut:
        spec = task.options.principles
        # Stored requests skip validation: today's limits may be stricter than those at the time.
        items = [PrincipleIn.model_construct(text=item.text, weight=item.weight) for item in spec.items]
        return cls(
            messages=[MessageOut(role=turn.role, content=turn.content) for turn in task.messages],
            responses=list(task.responses),
            reference=task.reference,
            principles=PrinciplesIn.model_construct(mode=spec.mode, set=spec.set_name, items=items),
            **{name: getattr(task.options, name) for name in NAMES if name != "timeout_s"},
        )


class VerdictOut(BaseModel):
    """A verdict with its request and reviews. `hash` chains it to the record before `seq`."""

    seq: int
    hash: str
    caller: str
    route: str
    engine: str
    version: str
    verdict: RewardReply
    request: AskedOut
    standard: list[PrincipleOut]
    reasons: list[Reason]
    reviews: list[ReviewOut]

    @classmethod
    def of(cls, stored: StoredVerdict, reviews: list[Review]) -> VerdictOut:
        record = stored.record
        return cls(
            seq=stored.seq,
            hash=stored.hash,
            caller=record.caller,
            route=record.route,
            engine=record.engine,
            version=record.version,
            verdict=RewardReply.of(record),
            request=AskedOut.of(record.task),
            standard=[PrincipleOut.of(item) for item in record.standard],
            reasons=list(record.reasons),
            reviews=[ReviewOut.of(review) for review in reviews],
        )


class AgreementOut(BaseModel):
    """In `agreed` of `reviews` the reviewer chose as the judge; Cohen's `kappa` with its 95 % interval."""

    reviews: int
    agreed: int
    kappa: float | None
    interval: tuple[float, float] | None


class GroupOut(AgreementOut):
    """Agreement for one profile and one kind of principles."""

    profile: str
    principles: str


class WeekOut(AgreementOut):
    """Agreement in the week that starts on the day `from`."""

    since: Annotated[date, Field(serialization_alias="from")]


class StatsOut(BaseModel):
    """Agreement between reviewers and the judge, by the latest review of each reviewer on each verdict."""

    groups: list[GroupOut]
    over_time: list[WeekOut]

    @classmethod
    def of(cls, stats: AgreementStats) -> StatsOut:
        return cls(
            groups=[
                GroupOut(profile=profile, principles=principles, **_numbers(agreement))
                for profile, principles, agreement in stats.groups
            ],
            over_time=[WeekOut(since=week, **_numbers(agreement)) for week, agreement in stats.weeks],
        )


class ObservedOut(BaseModel):
    """A principle written by the judge, with near-identical wordings merged; see docs/oversight.md."""

    text: str
    count: int
    share: float
    weight: float | None
    wins: int
    win_rate: float | None
    kinds: dict[str, int]
    flags: list[str]
    unsound: int


class ObservationsOut(BaseModel):
    """The judge's own principles, most frequent first, with the numbers of verdicts and readable samples."""

    verdicts: int
    samples: int
    principles: list[ObservedOut]

    @classmethod
    def of(cls, observations: Observations) -> ObservationsOut:
        return cls.model_validate(observations, from_attributes=True)


def _numbers(agreement: Agreement) -> dict[str, object]:
    return {name: getattr(agreement, name) for name in ("reviews", "agreed", "kappa", "interval")}
