"""Judge an item with a service in this process, or with a running one over HTTP."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import asdict
from typing import Any

import httpx

from grm_service.addresses import without_credentials
from grm_service.callers import Requester
from grm_service.client import AsyncClient
from grm_service.client.verdict import Sample as RemoteSample
from grm_service.errors import AllUnreadable, BadTask, DeadlineExceeded, EngineError, GRMError
from grm_service.evaluation.dataset import Item
from grm_service.evaluation.run_folder import EvalSetup, ItemResult, SampleResult
from grm_service.failures import ENGINE_FAILURES, ITEM_FAILURES
from grm_service.serving.service import Service
from grm_service.types import Sample, Task, Usage

ROUTE = "eval"
"""The route of evaluation verdicts in the audit trail."""
JudgeItem = Callable[[Item, EvalSetup], Awaitable[ItemResult]]
_MAX_TIMEOUT_S = 3600.0


def local_judge(service: Service) -> JudgeItem:
    """Return a judge that uses a started service of this process; its verdicts go to the audit trail."""
    requester = Requester(route=ROUTE, priority="eval")

    async def judge(item: Item, setup: EvalSetup) -> ItemResult:
        task = Task(item.messages, item.responses, options=setup.item_options(item))
        try:
            record = await service.judge(task, requester=requester)
        except AllUnreadable as error:
            # Recorded with its samples, so that the report can say why they were unreadable.
            samples = tuple(map(_sample_result, error.samples))
            usage = sum((sample.usage for sample in error.samples), Usage())
            return item_result(item, error.code, _checked(item, samples), usage)
        except GRMError as error:
            return failed_result(item, setup, error)
        verdict = record.verdict
        return item_result(
            item,
            None,
            _checked(item, map(_sample_result, verdict.samples)),
            verdict.usage,
            verdict=record.id,
            fingerprint=verdict.fingerprint,
            model=verdict.model,
            seconds=verdict.judge_s,
        )

    return judge


def remote_judge(client: AsyncClient) -> JudgeItem:
    """Return a judge that sends the items to a running service."""

    async def judge(item: Item, setup: EvalSetup) -> ItemResult:
        messages = [{"role": message.role, "content": message.content} for message in item.messages]
        options = asdict(setup.item_options(item))
        options["principles"] = {"mode": setup.principles, "set": setup.principle_set}
        # Without a limit of the run's own, a busy service may take its time.
        options["timeout_s"] = setup.timeout_s or _MAX_TIMEOUT_S
        try:
            verdict = await client.rewards(
                messages, item.responses, priority="eval", profile=setup.profile or None, **options
            )
        except GRMError as error:
            return failed_result(item, setup, error)
        return item_result(
            item,
            None,
            _checked(item, map(_remote_sample_result, verdict.samples or ())),
            verdict.usage,
            verdict=verdict.id,
            fingerprint=verdict.fingerprint,
            model=verdict.model,
            seconds=verdict.judge_s,
        )

    return judge


async def check_reachable(url: str) -> None:
    """Raise BadTask if nothing answers at `url`, rather than retry every item."""
    try:
        async with httpx.AsyncClient(timeout=10.0) as http:
            await http.get(f"{url.rstrip('/')}/livez")
    except (httpx.UnsupportedProtocol, httpx.InvalidURL):  # the text may quote a part of a password
        raise BadTask(f"--url {without_credentials(url)!r} is no address, such as http://HOST:PORT") from None
    except httpx.TransportError as error:
        raise BadTask(f"no service answers at --url {without_credentials(url)}: {error}") from None


def failed_result(item: Item, setup: EvalSetup, error: GRMError) -> ItemResult:
    """Return the result of an item that the judge failed on, which counts as wrong; raise other failures."""
    # Running out of time is the judge's failure only if the run has a limit of its own.
    timed_out = setup.timeout_s is not None and error.code == DeadlineExceeded.code
    if error.code not in ITEM_FAILURES and not timed_out:
        raise error
    return item_result(item, error.code)


def item_result(
    item: Item,
    error: str | None,
    samples: tuple[SampleResult, ...] = (),
    usage: Usage = Usage(),
    **fields: Any,
) -> ItemResult:
    """Return the result of an item; `fields` are further fields of ItemResult."""
    return ItemResult(
        id=item.id,
        digest=item.digest,
        source=item.source,
        correct=item.correct,
        lengths=tuple(map(len, item.responses)),
        authors=item.authors if len(item.authors) == len(item.responses) else (),
        group=item.group,
        probe=item.probe,
        error=error,
        samples=samples,
        prompt_tokens=usage.prompt_tokens,
        cached_tokens=usage.cached_tokens,
        completion_tokens=usage.completion_tokens,
        **fields,
    )


def _checked(item: Item, samples: Iterable[SampleResult]) -> tuple[SampleResult, ...]:
    """Return the samples, or raise EngineError if the engine failed to generate one of them."""
    result = tuple(samples)
    for sample in result:
        if sample.error in ENGINE_FAILURES:
            raise EngineError(f"the engine failed at {item.id} ({sample.error}); its log says why")
    return result


def _sample_result(s: Sample) -> SampleResult:
    return SampleResult(
        s.order,
        s.scores,
        s.error,
        s.closed,
        s.usage.completion_tokens,
        s.grade,
        s.closed_reason,
        s.soft_error,
    )


def _remote_sample_result(s: RemoteSample) -> SampleResult:
    scores = s.scores if s.expected is None else s.expected
    return SampleResult(
        s.order,
        scores,
        s.error,
        s.closed,
        s.completion_tokens,
        s.grade,
        closed_reason=s.closed_reason,
        soft_error=s.soft_error,
    )
