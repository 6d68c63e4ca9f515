"""Request and reply models of the audit trail: verdicts, the review queue and reviews."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from grm_service.api.base import Described
from grm_service.api.judge_options import NAMES
from grm_service.api.replies import RewardReply
from grm_service.api.samples import PrincipleOut
from grm_service.api.schemas import Finite, PrincipleIn, PrinciplesIn
from grm_service.api.texts import Strict, Text
from grm_service.audit.records import Decision, Reason, Review
from grm_service.review.reviews import ListedVerdict, ReviewContent, StoredVerdict
from grm_service.types import Role, ScoreKind, StopRule, Task


class ReviewIn(Strict):
    """A review of a verdict."""

    reviewer: Annotated[Text, Field(min_length=1, max_length=100)]
    """Name of the reviewer; of the reviews of a verdict under one name and API key, the latest counts."""
    decision: Decision
    """`agree` needs no other field, `overrule` the correct `ranking` or the correct `scores`,
    `unsound_principle` the `principle`.
    """
    ranking: Annotated[list[Annotated[int, Field(ge=1, le=64)]], Field(max_length=64)] | None = None
    """Correct rank of each response, in their order: 1 for the best, equal numbers for ties."""
    scores: Annotated[list[Finite], Field(max_length=64)] | None = None
    """Correct score of each response, in their order, the highest for the best; any scale."""
    principle: Annotated[Text, Field(min_length=1, max_length=4000)] | None = None
    """Text of the principle that is not fit to judge by."""
    note: Annotated[Text, Field(max_length=10_000)] = ""
    """Remark for other people, stored with the review."""

    def to_content(self) -> ReviewContent:
        return ReviewContent(
            self.reviewer,
            self.decision,
            None if self.ranking is None else tuple(self.ranking),
            None if self.scores is None else tuple(self.scores),
            self.principle,
            self.note,
        )


class ReviewOut(Described):
    """A review of a verdict, as stored."""

    id: str
    """Id of the review."""
    verdict: str
    """Id of the reviewed verdict."""
    created: datetime
    """Time of the review, in UTC."""
    caller: str
    """Name of the API key that sent the review; empty if the server has no keys."""
    reviewer: str
    """Name of the reviewer."""
    decision: Decision
    """Whether the reviewer agrees, overrules the verdict, or calls a principle unsound."""
    ranking: list[int] | None
    """Correct rank of each response, 1 for the best; null: none in the review."""
    scores: list[float] | None
    """Correct score of each response; null: none in the review."""
    principle: str | None
    """Text of the unsound principle; null: none in the review."""
    note: str
    """The reviewer's remark, empty if there is none."""

    @classmethod
    def of(cls, review: Review) -> ReviewOut:
        return cls.model_validate(review, from_attributes=True)


class VerdictItem(Described):
    """A verdict in a list, without its samples."""

    seq: int
    """Number of the verdict's record in the audit trail; later records have higher numbers."""
    id: str
    """Id of the verdict, see GET /v1/verdicts/{id}."""
    created: datetime
    """Time of the verdict, in UTC."""
    caller: str
    """Name of the API key that requested the verdict; empty if the server has no keys."""
    route: str
    """Where the request came from, such as `rewards`, `batch`, `improve`, `probe`, `cli` or `openrlhf`."""
    profile: str
    """Name of the profile that judged."""
    status: Literal["ok", "partial"]
    """`partial` if a sample has an `error` or a `soft_error`, else `ok`."""
    query: str
    """Start of the last message before the responses, at most 300 characters."""
    responses: int
    """Number of responses."""
    rewards: list[float]
    """Mean score of each response, on the profile's scale."""
    best: int | None
    """Index (from 0) of the response with the highest reward; null if several have it."""
    agreement: float | None
    """Share of the counted samples (0 to 1) that put the best response on top; null for one response."""
    reasons: list[Reason]
    """Why a person should review the verdict; empty if nothing stands out."""
    worth: float
    """Priority in the review queue: the sum of the reasons' weights; 0: not queued."""
    reviews: int
    """Number of reviews of the verdict."""

    @classmethod
    def of(cls, listed: ListedVerdict) -> VerdictItem:
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


class VerdictsOut(Described):
    """One page of verdicts."""

    verdicts: list[VerdictItem]
    """Verdicts, newest first."""
    next: int | None
    """The parameter `before` of the next page; null on the last page."""


class QueueOut(Described):
    """Verdicts to review."""

    items: list[VerdictItem]
    """Verdicts without a review, the highest `worth` first."""


class MessageOut(Described):
    """A turn of the conversation, as text."""

    role: Role
    """Author of the turn."""
    content: str
    """Text of the turn, with tool calls and their results as blocks."""


class JudgedRequest(Described):
    """The request behind a verdict, as it was judged."""

    messages: list[MessageOut]
    """The conversation before the responses, oldest turn first."""
    responses: list[str]
    """The responses as text, in the order of the request."""
    reference: str | None
    """Reference answer; null: none."""
    principles: PrinciplesIn
    """Source of the principles."""
    k: int | None
    """Samples to vote over; null: the profile's default."""
    k_meta: int | None
    """Samples that the meta RM leaves in the vote, 0 for all; null: no meta RM ran."""
    seed: int
    """Seed of orders and sampling."""
    temperature: float | None
    """Sampling temperature; null: the profile's default, or greedy if k is 1."""
    max_tokens: int | None
    """Most tokens of one critique; null: the profile's default."""
    thinking_tokens: int | None
    """Most tokens of thinking before a critique, 0 for none; null: the profile's default."""
    score: ScoreKind | None
    """Scores that are voted: `hard` (or null) as written, `soft` by token probabilities."""
    stop: StopRule
    """Rule of early stopping."""

    @classmethod
    def of(cls, task: Task) -> JudgedRequest:
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


class VerdictOut(Described):
    """A verdict from the audit trail, with its request and reviews."""

    seq: int
    """Number of the verdict's record in the audit trail."""
    hash: str
    """`sha256:` and the hash of the record, which chains it to the record before it."""
    caller: str
    """Name of the API key that requested the verdict; empty if the server has no keys."""
    route: str
    """Where the request came from, such as `rewards`, `batch`, `improve`, `probe`, `cli` or `openrlhf`."""
    engine: str
    """Engine that generated the samples, such as `openvino`, `transformers` or `openai`."""
    version: str
    """Version of the service that judged."""
    verdict: RewardReply
    """The verdict with all its samples."""
    request: JudgedRequest
    """The request."""
    standard: list[PrincipleOut]
    """Principles of the request, those of its named set included, as they were at that time."""
    reasons: list[Reason]
    """Why a person should review the verdict; empty if nothing stands out."""
    reviews: list[ReviewOut]
    """Reviews of the verdict, oldest first."""

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
            request=JudgedRequest.of(record.task),
            standard=[PrincipleOut.of(item) for item in record.standard],
            reasons=list(record.reasons),
            reviews=[ReviewOut.of(review) for review in reviews],
        )
