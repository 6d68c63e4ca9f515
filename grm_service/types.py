"""The values passed between the packages: frozen dataclasses without I/O.

A *response* is judged, a *completion* comes from an engine, a *sample* is one of the k, a *score* is part of
a critique, a *reward* is the result of the vote (glossary in docs/structure.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt
from typing_extensions import Doc

Role = Literal["system", "user", "assistant", "tool", "developer", "function"]
SYSTEM_ROLES: tuple[Role, ...] = ("system", "developer")
TOOL_ROLES: tuple[Role, ...] = ("tool", "function")
FinishReason = Literal["stop", "length"]
PrincipleMode = Literal["self", "query", "fixed"]
ScoreKind = Literal["hard", "soft"]
StopRule = Literal["none", "exact", "confident"]
Scores = tuple[float | None, ...]
"""One per response, in the caller's order; None for a response that is not in the sample's prompt."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Principle:
    """A criterion to judge by; `weight` is relative (0..1), None if not stated."""

    text: str
    weight: float | None = None


@dataclass(frozen=True, slots=True)
class Thinking:
    """What a model wrote before its answer, without its tags. `cut`: the thinking did not end."""

    text: str
    cut: bool = False
    tags: tuple[str, str] = ("<think>", "</think>")


@dataclass(frozen=True, slots=True)
class Prompt:
    """Chat messages to complete, and the start of the assistant's answer.

    `continuation` is text that the assistant has already written; the completion continues it without
    repeating it. Engines without the ability `continues` reject a continuation. `thinking` is what the
    assistant thought before it; it needs the ability `continues_thinking`. Prompts about one query have the
    same `group`, so that a pool of servers can send them to the same one.
    """

    messages: tuple[Message, ...]
    continuation: str = ""
    thinking: Thinking | None = None
    group: str = ""

    @property
    def chars(self) -> int:
        """The characters of all its texts."""
        thought = 0 if self.thinking is None else len(self.thinking.text)
        return sum(len(message.content) for message in self.messages) + len(self.continuation) + thought


