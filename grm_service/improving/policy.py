"""Who writes drafts: a server of its own, or the judge's own engine asked in plain chat."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext

from grm_service import tracing
from grm_service.concurrency import gather
from grm_service.engines.base import Engine
from grm_service.errors import DeadlineExceeded, EngineError, PolicyFailed
from grm_service.improving.interface import JudgeService
from grm_service.judging.sampler import complete
from grm_service.types import Completion, Params, Prompt, Requester

_ANYBODY = Requester()
OnWritten = Callable[[int, Completion], None]
"""Is told each completion as it is finished, with its place among those asked for."""


class Policy:
    """Writes drafts with `engine`; None: with the judge's own, where drafts wait in line like samples."""

    def __init__(self, service: JudgeService, engine: Engine | None = None) -> None:
        self._service = service
        self.engine = service.engine if engine is None else engine
        self._own = engine is not None
        self._started = not self._own
        self._starting = asyncio.Lock()

    @property
    def is_judge(self) -> bool:
        """Whether it is the model that judges."""
        return self.engine.model == self._service.engine.model

    async def start(self) -> None:
        """Reaches its server, when it is first needed: a judge does not need one. Raises PolicyFailed."""
        async with self._starting:
            if not self._started:
                try:
                    await self.engine.start()
                except EngineError as failed:
                    raise PolicyFailed(f"the policy cannot be asked: {failed}") from failed
                self._started = True

    async def close(self) -> None:
        if self._own:
            await self.engine.close()

    async def write(
        self,
        asked: Sequence[tuple[Prompt, Params]],
        deadline: float | None = None,
        requester: Requester = _ANYBODY,
        on_written: OnWritten = lambda at, completion: None,
    ) -> list[Completion]:
        """All of them at once, by the deadline on the loop's clock.

        Raises PolicyFailed, PromptTooLong, DeadlineExceeded, and Overloaded where it is the judge's engine.
        """
        if not asked:
            return []
        await self._start_by(deadline)
        async with self._room(len(asked), deadline, requester):
            try:
                async with asyncio.timeout_at(deadline):
                    return await gather(self._one(at, *each, on_written) for at, each in enumerate(asked))
            except TimeoutError:
                raise DeadlineExceeded("time ran out while the policy wrote") from None

    async def _start_by(self, deadline: float | None) -> None:
        try:
            async with asyncio.timeout_at(deadline):
                await self.start()
        except TimeoutError:
            raise DeadlineExceeded("time ran out before the policy answered") from None

    def _room(
        self, n: int, deadline: float | None, requester: Requester
    ) -> AbstractAsyncContextManager[None]:
        if self._own:
            return nullcontext()
        return self._service.reserve(n, requester, deadline)

    async def _one(self, at: int, prompt: Prompt, params: Params, on_written: OnWritten) -> Completion:
        with tracing.span(
            "draft", tracing.asked(self.engine.name, self.engine.model, params), "CLIENT"
        ) as span:
            try:
                completion = await complete(self.engine, prompt, params)
            except EngineError as failed:
                raise PolicyFailed(f"the policy failed: {failed}") from failed
            span.note(tracing.spent(completion.usage))
        if not self._own:
            self._service.count_tokens(completion.usage)
        on_written(at, completion)
        return completion
