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
    """The criterion: a sentence that can be checked against a response."""
    weight: Annotated[Finite, Field(gt=0, le=1)] | None = None
    """Relative weight, above 0 and at most 1; null: the prompt states none."""


class PrinciplesIn(Strict):
    """The source of the principles.

    With the modes `self` and `query`, `set` and `items` are a constitution above the principles that the
    judge writes. With `fixed` they are the only principles, and at least one is required.
    """

    mode: PrincipleMode = "self"
    """`self`: the judge writes them with each critique. `query`: it writes them once, from the query alone,
    and reuses them. `fixed`: exactly `set` and `items`.
    """
    set: Text | None = None
    """Name of a principle set, see GET /v1/principle-sets; null: none."""
    items: Annotated[list[PrincipleIn], Field(max_length=64)] = Field(default=[])
    """Your own principles, at most 64; they follow those of `set`."""

    def to_spec(self) -> PrincipleSpec:
        return PrincipleSpec(self.mode, self.set, tuple(Principle(p.text, p.weight) for p in self.items))


class Query(Strict):
    """A conversation, as `query` or `messages`, and the profile that judges."""

    query: Text | None = None
    """Shorthand for a conversation of one user message."""
    messages: Annotated[list[TurnIn], Field(min_length=1, max_length=1000)] | None = None
    """The conversation before the responses, oldest turn first; 1 to 1,000 turns."""
    profile: Text | None = None
    """Name of the profile to judge with, see GET /v1/profiles; null: the server's default."""

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
    """A penalty in proportion to the characters of a response, subtracted after the transform."""

    free: Annotated[int, Field(ge=0)] = 0
    """Characters without a penalty."""
    per_1000: Annotated[Finite, Field(gt=0, le=100)]
    """Penalty for each 1,000 characters beyond `free`, in units of the transformed reward."""
    most: Annotated[Finite, Field(gt=0, le=100)] = 10.0
    """Upper bound of the penalty, in the same units."""


class ShapingIn(Strict):
    """Shaped rewards for a trainer, returned beside the raw ones."""

    transform: Transform = "none"
    """`minmax` maps the profile's scale to 0..1. `zscore`, `rank` (1 for the best, 0 for the last) and
    `centered` (the mean is 0) are relative to the group, and need at least two responses.
    """
    length_penalty: LengthPenaltyIn | None = None
    """Penalty for long responses; null: none."""

    def to_shaping(self) -> Shaping:
        penalty = self.length_penalty
        if penalty is None:
            return Shaping(self.transform)
        return Shaping(self.transform, LengthPenalty(penalty.free, penalty.per_1000, penalty.most))


class RewardRequest(Query, JudgeOptionFields):
    """One query with its responses, judged together."""

    responses: Annotated[list[AnyResponse], Field(min_length=1, max_length=64), FewTurns]
    """1 to 64 responses to the conversation: texts, turns or lists of turns (trajectories)."""
    principles: PrinciplesIn = PrinciplesIn()
    """Principles to judge by; by default the judge writes its own with each critique."""
    reference: Reference = None
    """A reference answer to judge by; numbers and booleans count as their JSON text. Null: none."""
    priority: Priority = "train"
    """Priority in the queue: `train` is served before `eval`."""
    stream: bool = False
    """Reply with server-sent events; `Accept: text/event-stream` does the same."""
    shaping: ShapingIn | None = None
    """Shaping of the rewards for a trainer; null: the reply has the raw rewards only."""
    detail: Detail = "samples"
    """`rewards` omits the samples from the reply."""

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

    constitution: Text | None = None
    """Name of a principle set that the principles follow, see GET /v1/principle-sets; null: none."""


class BudgetIn(Strict):
    """Limits on what policy, judge and second opinion generate together, and on the time."""

    tokens: Annotated[int, Field(ge=1, le=2**20)] = 32_768
    """Most tokens to generate; prompts and thinking do not count."""
    seconds: Annotated[Finite, Field(gt=0, le=3600)] = 300.0
    """Time limit in seconds, waiting included. If it passes before the first verdict, the request fails
    (504); later, the reply has the results so far.
    """


class SecondOpinionIn(Strict):
    """A second judge of the first and the last draft: another profile or other principles."""

    profile: Text | None = None
    """Name of the second judge's profile; null: the server's default."""
    principles: PrinciplesIn = PrinciplesIn(mode="fixed", set="helpfulness")
    """Principles of the second judge; by default the fixed set `helpfulness`."""

    def to_standard(self) -> Standard:
        return Standard(self.profile, self.principles.to_spec())


class ImproveRequest(Query, JudgeOptionFields):
    """A conversation whose next turn the server's policy writes and improves."""

    draft: Text | None = None
    """Your own answer to start from: the original, with the id 0; null: the first sampled draft is."""
    n: Annotated[int, Field(ge=0, le=16)] = 4
    """Drafts to sample first; 0 requires a `draft`."""
    revisions: Annotated[int, Field(ge=1, le=8)] = 2
    """Revisions of the best draft in each round."""
    rounds: Annotated[int, Field(ge=0, le=8)] = 2
    """Most rounds of revisions; 0: best of the first drafts."""
    principles: PrinciplesIn = PrinciplesIn()
    """Principles of the judge; by default it writes its own with each critique."""
    second_opinion: SecondOpinionIn = SecondOpinionIn()
    """The second judge; it must differ from the first in its profile or its principles."""
    temperature: Annotated[Finite, Field(ge=0, le=2)] = 0.8
    """Sampling temperature of the policy; 0 is greedy."""
    max_tokens: Annotated[int, Field(ge=1, le=32768)] = 512
    """Most tokens of a draft."""
    critique_tokens: Annotated[int, Field(ge=1, le=32768)] | None = None
    """Most tokens of one critique; null: the profile's default."""
    critique_temperature: Annotated[Finite, Field(ge=0, le=2)] | None = None
    """Sampling temperature of the judge; null: the profile's default, or greedy if `k` is 1."""
    budget: BudgetIn = BudgetIn()
    """Limits of the whole improvement."""
    stream: bool = False
    """Reply with server-sent events; `Accept: text/event-stream` does the same."""
    detail: Detail = "samples"
    """`rewards` omits the samples of each verdict from the reply."""

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
