"""The one verb that every engine has, and that of a meta RM."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Protocol

from grm_service.types import Completion, Message, Params, Prompt


@dataclass(frozen=True, slots=True)
class Abilities:
    """What an engine can do beyond writing text: known from its start on, never found out per request."""

    continues: bool = True
    """A prompt may carry a continuation."""
    constrains: bool = True
    """A regex is kept; without it the params' regex is ignored and the caller reads what comes."""
    alternatives: bool = True
    """The likeliest tokens are told where the params ask for them."""

    def lacking(self) -> list[str]:
        """Names of what is missing, for /readyz and the log."""
        return [each.name for each in fields(self) if not getattr(self, each.name)]


class Engine(Protocol):
    """Generates text. One prompt, one completion, awaited as often at once as the caller likes.

    Batching, prefix sharing, retries and cancelling hide behind `complete`; cancelling the awaiting task
    drops the request.
    """

    name: str
    """Technology, as `--engine` names it."""
    model: str
    """Hub id, path or served name of the model."""
    abilities: Abilities
    """What it can do; final once `start` has returned."""
    control_tokens: tuple[str, ...]
    """Texts that the model's tokenizer reads as control, as far as the engine can know them."""

    @property
    def ready(self) -> bool:
        """Whether it would serve a request now: a started engine may have to come back from a crash."""

    async def start(self) -> None:
        """Load the model or reach the server, and produce a first token. Raises ModelNotLoaded."""

    async def complete(self, prompt: Prompt, params: Params) -> Completion:
        """One completion. Raises PromptTooLong, EngineError."""

    async def close(self) -> None:
        """Free what `start` took. Requests under way fail with EngineError."""


class MetaRM(Protocol):
    """Grades judgements: which of the judge's samples are worth a vote. Batching hides behind `grade`."""

    name: str
    """Technology."""
    model: str
    """Hub id, path or served name of the model; final once `start` has returned."""
    control_tokens: tuple[str, ...]
    """As those of an Engine."""

    @property
    def ready(self) -> bool:
        """Whether it would grade now."""

    async def start(self) -> None:
        """Load the model or reach the server, and give a first grade. Raises ModelNotLoaded."""

    async def grade(self, judgement: tuple[Message, ...]) -> float:
        """How likely a judgement (core/prompt.py: `judgement`) is right, 0..1.

        Raises PromptTooLong, EngineError.
        """

    async def close(self) -> None:
        """Free what `start` took. What is under way fails with EngineError."""
