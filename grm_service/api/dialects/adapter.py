"""The steps that all dialects share: gather a group, hold the request, judge, shape the rewards.

Each dialect fails in the way that its framework handles best.
"""

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
from grm_service.callers import Requester
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
from grm_service.serving.validation import request_chars
from grm_service.types import Message, Principle, PrincipleSpec, Task, Usage, total

_PAUSE_S = 1.0
_MAX_JUDGE_ERRORS = 3


@dataclass(frozen=True, slots=True)
class Reward:
    """The reward of one response as its trainer receives it.

    `raw` is on the profile's scale, `unit` on 0..1. Both and `record` are None if `value` is the fallback.
    """

    value: float
    raw: float | None = None
    unit: float | None = None
    record: Record | None = None

    @property
    def metrics(self) -> dict[str, float]:
        """Numbers for the trainer's log: always the same keys, -1 for a missing value."""
        verdict = None if self.record is None else self.record.verdict
        agreement = None if verdict is None else verdict.vote.agreement
        return {
            "judged": float(verdict is not None),
            "raw": -1.0 if self.raw is None else self.raw,
            "group_size": 0.0 if verdict is None else float(len(verdict.vote.rewards)),
            "agreement": -1.0 if agreement is None else agreement,
            "samples": 0.0 if verdict is None else float(len(verdict.samples)),
        }


def openai_usage(rewards: Iterable[Reward]) -> dict[str, int | None]:
    """Return the tokens that the verdicts cost, as OpenAI's `usage` object; None for unknown ones."""
    usage = sum((reward.record.verdict.usage for reward in rewards if reward.record is not None), Usage())
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": total((usage.prompt_tokens, usage.completion_tokens)),
    }


class DialectAdapter:
    """The judge behind one route of a dialect.

    Some clients handle a refusal badly, for example by crashing the trainer. For these, `hold_s` is set: the
    request is held for up to `hold_s` seconds, in which the adapter retries retryable errors (a full queue, a
    restarting engine) and only then returns the error. None: errors are returned at once.

    `window_s`: the seconds that a response waits for the others of its group, unless the options say
    otherwise. `alone_by_default`: it waits only if the options set `group` or `window_s`. `defaults`: the
    values of options that a request does not set.
    """

    def __init__(
        self,
        service: Service,
        route: str,
        window_s: float,
        hold_s: float | None,
        alone_by_default: bool,
        defaults: QueryOptions,
    ) -> None:
        self._service, self._route, self._window_s, self._hold_s = service, route, window_s, hold_s
        self._alone_by_default, self._defaults = alone_by_default, defaults
        on_group_closed = partial(service.metrics.group_closed, route)
        self._grouper = ResponseGrouper(self._judge, on_group_closed, service.groups)

    async def single(
        self,
        request: Request,
        options: QueryOptions,
        messages: tuple[Message, ...],
        response: str,
        reference: str | None = None,
        group: str | None = None,
    ) -> Reward:
        """Return the reward of a response; the others of its group are requests of their own.

        `group` identifies the group if the prompt does not. Raises GRMError.
        """
        options = options.with_defaults(self._defaults)
        task = options.task(messages, (response,), reference, self._hold_s)
        window_s = 0.0 if self._alone_by_default and options.group is None else self._window_s
        if options.window_s is not None:
            window_s = options.window_s
        # Without a window nothing is waited for: a group of one is complete at once.
        grouping = Grouping(window_s, options.group if window_s else 1, group)
        try:
            with self._service.queue.hold_texts(request_chars(task)):
                judging = self._grouper.judge(task, grouping, self._requester(request, options))
                record, place, copies = await while_present(request, judging)
            # Equal responses are judged once, but a transform over the group counts each of them.
            places = [place for place, count in enumerate(copies) for _ in range(count)]
            return self._rewards(options, record, places)[places.index(place)]
        except GRMError as error:
            return self._fallback(options, error)

    async def together(
        self,
        request: Request,
        options: QueryOptions,
        messages: tuple[Message, ...],
        responses: tuple[str, ...],
        transform: Transform | None = None,
        principle: str | None = None,
    ) -> list[Reward]:
        """Return the rewards of responses that arrived in one request.

        `transform` applies if the options name none; a `principle` sets the mode to fixed. Raises GRMError.
        """
        options = options.with_defaults(self._defaults)
        task = options.task(messages, responses, None, self._hold_s)
        if principle is not None:
            task = task.with_options(
                principles=PrincipleSpec("fixed", options.principles, (Principle(principle),))
            )
        try:
            judging = self._judge(task, self._requester(request, options))
            record = await while_present(request, judging)
            return self._rewards(options, record, range(len(responses)), transform)
        except GRMError as error:
            return [self._fallback(options, error) for _ in responses]

    def _requester(self, request: Request, options: QueryOptions) -> Requester:
        return Requester(caller(request), self._route, options.priority)

    def _rewards(
        self,
        options: QueryOptions,
        record: Record,
        places: Sequence[int],
        transform: Transform | None = None,
    ) -> list[Reward]:
        scale = self._service.scale(record)
        values = options.shaped(record, scale, places, transform).rewards
        raws = [record.verdict.vote.rewards[place] for place in places]
        units = [(raw - scale.min) / (scale.max - scale.min) for raw in raws]
        return [Reward(*numbers, record) for numbers in zip(values, raws, units, strict=True)]

    def _fallback(self, options: QueryOptions, error: GRMError) -> Reward:
        if options.fallback is None or not error.retryable:
            raise error
        self._service.metrics.fallbacks.labels(self._route, error.code).inc()
        return Reward(options.fallback)

    async def _judge(self, task: Task, requester: Requester) -> Record:
        """Judge a task; with `hold_s`, retry retryable errors until its time limit passes."""
        clock = asyncio.get_running_loop().time
        deadline, judge_errors = clock() + (task.options.timeout_s or math.inf), 0
        while True:
            left_s = None if task.options.timeout_s is None else max(0.001, deadline - clock())
            # The same seed would plan the same unreadable samples again.
            attempt = task.with_options(timeout_s=left_s, seed=task.options.seed + judge_errors)
            try:
                return await self._service.judge(attempt, requester=requester)
            except GRMError as error:
                judge_errors += isinstance(error, JudgeError)
                pause_s = _pause_s(error)
                if self._hold_s is None or pause_s is None or judge_errors == _MAX_JUDGE_ERRORS:
                    raise
                if clock() + pause_s >= deadline:
                    raise
                await asyncio.sleep(pause_s)


def adapter(request: Request, route: str) -> DialectAdapter:
    """Return the adapter that serves a route."""
    adapters: dict[str, DialectAdapter] = request.app.state.adapters
    return adapters[route]


def _pause_s(error: GRMError) -> float | None:
    """Return the seconds to wait before a retry, None if a retry on this server is pointless."""
    if isinstance(error, Overloaded):
        return float(error.retry_after_s)
    if not error.retryable or isinstance(error, (DeadlineExceeded, Draining)):
        return None
    # Judge errors need no pause: the next attempt draws other samples.
    return _PAUSE_S if isinstance(error, (EngineError, AuditUnavailable)) else 0.0
