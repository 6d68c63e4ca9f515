"""The wire: what comes in is checked here and becomes a Task; what goes out is made from a Record."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from grm_service.types import Message, Principle, PrincipleMode, PrincipleSpec, Record, Role, Sample, Task, Usage


def _encodable(text: str) -> str:
    if "\x00" in text:
        raise ValueError("contains a NUL character (\\u0000): remove it")
    try:
        text.encode()
    except UnicodeEncodeError as wrong:
        raise ValueError(f"contains a lone surrogate at character {wrong.start}: remove it") from None
    return text


Text = Annotated[str, AfterValidator(_encodable)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Detail = Literal["samples", "rewards"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class MessageIn(_Strict):
    """One turn of the conversation."""

    role: Role
    content: Text


class ResponseIn(_Strict):
    """A response, with the caller's own id if there is one. May be empty: then that is what is judged."""

    content: Text
    id: Annotated[Text, Field(max_length=256)] | None = None


def _plain(response: object) -> object:
    if not isinstance(response, (str, dict, ResponseIn)):
        raise ValueError("must be a string, or an object with content and id")
    return {"content": response} if isinstance(response, str) else response


AnyResponse = Annotated[ResponseIn, BeforeValidator(_plain, json_schema_input_type=str | ResponseIn)]


class PrincipleIn(_Strict):
    """One standard to judge by."""

    text: Annotated[Text, Field(min_length=1, max_length=4000)]
    weight: Annotated[Finite, Field(gt=0, le=1, description="Relative weight.")] | None = None


class PrinciplesIn(_Strict):
    """Where the principles come from.

    `self`: written with the critique. `query`: written from the query alone, once, and reused. `fixed`:
    exactly `set` and `items`. With `self` and `query` these stand above what the model writes.
    """

    mode: PrincipleMode = "self"
    set: Annotated[Text, Field(description="A named set, see GET /v1/principle-sets.")] | None = None
    items: Annotated[list[PrincipleIn], Field(max_length=64)] = []

    def to_spec(self) -> PrincipleSpec:
        return PrincipleSpec(self.mode, self.set, tuple(Principle(p.text, p.weight) for p in self.items))


class _Query(_Strict):
    query: Annotated[Text, Field(description="Short for one user message.")] | None = None
    messages: Annotated[list[MessageIn], Field(min_length=1, max_length=1000)] | None = None
    profile: Annotated[Text, Field(description="Default: the server's, see GET /v1/profiles.")] | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> _Query:
        if (self.query is None) == (self.messages is None):
            raise ValueError("give either 'query' or 'messages'")
        return self

    def to_messages(self) -> tuple[Message, ...]:
        if self.messages is None:
            return (Message("user", self.query or ""),)
        return tuple(Message(m.role, m.content) for m in self.messages)


class RewardRequest(_Query):
    """One query and its responses, to be judged together."""

    responses: Annotated[list[AnyResponse], Field(min_length=1, max_length=64)]
    principles: PrinciplesIn = PrinciplesIn()
    reference: Annotated[Text, Field(description="A reference answer to judge by.")] | None = None
    k: Annotated[int, Field(ge=1, le=64, description="Samples to vote over; 1 is greedy.")] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    temperature: Annotated[Finite, Field(ge=0, le=2)] | None = None
    max_tokens: Annotated[int, Field(ge=1, le=32768, description="Tokens a critique may take.")] | None = None
    timeout_s: (
        Annotated[Finite, Field(gt=0, le=3600, description="Then the samples at hand are voted.")] | None
    ) = None
    score: Annotated[Literal["hard"], Field(description="The score as written; soft scores are to come.")] = "hard"
    stop: Annotated[Literal["none"], Field(description="All k samples are taken; stopping is to come.")] = "none"
    detail: Annotated[Detail, Field(description="'rewards' leaves the samples out of the reply.")] = "samples"

    def to_task(self) -> Task:
        return Task(
            messages=self.to_messages(),
            responses=tuple(r.content for r in self.responses),
            profile=self.profile,
            principles=self.principles.to_spec(),
            reference=self.reference,
            k=self.k,
            seed=self.seed,
            temperature=self.temperature,
            max_tokens=self.max_tokens,
            timeout_s=self.timeout_s,
        )

    def response_ids(self) -> list[str] | None:
        """The caller's ids where every response has one."""
        ids = [r.id for r in self.responses if r.id is not None]
        return ids if len(ids) == len(self.responses) else None


