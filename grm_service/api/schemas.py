"""Request models: validated here, then turned into tasks."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field, model_validator

from grm_service.api.judge_options import JudgeOptionFields
from grm_service.api.shaping import GROUP_TRANSFORMS, LengthPenalty, Shaping, Transform
from grm_service.api.texts import AnyResponse, FewTurns, Reference, Strict, Text, TurnIn
from grm_service.callers import Priority
from grm_service.improving.lineage import ImproveTask, Standard
from grm_service.types import JudgeOptions, Message, Principle, PrincipleMode, PrincipleSpec, Task

Finite = Annotated[float, Field(allow_inf_nan=False)]
Detail = Literal["samples", "rewards"]


class PrincipleIn(Strict):
    """A criterion to judge by."""

    text: Annotated[Text, Field(min_length=1, max_length=4000)]
    weight: Annotated[Finite, Field(gt=0, le=1, description="Relative weight.")] | None = None


class PrinciplesIn(Strict):
    """The source of the principles.

    `self`: written by the judge with each critique. `query`: written once from the query alone and reused.
    `fixed`: exactly `set` and `items`. With `self` and `query`, `set` and `items` are a constitution above
    the principles that the judge writes.
    """

    mode: PrincipleMode = "self"
    set: Annotated[Text, Field(description="A named set, see GET /v1/principle-sets.")] | None = None
    items: Annotated[list[PrincipleIn], Field(max_length=64)] = Field(default=[])

    def to_spec(self) -> PrincipleSpec:
        return PrincipleSpec(self.mode, self.set, tuple(Principle(p.text, p.weight) for p in self.items))


class Query(Strict):
    """A conversation, as `query` or `messages`, and the profile that judges."""

    query: Annotated[Text, Field(description="Shorthand for one user message.")] | None = None
    messages: Annotated[list[TurnIn], Field(min_length=1, max_length=1000)] | None = None
    profile: Annotated[Text, Field(description="Default: the server's, see GET /v1/profiles.")] | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Query:
        if (self.query is None) == (self.messages is None):
            raise ValueError("give either 'query' or 'messages'")
        return self

    def to_messages(self) -> tuple[Message, ...]:
        if self.messages is None:
            return (Message("user", self.query or ""),)
        return tuple(turn.to_message() for turn in self.messages)


class LengthPenaltyIn(Strict):
    """Subtract `per_1000` for each 1,000 characters beyond `free`, at most `most`."""

    free: Annotated[int, Field(ge=0)] = 0
    per_1000: Annotated[Finite, Field(gt=0, le=100)]
    most: Annotated[Finite, Field(gt=0, le=100)] = 10.0


class ShapingIn(Strict):
    """Shaped rewards for a trainer, returned beside the raw ones.

    `minmax` maps the scale to 0..1; `zscore`, `rank` (1 best, 0 last) and `centered` are over the group.
    """

    transform: Transform = "none"
    length_penalty: LengthPenaltyIn | None = None

    def to_shaping(self) -> Shaping:
        penalty = self.length_penalty
        if penalty is None:
            return Shaping(self.transform)
        return Shaping(self.transform, LengthPenalty(penalty.free, penalty.per_1000, penalty.most))


class RewardRequest(Query, JudgeOptionFields):
    """One query with its responses, judged together."""

    responses: Annotated[list[AnyResponse], Field(min_length=1, max_length=64), FewTurns]
    principles: PrinciplesIn = PrinciplesIn()
    reference: Reference = None
    priority: Annotated[Priority, Field(description="'train' is served before 'eval'.")] = "train"
    stream: Annotated[
        bool, Field(description="Server-sent events; `Accept: text/event-stream` does the same.")
    ] = False
    shaping: Annotated[ShapingIn, Field(description="Shaped rewards, beside the raw ones.")] | None = None
    detail: Annotated[Detail, Field(description="'rewards' omits the samples from the reply.")] = "samples"

    @model_validator(mode="after")
    def _comparable(self) -> RewardRequest:
        if (
            self.shaping is not None
            and self.shaping.transform in GROUP_TRANSFORMS
            and len(self.responses) == 1
        ):
            raise ValueError(f"transform {self.shaping.transform!r} compares responses: give more than one")
        return self

    def to_task(self) -> Task:
        return Task(
            messages=self.to_messages(),
            responses=tuple(r.to_text() for r in self.responses),
            profile=self.profile,
            reference=self.reference,
            options=self.to_options(self.principles.to_spec()),
        )

    def response_ids(self) -> list[str] | None:
        """Return the caller's ids if every response has one."""
        ids = [r.id for r in self.responses if r.id is not None]
        return ids if len(ids) == len(self.responses) else None


