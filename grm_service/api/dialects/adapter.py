"""What all dialects do alike: gather, hold, judge, shape, and fail by the rule of their framework."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from fastapi import Request

from grm_service.api.access import caller
from grm_service.api.dialects.query_options import QueryOptions
from grm_service.api.disconnect import while_present
from grm_service.api.shaping import Transform
from grm_service.audit.records import Record
from grm_service.errors import (
    AuditUnavailable,
    DeadlineExceeded,
    Draining,
    EngineError,
    GRMError,
    JudgeError,
    Overloaded,
)
from grm_service.serving.grouping import Grouping, ResponseGrouper
from grm_service.serving.service import Service
from grm_service.types import Message, Principle, PrincipleSpec, Requester, Task, Usage

_PAUSE_S = 1.0
_MOST_READINGS = 3


@dataclass(frozen=True, slots=True)
class Reward:
    """One response's reward as its trainer gets it; `record` None: the wished fallback, nobody judged it."""

    value: float
    raw: float | None = None
    unit: float | None = None
    record: Record | None = None

    @property
    def numbers(self) -> dict[str, float]:
        """What trainers may log of it: always the same names, numbers only; -1 where there is none."""
        verdict = None if self.record is None else self.record.verdict
        agreement = None if verdict is None else verdict.vote.agreement
        return {
            "judged": float(verdict is not None),
            "raw": -1.0 if self.raw is None else self.raw,
            "group_size": 0.0 if verdict is None else float(len(verdict.vote.rewards)),
            "agreement": -1.0 if agreement is None else agreement,
            "samples": 0.0 if verdict is None else float(len(verdict.samples)),
        }


def tokens(rewards: Iterable[Reward]) -> dict[str, int]:
    """What verdicts cost, as OpenAI's usage has it."""
    spent = sum((one.record.verdict.usage for one in rewards if one.record is not None), Usage())
    return {
        "prompt_tokens": spent.prompt_tokens,
        "completion_tokens": spent.completion_tokens,
        "total_tokens": spent.prompt_tokens + spent.completion_tokens,
    }


class DialectAdapter:
    """One dialect's door. Within `hold_s` seconds it tries again what may yet succeed, where its clients take
    a refusal badly; None: it refuses at once. `alone`: a response waits for siblings only where the wish says
    so. `usual` is wished by those who say nothing else.
    """

    def __init__(
        self,
        service: Service,
        route: str,
        window_s: float,
        hold_s: float | None,
        alone: bool,
        usual: QueryOptions,
    ) -> None:
        self._service, self._route, self._window_s, self._hold_s = service, route, window_s, hold_s
        self._alone, self._usual = alone, usual
        told = partial(service.metrics.group_closed, route)
        self._rendezvous = ResponseGrouper(self._judge, told, service.replay_s)

    async def single(
        self,
        request: Request,
        wish: QueryOptions,
        messages: tuple[Message, ...],
        response: str,
        reference: str | None = None,
        group: str | None = None,
    ) -> Reward:
        """The reward of a response whose siblings come by themselves. Raises GRMError."""
        wish = wish.over(self._usual)
        task = wish.task(messages, (response,), reference, self._hold_s)
        window_s = 0.0 if self._alone and wish.group is None else self._window_s
        if wish.window_s is not None:
            window_s = wish.window_s
        gathering = Grouping(window_s, wish.group if window_s else 1, group)
        try:
            gathered = self._rendezvous.judge(task, gathering, self._requester(request, wish))
            record, place, copies = await while_present(request, gathered)
            samples = [place for place, count in enumerate(copies) for _ in range(count)]
            return self._rewards(wish, record, samples)[samples.index(place)]
        except GRMError as failed:
            return self._fallback(wish, failed)

    async def together(
        self,
        request: Request,
        wish: QueryOptions,
        messages: tuple[Message, ...],
        responses: tuple[str, ...],
        transform: Transform | None = None,
        principle: str | None = None,
    ) -> list[Reward]:
        """The rewards of responses that came together, by a principle where one came. Raises GRMError."""
        wish = wish.over(self._usual)
        task = wish.task(messages, responses, None, self._hold_s)
        if principle is not None:
            task = task.with_options(
                principles=PrincipleSpec("fixed", wish.principles, (Principle(principle),))
            )
        try:
            judged = self._judge(task, self._requester(request, wish))
            record = await while_present(request, judged)
            return self._rewards(wish, record, range(len(responses)), transform)
        except GRMError as failed:
            return [self._fallback(wish, failed) for _ in responses]

    def _requester(self, request: Request, wish: QueryOptions) -> Requester:
        return Requester(caller(request), self._route, wish.priority)

    def _rewards(
        self, wish: QueryOptions, record: Record, samples: Sequence[int], transform: Transform | None = None
    ) -> list[Reward]:
        scale = self._service.scale(record)
        values = wish.shaped(record, scale, samples, transform).rewards
        raws = [record.verdict.vote.rewards[place] for place in samples]
        units = [(raw - scale.min) / (scale.max - scale.min) for raw in raws]
        return [Reward(*numbers, record) for numbers in zip(values, raws, units, strict=True)]

    def _fallback(self, wish: QueryOptions, failed: GRMError) -> Reward:
        if wish.fallback is None or not failed.retryable:
            raise failed
        self._service.metrics.fallbacks.labels(self._route, failed.code).inc()
        return Reward(wish.fallback)

    async def _judge(self, task: Task, requester: Requester) -> Record:
        clock = asyncio.get_running_loop().time
        ends, readings = clock() + (task.options.timeout_s or math.inf), 0
        while True:
            left_s = None if task.options.timeout_s is None else max(0.001, ends - clock())
            # What nobody could read may be read with other samples.
            again = task.with_options(timeout_s=left_s, seed=task.options.seed + readings)
            try:
                return await self._service.judge(again, requester=requester)
            except GRMError as failed:
                readings += isinstance(failed, JudgeError)
                pause_s = _pause_s(failed)
                if self._hold_s is None or pause_s is None or readings == _MOST_READINGS:
                    raise
                if clock() + pause_s >= ends:
                    raise
                await asyncio.sleep(pause_s)


def adapter(request: Request, route: str) -> DialectAdapter:
    """Return the adapter that serves a route."""
    found: DialectAdapter = request.app.state.adapters[route]
    return found


def _pause_s(failed: GRMError) -> float | None:
    """After which it may be tried again; None: not by this server."""
    if isinstance(failed, Overloaded):
        return float(failed.retry_after_s)
    if not failed.retryable or isinstance(failed, (DeadlineExceeded, Draining)):
        return None
    return _PAUSE_S if isinstance(failed, (EngineError, AuditUnavailable)) else 0.0
