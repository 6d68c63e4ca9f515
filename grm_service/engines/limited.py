"""Limits of what is under way upstream: the completions and grades at once, and the text of their prompts."""

from __future__ import annotations

from typing import Generic, TypeVar

from grm_service.concurrency import Room
from grm_service.engines.base import Abilities, Backend, Engine, MetaRM, ThinkingBehavior
from grm_service.lengths import messages_chars
from grm_service.types import Completion, Message, Params, Prompt

Inner = TypeVar("Inner", bound=Backend)


class _Limited(Generic[Inner]):
    """A backend whose requests wait for room, whoever sends them, and hold it until they have ended."""

    def __init__(self, inner: Inner, room: Room) -> None:
        self._inner, self._room = inner, room

    @property
    def name(self) -> str:
        return self._inner.name

    @property
    def model(self) -> str:
        return self._inner.model

    @property
    def control_tokens(self) -> tuple[str, ...]:
        return self._inner.control_tokens

    @property
    def ready(self) -> bool:
        return self._inner.ready

    async def start(self) -> None:
        await self._inner.start()

    async def close(self) -> None:
        await self._inner.close()


class LimitedEngine(_Limited[Engine]):
    """An engine whose completions wait for room: samples, principles, drafts."""

    @property
    def abilities(self) -> Abilities:
        return self._inner.abilities

    @property
    def thinking(self) -> ThinkingBehavior:
        return self._inner.thinking

    @property
    def dropped_fields(self) -> tuple[str, ...]:
        return self._inner.dropped_fields

    async def complete(self, prompt: Prompt, params: Params) -> Completion:
        """Wait for room, then generate one completion."""
        async with self._room.hold(prompt.chars):
            return await self._inner.complete(prompt, params)


class LimitedMetaRM(_Limited[MetaRM]):
    """A meta RM whose grades wait for room."""

    async def grade(self, judgement: tuple[Message, ...]) -> float:
        """Wait for room, then compute one grade."""
        async with self._room.hold(messages_chars(judgement)):
            return await self._inner.grade(judgement)