class PrinciplesRequest(Query):
    """A request for principles from the query alone."""

    constitution: Annotated[Text, Field(description="A named set to follow.")] | None = None


class BudgetIn(Strict):
    """Limits on what policy, judge and second opinion generate together, and on the time."""

    tokens: Annotated[int, Field(ge=1, le=2**20, description="Generated tokens, without prompts.")] = 32_768
    seconds: Annotated[Finite, Field(gt=0, le=3600)] = 300.0


class SecondOpinionIn(Strict):
    """A second judge of the first and the last draft: another profile or other principles."""

    profile: Text | None = None
    principles: PrinciplesIn = PrinciplesIn(mode="fixed", set="helpfulness")

    def to_standard(self) -> Standard:
        return Standard(self.profile, self.principles.to_spec())


class ImproveRequest(Query, JudgeOptionFields):
    """A conversation whose next turn the server's policy writes and improves."""

    draft: Annotated[Text, Field(description="An answer to start from.")] | None = None
    n: Annotated[int, Field(ge=0, le=16, description="Drafts to sample first.")] = 4
    revisions: Annotated[int, Field(ge=1, le=8, description="Revisions of the best draft per round.")] = 2
    rounds: Annotated[int, Field(ge=0, le=8, description="Most rounds of revisions; 0: best of n.")] = 2
    principles: PrinciplesIn = PrinciplesIn()
    second_opinion: SecondOpinionIn = SecondOpinionIn()
    temperature: Annotated[Finite, Field(ge=0, le=2, description="Sampling temperature of the policy.")] = 0.8
    max_tokens: Annotated[int, Field(ge=1, le=32768, description="Most tokens of a draft.")] = 512
    critique_tokens: (
        Annotated[int, Field(ge=1, le=32768, description="Most tokens of one critique.")] | None
    ) = None
    critique_temperature: (
        Annotated[Finite, Field(ge=0, le=2, description="Sampling temperature of the judge.")] | None
    ) = None
    budget: BudgetIn = BudgetIn()
    stream: Annotated[
        bool, Field(description="Server-sent events; `Accept: text/event-stream` does the same.")
    ] = False
    detail: Annotated[Detail, Field(description="'rewards' omits the samples from the reply.")] = "samples"

    @model_validator(mode="after")
    def _answerable(self) -> ImproveRequest:
        if self.n == 0 and self.draft is None:
            raise ValueError("give a 'draft', or an 'n' above 0")
        if self.to_messages()[-1].role not in ("user", "tool", "function"):
            raise ValueError("the last turn must be the user's or a tool's result")
        return self

    def to_options(self, principles: PrincipleSpec) -> JudgeOptions:
        """Return the judge's options; `temperature` and `max_tokens` are the policy's here."""
        options = super().to_options(principles)
        return replace(options, temperature=self.critique_temperature, max_tokens=self.critique_tokens)

    def to_improve_task(self) -> ImproveTask:
        return ImproveTask(
            messages=self.to_messages(),
            draft=self.draft,
            n=self.n,
            revisions=self.revisions,
            rounds=self.rounds,
            profile=self.profile,
            options=self.to_options(self.principles.to_spec()),
            second=self.second_opinion.to_standard(),
            temperature=self.temperature,
            max_tokens=self.max_tokens,
            tokens=self.budget.tokens,
            seconds=self.budget.seconds,
        )
