"""Limits of what is under way upstream: the completions and grades at once, and the text of their prompts."""

from __future__ import annotations

from grm_service.concurrency import Room
from grm_service.engines.base import Abilities, Engine, MetaRM, ThinkingBehavior
from grm_service.types import Completion, Message, Params, Prompt


class LimitedEngine:
    """An engine whose completions wait for room, whoever requests them: samples, principles, drafts."""

    def __init__(self, engine: Engine, room: Room) -> None:
        self._engine, self._room = engine, room

    @property
    def name(self) -> str:
        return self._engine.name

    @property
    def model(self) -> str:
        return self._engine.model

    @property
    def abilities(self) -> Abilities:
        return self._engine.abilities

    @property
    def thinking(self) -> ThinkingBehavior:
        return self._engine.thinking

    @property
    def control_tokens(self) -> tuple[str, ...]:
        return self._engine.control_tokens

    @property
    def dropped_fields(self) -> tuple[str, ...]:
        return self._engine.dropped_fields

    @property
    def ready(self) -> bool:
        return self._engine.ready

    async def start(self) -> None:
        await self._engine.start()

    async def complete(self, prompt: Prompt, params: Params) -> Completion:
        """Wait for room, then generate one completion; the room is held until that has ended."""
        async with self._room.hold(prompt.chars):
            return await self._engine.complete(prompt, params)

    async def close(self) -> None:
        await self._engine.close()


class LimitedMetaRM:
    """The same for a meta RM's grades."""

    def __init__(self, meta_rm: MetaRM, room: Room) -> None:
        self._meta_rm, self._room = meta_rm, room

    @property
    def name(self) -> str:
        return self._meta_rm.name

    @property
    def model(self) -> str:
        return self._meta_rm.model

    @property
    def control_tokens(self) -> tuple[str, ...]:
        return self._meta_rm.control_tokens

    @property
    def ready(self) -> bool:
        return self._meta_rm.ready

    async def start(self) -> None:
        await self._meta_rm.start()

    async def grade(self, judgement: tuple[Message, ...]) -> float:
        """Wait for room, then compute one grade; the room is held until that has ended."""
        async with self._room.hold(sum(len(message.content) for message in judgement)):
            return await self._meta_rm.grade(judgement)

    async def close(self) -> None:
        await self._meta_rm.close()
