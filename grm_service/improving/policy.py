"""The policy that writes drafts: another server, or the judge's own engine with plain chat prompts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

from grm_service import tracing
from grm_service.callers import Requester
from grm_service.concurrency import gather
from grm_service.engines.base import Engine
from grm_service.errors import DeadlineExceeded, EngineError, PolicyFailed, UpstreamRefused
from grm_service.improving.interface import JudgeService
from grm_service.judging.completion import complete, without_thinking
from grm_service.judging.sampler import CUT_IN_THINKING
from grm_service.profiles.profile import ThinkingSettings
from grm_service.types import Completion, Params, Prompt

_ANONYMOUS = Requester()
OnCompletion = Callable[[int, Completion], None]
"""Called with the index of a request and its completion, as soon as that is finished."""


class DraftCut(PolicyFailed):
    """The policy reached its token limit before it began its answer, which is no empty draft."""

    label = CUT_IN_THINKING


class Policy:
    """Writes drafts with `engine`, None means the judge's; drafts queue like samples."""

    def __init__(self, service: JudgeService, engine: Engine | None = None) -> None:
        self._service = service
        self.engine = service.limited(service.engine if engine is None else engine)
        self._has_own_engine = engine is not None
        self._started = not self._has_own_engine
        self._starting = asyncio.Lock()

    @property
    def thinking(self) -> ThinkingSettings:
        """The settings for thinking: the judge's profile has those of its engine."""
        return ThinkingSettings() if self._has_own_engine else self._service.find_profile(None).thinking

    @property
    def is_judge(self) -> bool:
        """True if policy and judge are the same model."""
        return self.engine.model == self._service.engine.model

    async def start(self) -> None:
        """Connect to the policy's server on first use. Raises PolicyFailed."""
        async with self._starting:
            if not self._started:
                try:
                    await self.engine.start()
                except EngineError as failed:
                    raise _policy_failed("the policy is not available", failed) from failed
                self._started = True

    async def close(self) -> None:
        """Close the policy's engine, unless it is the judge's."""
        if self._has_own_engine:
            await self.engine.close()

    async def write(
        self,
        requests: Sequence[tuple[Prompt, Params]],
        deadline: float | None = None,
        requester: Requester = _ANONYMOUS,
        on_completion: OnCompletion = lambda index, completion: None,
    ) -> list[Completion]:
        """Return the completions in order, generated concurrently; `deadline` is on the loop's clock.

        Raises PolicyFailed (DraftCut if the policy only thought), PromptTooLong, TooMuchText,
        DeadlineExceeded and Overloaded.
        """
        if not requests:
            return []
        await self._start_by(deadline)
        chars = sum(prompt.chars for prompt, _ in requests)
        async with self._service.reserve(len(requests), chars, requester, deadline):
            try:
                async with asyncio.timeout_at(deadline):
                    return await gather(
                        self._complete(index, prompt, params, on_completion)
                        for index, (prompt, params) in enumerate(requests)
                    )
            except TimeoutError:
                raise DeadlineExceeded("time ran out while the policy was writing") from None

    async def _start_by(self, deadline: float | None) -> None:
        try:
            async with asyncio.timeout_at(deadline):
                await self.start()
        except TimeoutError:
            raise DeadlineExceeded("time ran out before the policy answered") from None

    async def _complete(
        self, index: int, prompt: Prompt, params: Params, on_completion: OnCompletion
    ) -> Completion:
        settings = self.thinking
        fields = settings.request_fields(settings.tokens)
        params = replace(params, thinking_tokens=settings.tokens, request_fields=fields)
        attributes = tracing.request_attributes(self.engine.name, self.engine.model, params)
        with tracing.span("draft", attributes, "CLIENT") as span:
            try:
                completion = await self._complete_answer(prompt, params, settings)
            except UpstreamRefused:
                raise
            except EngineError as failed:
                raise _policy_failed("the policy failed", failed) from failed
            span.note(tracing.usage_attributes(completion.usage))
        if not self._has_own_engine:
            self._service.count_tokens(completion.usage)
        on_completion(index, completion)
        if _only_thought(completion):
            raise DraftCut(
                f"the policy {self.engine.model} only thought and wrote no answer: give it "
                "more tokens, or turn its thinking off on its server or in the judge's profile (thinking)"
            )
        return completion

    async def _complete_answer(
        self, prompt: Prompt, params: Params, settings: ThinkingSettings
    ) -> Completion:
        """Return a completion; if the policy only thought, one without thinking where that is possible."""
        completion = await complete(self.engine, prompt, params, settings)
        off = without_thinking(self.engine, params, settings)
        if off is None or not _only_thought(completion):
            return completion
        answer = await complete(self.engine, prompt, off, settings)
        return replace(answer, usage=completion.usage + answer.usage)


def _only_thought(completion: Completion) -> bool:
    thinking = completion.thinking
    return thinking is not None and (thinking.cut or not completion.text.strip())


def _policy_failed(what: str, cause: EngineError) -> PolicyFailed:
    failed = PolicyFailed(f"{what}: {cause.message}", cause.reason)
    failed.retryable = cause.retryable
    return failed