@dataclass(frozen=True, slots=True)
class Params:
    """Sampling parameters of one completion.

    `max_tokens` is for the answer; `thinking_tokens` come on top of it, where no continuation is given: None
    leaves the thinking to the engine, 0 turns it off where the engine can. `request_fields` are the profile's
    fields for a server's request; embedded engines use its `chat_template_kwargs`. `temperature` 0 is greedy;
    `regex` must match the whole completion. `alternatives` is the number of top logprobs to return per
    position (0..20), before temperature, top-p and regex apply.
    """

    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    regex: str | None = None
    alternatives: int = 0
    thinking_tokens: int | None = None
    request_fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens used; `cached_tokens` is the part of `prompt_tokens` that needed no prefill.

    None is a number that the server did not state; a sum with it is unknown too.
    """

    prompt_tokens: int | None = 0
    cached_tokens: int | None = 0
    completion_tokens: int | None = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            total((self.prompt_tokens, other.prompt_tokens)),
            total((self.cached_tokens, other.cached_tokens)),
            total((self.completion_tokens, other.completion_tokens)),
        )


def total(numbers: Iterable[int | None]) -> int | None:
    """Return the sum, None if a number is unknown."""
    known = list(numbers)
    return None if None in known else sum(number for number in known if number is not None)


@dataclass(frozen=True, slots=True)
class Alternative:
    """A token that was possible at a position, with its logprob (natural)."""

    text: str
    logprob: float


@dataclass(frozen=True, slots=True)
class Completion:
    """The output of an engine, without the prompt and special tokens.

    `text` is the answer only; what came before it is `thinking` (judging/completion.py separates the two).
    `alternatives` has one row per generated token, likeliest first, if the params request them.
    """

    text: str
    finish_reason: FinishReason
    usage: Usage
    alternatives: tuple[tuple[Alternative, ...], ...] = ()
    thinking: Thinking | None = None

    @property
    def is_cut_in_thinking(self) -> bool:
        """True if the model thought and did not come to the end of it."""
        return self.thinking is not None and self.thinking.cut


@dataclass(frozen=True, slots=True)
class Critique:
    """The content of a readable sample."""

    principles: tuple[Principle, ...]
    analysis: str
    scores: Scores


@dataclass(frozen=True, slots=True)
class Sample:
    """One of the k samples: its order, its thinking and text, its critique or the reason why it has none.

    `order[p]` is the caller's index of the response at position p, so "Response 1" in `text` is the caller's
    response `order[0]`; in a large group it covers only some responses. `error` is the reason why the sample
    could not be read, None exactly if `critique` is not; `error_detail` is what the engine that failed has to
    say, which may quote the task. `closed`: the profile's closing finished it, because
    of `closed_reason`. `expected` are the soft scores, if requested; `soft_error` is the reason why a
    readable sample has none, so that its written scores are voted. `grade` (0..1) is the meta RM's, of a
    readable sample. `counted`: it is in the vote.
    """

    index: int
    seed: int
    order: tuple[int, ...]
    text: str = ""
    thinking: Thinking | None = None
    critique: Critique | None = None
    expected: Scores | None = None
    error: str | None = None
    error_detail: str | None = None
    closed: bool = False
    closed_reason: str | None = None
    soft_error: str | None = None
    finish_reason: FinishReason | None = None
    usage: Usage = Usage()
    counted: bool = False
    grade: float | None = None

    @property
    def scores(self) -> Scores | None:
        """The scores that are voted: the soft ones if there are any, else those in the text."""
        if self.expected is not None:
            return self.expected
        return None if self.critique is None else self.critique.scores


@dataclass(frozen=True, slots=True)
class PrincipleSpec:
    """The source of a task's principles.

    `items` are the caller's own, `set_name` names a set of principles/. With mode "fixed" these are the
    criteria; with "self" and "query" they are a constitution above the principles that the judge writes.
    """

    mode: PrincipleMode = "self"
    set_name: str | None = None
    items: tuple[Principle, ...] = ()


_K_META = (
    "Vote over the k_meta samples that the meta RM grades highest. Default: half of k where a meta RM runs "
    "(see /readyz); 0: all samples, ungraded."
)
_K = "Samples to vote over; 1 is greedy. Default: the profile's."
_TEMPERATURE = "Sampling temperature of the judge; 0 is greedy. Default: the profile's, or 0 if k is 1."
_MAX_TOKENS = "Most tokens of one critique. Default: the profile's."
_SCORE = "Scores to vote: 'hard' as written, 'soft' by token probabilities. Default: the profile's if it can."
_STOP = "Stop when the rest cannot change the winner (exact), or would in at most 1 of 20 cases (confident)."
_THINKING = "Most tokens of thinking, on top of max_tokens; 0: do not think. Default: the profile's."
_TIMEOUT = "Seconds, waiting included; then the samples at hand are voted. Default: none, or the route's."


@dataclass(frozen=True, slots=True)
class JudgeOptions:
    """Options of a judgement. None means the profile's default.

    The HTTP fields, the URL options of the dialects and the CLI flags are built from this class, with its
    bounds and descriptions: a new option is a new line here.
    """

    k: Annotated[int | None, Ge(1), Le(64), Doc(_K)] = None
    k_meta: Annotated[int | None, Ge(0), Le(64), Doc(_K_META)] = None
    seed: Annotated[int, Ge(0), Lt(2**63), Doc("Seed of orders and sampling.")] = 0
    temperature: Annotated[float | None, Ge(0), Le(2), Doc(_TEMPERATURE)] = None
    max_tokens: Annotated[int | None, Ge(1), Le(32768), Doc(_MAX_TOKENS)] = None
    thinking_tokens: Annotated[int | None, Ge(0), Le(131072), Doc(_THINKING)] = None
    score: Annotated[ScoreKind | None, Doc(_SCORE)] = None
    stop: Annotated[StopRule, Doc(_STOP)] = "none"
    timeout_s: Annotated[float | None, Gt(0), Le(3600), Doc(_TIMEOUT)] = None
    principles: PrincipleSpec = PrincipleSpec()


@dataclass(frozen=True, slots=True)
class Task:
    """One query with its responses, to be judged together.

    `messages` is the conversation up to the responses (at least one turn), `responses` 1..64 texts. `profile`
    None means the server's default.
    """

    messages: tuple[Message, ...]
    responses: tuple[str, ...]
    profile: str | None = None
    reference: str | None = None
    options: JudgeOptions = JudgeOptions()

    def with_options(self, **changed: Any) -> Task:
        """Return the task with some options changed, by the names of JudgeOptions."""
        return replace(self, options=replace(self.options, **changed))


@dataclass(frozen=True, slots=True)
class Vote:
    """The vote of the counted samples; every tuple is in the caller's response order.

    `rewards` are mean scores, `std` their population standard deviation, `ranking` 1 for the best (equal
    rewards share a rank), `ties` the groups of equal rewards, `best` the top response, None if tied.
    `agreement` is the share of samples that put the best on top (a sample with m tied on top counts 1/m),
    None for a single response.
    """

    rewards: tuple[float, ...]
    std: tuple[float, ...]
    ranking: tuple[int, ...]
    ties: tuple[tuple[int, ...], ...]
    best: int | None
    agreement: float | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of one task: the vote, every sample behind it, and its cost.

    `status` is "partial" if a planned sample could not be counted (unreadable, failed, or cut off by the
    deadline). `principles` are those of the prompt (fixed, or written once per query). `k` is as requested; a
    large group takes several samples for each. `stopped` is the rule that ended sampling early. If `meta_rm`
    selected among the samples, `unfiltered` is the vote of all readable ones. `judge_s`: seconds.
    """

    status: Literal["ok", "partial"]
    profile: str
    fingerprint: str
    model: str
    vote: Vote
    k: int
    stopped: StopRule | None
    samples: tuple[Sample, ...]
    principles: tuple[Principle, ...]
    usage: Usage
    judge_s: float
    unfiltered: Vote | None = None
    meta_rm: str | None = None