class PrinciplesRequest(_Query):
    """Asks for principles from the query alone."""

    constitution: Annotated[Text, Field(description="A named set that stands above them.")] | None = None


class PrincipleOut(BaseModel):
    """One principle as the model or the caller stated it."""

    text: str
    weight: float | None = None

    @classmethod
    def of(cls, principle: Principle) -> PrincipleOut:
        return cls(text=principle.text, weight=principle.weight)


class UsageOut(BaseModel):
    """Tokens behind the verdict; `cached_tokens` of the prompt needed no prefill (0 where unknown)."""

    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int

    @classmethod
    def of(cls, usage: Usage) -> UsageOut:
        return cls(
            prompt_tokens=usage.prompt_tokens,
            cached_tokens=usage.cached_tokens,
            completion_tokens=usage.completion_tokens,
        )


class SampleOut(BaseModel):
    """One of the k. `order[p]` is your index of what the model saw at position p; `scores` are in your order.

    `scores` is null and `error` says why when the sample could not be read. `closed`: the service finished
    an answer that ended without scores.
    """

    index: int
    seed: int
    order: list[int]
    principles: list[PrincipleOut]
    analysis: str | None
    scores: list[float] | None
    grade: float | None
    counted: bool
    closed: bool
    error: str | None
    finish_reason: str | None
    completion_tokens: int
    text: str

    @classmethod
    def of(cls, sample: Sample) -> SampleOut:
        critique = sample.critique
        return cls(
            index=sample.index,
            seed=sample.seed,
            order=list(sample.order),
            principles=[PrincipleOut.of(p) for p in critique.principles] if critique else [],
            analysis=critique.analysis if critique else None,
            scores=list(critique.scores) if critique else None,
            grade=None,
            counted=sample.counted,
            closed=sample.closed,
            error=sample.error,
            finish_reason=sample.finish_reason,
            completion_tokens=sample.usage.completion_tokens,
            text=sample.text,
        )


class TimingOut(BaseModel):
    """Seconds waited and judged."""

    queue_s: float
    judge_s: float


class RewardReply(BaseModel):
    """A verdict. Rewards, std and scores are in your response order; a reward is the mean score.

    `best` is null where the top is tied. `agreement` is the share of samples that put the best on top, null
    for a single response. `status` is 'partial' when not every sample could be counted.
    """

    id: str
    status: Literal["ok", "partial"]
    profile: str
    fingerprint: str
    model: str
    created: datetime
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
    stopped: str | None
    unfiltered: None
    principles: list[PrincipleOut]
    samples: list[SampleOut] | None
    usage: UsageOut
    timing: TimingOut

    @classmethod
    def of(cls, record: Record, request: RewardRequest) -> RewardReply:
        verdict, vote = record.verdict, record.verdict.vote
        return cls(
            id=record.id,
            status=verdict.status,
            profile=verdict.profile,
            fingerprint=verdict.fingerprint,
            model=verdict.model,
            created=record.created,
            rewards=list(vote.rewards),
            best=vote.best,
            ties=[list(group) for group in vote.ties],
            ranking=list(vote.ranking),
            agreement=vote.agreement,
            std=list(vote.std),
            response_ids=request.response_ids(),
            k=verdict.k,
            valid=sum(s.critique is not None for s in verdict.samples),
            counted=sum(s.counted for s in verdict.samples),
            stopped=None,
            unfiltered=None,
            principles=[PrincipleOut.of(p) for p in verdict.principles],
            samples=[SampleOut.of(s) for s in verdict.samples] if request.detail == "samples" else None,
            usage=UsageOut.of(verdict.usage),
            timing=TimingOut(queue_s=record.queue_s, judge_s=verdict.judge_s),
        )


class PrinciplesReply(BaseModel):
    """Principles for a query, to be read, edited and sent back as `principles.items` with mode 'fixed'."""

    profile: str
    principles: list[PrincipleOut]
    usage: UsageOut


class ProfileOut(BaseModel):
    """A profile and whether this server can judge with it."""

    name: str
    description: str
    model: str | None
    meta_rm: str | None
    served: bool
    default: bool
    fingerprint: str
    scale: list[int]
    k: int


class PrincipleSetOut(BaseModel):
    """A named set of principles."""

    name: str
    description: str
    principles: list[PrincipleOut]


class Problem(BaseModel):
    """RFC 9457 problem details. `code` is stable; `retryable` says whether the same request may succeed later."""

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
