"""The one verb that every engine has."""

from __future__ import annotations

from typing import Protocol

from grm_service.types import Completion, Params, Prompt


class Engine(Protocol):
    """Generates text. One prompt, one completion, awaited as often at once as the caller likes.

    Batching, prefix sharing, retries and cancelling hide behind `complete`; cancelling the awaiting task
    drops the request.
    """

    name: str
    """Technology, as `--engine` names it."""
    model: str
    """Hub id, path or served name of the model."""
    continues: bool
    """Whether a prompt may carry a continuation and params a regex."""
    control_tokens: tuple[str, ...]
    """Texts that the model's tokenizer reads as control, as far as the engine can know them."""

    async def start(self) -> None:
        """Load the model or reach the server, and produce a first token. Raises ModelNotLoaded."""

    async def complete(self, prompt: Prompt, params: Params) -> Completion:
        """One completion. Raises PromptTooLong, EngineError."""

    async def close(self) -> None:
        """Free what `start` took. Requests under way fail with EngineError."""
