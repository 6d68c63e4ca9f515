"""The values that travel between the layers: frozen, without behaviour that needs I/O.

The words are those of docs/structure.md: a *response* is judged, a *completion* is what an engine
writes, a *sample* is one of the k, a *score* stands in a critique, a *reward* is what voting returns.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt
from typing_extensions import Doc

Role = Literal["system", "user", "assistant"]
FinishReason = Literal["stop", "length"]
PrincipleMode = Literal["self", "query", "fixed"]
ScoreKind = Literal["hard", "soft"]
StopRule = Literal["none", "exact", "confident"]
Priority = Literal["train", "eval"]
Scores = tuple[float | None, ...]
"""One a response, in the caller's order; None for a response that the sample was not shown."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Principle:
    """One standard to judge by; `weight` is relative (0..1), None where none was stated."""

    text: str
    weight: float | None = None


@dataclass(frozen=True, slots=True)
class Prompt:
    """What an engine completes: chat messages, then the start of the assistant's own answer.

    `continuation` is text that the assistant has already written; the completion goes on from it and
    does not repeat it. Engines that lack the ability `continues` refuse a prompt with a continuation.
    Prompts about one query share a `group`, so that an engine of several servers can keep them together.
    """

    messages: tuple[Message, ...]
    continuation: str = ""
    group: str = ""


@dataclass(frozen=True, slots=True)
class Params:
    """How to sample one completion. `temperature` 0 is greedy; `regex` must match the whole completion.

    `alternatives` asks for the likeliest tokens at every position (1..20; 0 for none), as the model gives
    them: before temperature, top-p and regex.
    """

    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    regex: str | None = None
    alternatives: int = 0


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens spent; `cached_tokens` is the part of `prompt_tokens` that needed no prefill."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.cached_tokens + other.cached_tokens,
            self.completion_tokens + other.completion_tokens,
        )


@dataclass(frozen=True, slots=True)
class Alternative:
    """A token that could have stood at a position, with its natural log-probability."""

    text: str
    logprob: float


@dataclass(frozen=True, slots=True)
class Completion:
    """What an engine wrote, without the prompt and without special tokens.

    `alternatives` has one row a generated token, likeliest first, where the params asked for them.
    """

    text: str
    finish_reason: FinishReason
    usage: Usage
    alternatives: tuple[tuple[Alternative, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Critique:
    """What one readable sample says."""

    principles: tuple[Principle, ...]
    analysis: str
    scores: Scores


@dataclass(frozen=True, slots=True)
class Sample:
    """One of the k: what the model saw (`order`), what it wrote, and its critique or why there is none.

    `order[p]` is the caller's index of the response shown at position p, so "Response 1" in `text` is
    the caller's response `order[0]`. Of a large group it holds some responses only. `error` names why the
    sample could not be read and is None exactly when `critique` is not. `closed` tells that the profile's
    closing finished it. `expected` are the soft scores, where the task asked for them. `grade` (0..1) is the
    meta RM's, of a sample that could be read; `counted` tells whether it is in the vote.
    """

    index: int
    seed: int
    order: tuple[int, ...]
    text: str = ""
    critique: Critique | None = None
    expected: Scores | None = None
    error: str | None = None
    closed: bool = False
    finish_reason: FinishReason | None = None
    usage: Usage = Usage()
    counted: bool = False
    grade: float | None = None

    @property
    def scores(self) -> Scores | None:
        """What the sample puts into the vote: soft scores where there are any, else those it wrote."""
        if self.expected is not None:
            return self.expected
        return None if self.critique is None else self.critique.scores


@dataclass(frozen=True, slots=True)
class PrincipleSpec:
    """Which principles a task is judged by (DESIGN: self, query, fixed).

    `items` are the caller's own, `set_name` names a set of principles/. With mode "fixed" they are the
    standard; with "self" and "query" they stand above what the model writes, as its constitution.
    """

    mode: PrincipleMode = "self"
    set_name: str | None = None
    items: tuple[Principle, ...] = ()


_K_META = (
    "Vote over the k_meta samples that the meta RM grades highest. Default: half of k where a meta RM runs "
    "(see /readyz); 0: all samples, ungraded."
)
_SCORE = "Scores to vote: 'hard' as written, 'soft' the expected score from the model's token probabilities."
_STOP = (
    "Stop early: 'exact' once the remaining samples cannot change the winner; 'confident' once they would "
    "in at most 5 of 100 requests."
)
_TIMEOUT = "Seconds, waiting included; then the samples at hand are voted."


@dataclass(frozen=True, slots=True)
class JudgeOptions:
    """How to judge. None means the profile's default.

    The HTTP fields, the URL options of the dialects and the CLI flags are built from this class, with its
    bounds and descriptions: a new option is a new line here.
    """

    k: Annotated[int | None, Ge(1), Le(64), Doc("Samples to vote over; 1 is greedy.")] = None
    k_meta: Annotated[int | None, Ge(0), Le(64), Doc(_K_META)] = None
    seed: Annotated[int, Ge(0), Lt(2**63), Doc("Seed of orders and sampling.")] = 0
    temperature: Annotated[float | None, Ge(0), Le(2), Doc("Sampling temperature of the judge.")] = None
    max_tokens: Annotated[int | None, Ge(1), Le(32768), Doc("Most tokens of one critique.")] = None
    score: Annotated[ScoreKind, Doc(_SCORE)] = "hard"
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
    """What the counted samples say together; every tuple is in the caller's response order.

    `rewards` are mean scores, `std` their population standard deviation, `ranking` 1 for the best
    (equal rewards share a rank), `ties` the groups of equal rewards, `best` the one top response or None
    where the top is tied. `agreement` is the share of samples that put the best on top (a sample whose
    own top is shared by m counts 1/m), None for a single response.
    """

    rewards: tuple[float, ...]
    std: tuple[float, ...]
    ranking: tuple[int, ...]
    ties: tuple[tuple[int, ...], ...]
    best: int | None
    agreement: float | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """The whole result of one task: the vote, every sample behind it, and what it cost.

    `status` is "partial" when any planned sample could not be counted (unreadable, failed, or cut
    by the deadline). `principles` are those that stood in the prompt (fixed, or written once per query).
    `k` were planned; `stopped` names the rule by which fewer `samples` were enough. Where the model `meta_rm`
    chose among the samples, `unfiltered` is the vote of all that could be read.
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


@dataclass(frozen=True, slots=True)
class Caller:
    """The owner of an API key.

    `weight` is the share of the engine that this caller gets while several wait, `most` the largest number of
    its requests at once (None: no limit). An `auditor` sees everybody's verdicts, others only their own.
    """

    name: str = ""
    weight: float = 1.0
    most: int | None = None
    auditor: bool = False


NOBODY = Caller(auditor=True)
"""The caller of a server without API keys."""


@dataclass(frozen=True, slots=True)
class Requester:
    """The caller, its route and priority, and its Idempotency-Key if it sent one.

    A `synthetic` request tests the judge (a probe): its verdict is neither queued for review nor counted in
    the distributions of the metrics.
    """

    caller: Caller = NOBODY
    route: str = "rewards"
    priority: Priority = "train"
    key: str | None = None
    synthetic: bool = False
