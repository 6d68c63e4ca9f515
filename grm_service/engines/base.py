"""The protocols of an engine, which generates text, and of a meta RM, which grades critiques."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal, Protocol

from grm_service.types import Completion, Message, Params, Prompt, Thinking


@dataclass(frozen=True, slots=True)
class Abilities:
    """The optional features of an engine. They are fixed once it has started."""

    continues: bool = True
    """Continues a partial assistant message (`Prompt.continuation`)."""
    constrains: bool = True
    """Enforces `Params.regex`; without it the regex is ignored and the caller must check the text."""
    alternatives: bool = True
    """Returns the top tokens with their log-probabilities if `Params.alternatives` requests them."""

    continues_thinking: bool = True
    """Continues a partial answer that follows thinking (`Prompt.thinking`)."""

    def continues_after(self, thinking: Thinking | None) -> bool:
        """Return whether an answer that follows this thinking, if any, can be continued."""
        return self.continues and (thinking is None or self.continues_thinking)

    def lacking(self) -> list[str]:
        """Return the names of the missing features, for /readyz and the log."""
        return [each.name for each in fields(self) if not getattr(self, each.name)]


@dataclass(frozen=True, slots=True)
class ThinkingBehavior:
    """How the model thinks before it answers, as far as the engine knows. It is fixed once it has started."""

    thinks: Literal["inline", "field"] | None = None
    """Where completions contain thinking: in the text, in a field of their own, or nowhere (None)."""
    opened: bool = False
    """The prompt ends in the start tag, so a completion begins inside the thinking."""
    can_disable: bool = False
    """`Params.thinking_tokens` 0 turns the thinking off."""


THINKING_TOKENS = 4096
"""The tokens for thinking, for a model that thinks, if neither profile nor request sets their number."""


def without_field(name: str) -> str:
    """Return what it means for verdicts that a server's requests leave a sampling parameter out."""
    return _WITHOUT.get(name, "the server's own value applies")


_WITHOUT = {
    "seed": "verdicts cannot be reproduced",
    "temperature": "samples have the server's own temperature, and a single sample (k 1) is not greedy",
}


def default_room(free: int) -> int:
    """Return the most tokens of thinking, by default, of those that a context has left for it."""
    # An eighth is for closing a sample whose thinking took all its room.
    return free * 7 // 8


class Backend(Protocol):
    """What engines and meta RMs have in common: a model that is loaded, or served elsewhere."""

    @property
    def name(self) -> str:
        """The backend, as in `--engine`."""

    @property
    def model(self) -> str:
        """Hub id, path or served name of the model; final once `start` has returned."""

    @property
    def control_tokens(self) -> tuple[str, ...]:
        """Texts that the tokenizer parses as control tokens; empty if the backend cannot know them."""

    @property
    def ready(self) -> bool:
        """True if a request would be served now; False while a crashed backend restarts."""

    async def start(self) -> None:
        """Load the model or connect to the server, and compute one result. Raises ModelNotLoaded."""

    async def close(self) -> None:
        """Free all resources. Pending requests fail with EngineError."""


class Engine(Backend, Protocol):
    """Generates text: one prompt in, one completion out, any number of calls concurrently.

    Batching, prefix sharing, retries and cancellation are behind `complete`. Cancelling the awaiting task
    drops the request.
    """

    @property
    def abilities(self) -> Abilities:
        """Optional features; final once `start` has returned."""

    @property
    def thinking(self) -> ThinkingBehavior:
        """How the model thinks; final once `start` has returned."""

    @property
    def dropped_fields(self) -> tuple[str, ...]:
        """The sampling parameters that a server refuses, so that its requests leave them out."""

    async def complete(self, prompt: Prompt, params: Params) -> Completion:
        """Generate one completion. Raises PromptTooLong, EngineError."""


class MetaRM(Backend, Protocol):
    """Grades the critiques of a judge, so that the best of them can vote (SPCT, meta reward model).

    Batching is behind `grade`.
    """

    async def grade(self, judgement: tuple[Message, ...]) -> float:
        """Return the probability (0..1) that a judgement is correct.

        `judgement` is the conversation built by `judging.prompt.render_judgement`. Raises PromptTooLong,
        EngineError.
        """
