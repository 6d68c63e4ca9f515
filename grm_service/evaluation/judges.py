"""Who is asked for verdicts: the judge in this process, or a running service."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import httpx

from grm_service.client import AsyncClient
from grm_service.client.verdict import Sample as RemoteSample
from grm_service.errors import (
    FAILURES,
    AllUnreadable,
    BadTask,
    EngineError,
    GRMError,
    PrinciplesUnreadable,
    PromptTooLong,
    ResponseUnread,
    TextTooLong,
)
from grm_service.evaluation.dataset import Item
from grm_service.evaluation.run_folder import EvalSetup, ItemResult, SampleResult
from grm_service.serving.service import Service
from grm_service.types import JudgeOptions, PrincipleSpec, Requester, Sample, Task, Usage

ROUTE = "eval"
"""The route of what is judged to measure the judge, in records."""
JudgeItem = Callable[[Item, EvalSetup], Awaitable[ItemResult]]
_FINDINGS = {
    failed.code
    for failed in (AllUnreadable, ResponseUnread, PrinciplesUnreadable, PromptTooLong, TextTooLong)
}
"""What an item can do to a judge. Anything else is no finding about the judge: it ends the run."""
_LONGEST_S = 3600.0
_NOTHING = Usage()


def in_process(service: Service) -> JudgeItem:
    """Asks a started service of this process, so that the audit trail has every verdict."""
    requester = Requester(route=ROUTE, priority="eval")

    async def ask(item: Item, setup: EvalSetup) -> ItemResult:
        spec = PrincipleSpec(setup.principles, setup.principle_set)
        judged = JudgeOptions(principles=spec, **options(item, setup))
        task = Task(item.messages, item.responses, options=judged)
        try:
            record = await service.judge(task, requester=requester)
        except AllUnreadable as unreadable:
            samples = unreadable.samples
            usage = sum((sample.usage for sample in samples), Usage())
            return finished(item, unreadable.code, _whole(item, _taken(samples)), usage)
        except GRMError as failed:
            return finding(item, failed)
        verdict = record.verdict
        return finished(
            item,
            None,
            _whole(item, _taken(verdict.samples)),
            verdict.usage,
            verdict=record.id,
            fingerprint=verdict.fingerprint,
            model=verdict.model,
            seconds=verdict.judge_s,
        )

    return ask


def remote(client: AsyncClient) -> JudgeItem:
    """Asks a running service."""

    async def ask(item: Item, setup: EvalSetup) -> ItemResult:
        principles = {"mode": setup.principles, "set": setup.principle_set}
        turns = [{"role": turn.role, "content": turn.content} for turn in item.messages]
        asked = {**options(item, setup), "profile": setup.profile or None, "principles": principles}
        try:
            verdict = await client.rewards(
                turns, item.responses, priority="eval", timeout_s=_LONGEST_S, **asked
            )
        except GRMError as failed:
            return finding(item, failed)
        return finished(
            item,
            None,
            _whole(item, tuple(_told(sample) for sample in verdict.samples or ())),
            verdict.usage,
            verdict=verdict.id,
            fingerprint=verdict.fingerprint,
            model=verdict.model,
            seconds=verdict.judge_s,
        )

    return ask


async def reach(url: str) -> None:
    """Raises BadTask where nothing answers, so that a wrong address is told before many tries."""
    try:
        async with httpx.AsyncClient(timeout=10.0) as http:
            await http.get(f"{url.rstrip('/')}/livez")
    except (httpx.UnsupportedProtocol, httpx.InvalidURL) as wrong:
        raise BadTask(f"--url {url!r} is no address: {wrong}") from None
    except httpx.TransportError as failed:
        raise BadTask(f"no service answers at --url {url}: {failed}") from None


def options(item: Item, setup: EvalSetup) -> dict[str, Any]:
    """How an item is judged, by the names that a task and a request have for it."""
    return {
        "k": setup.k,
        "seed": item.seed(setup.seed),
        "temperature": setup.temperature,
        "max_tokens": setup.max_tokens,
        "score": setup.score,
    }


def finding(item: Item, failed: GRMError) -> ItemResult:
    """The item as it failed; raises what says nothing about the judge."""
    if failed.code not in _FINDINGS:
        raise failed
    return finished(item, failed.code)


def finished(
    item: Item,
    error: str | None,
    samples: tuple[SampleResult, ...] = (),
    usage: Usage = _NOTHING,
    **rest: Any,
) -> ItemResult:
    """What becomes of an item, by the names of ItemResult."""
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
        **rest,
    )


def _whole(item: Item, samples: tuple[SampleResult, ...]) -> tuple[SampleResult, ...]:
    """The samples; raises EngineError where one is missing for no fault of the judge's."""
    for sample in samples:
        if sample.error in FAILURES:
            raise EngineError(f"the engine failed at {item.id} ({sample.error}); its log says why")
    return samples


def _taken(samples: Iterable[Sample]) -> tuple[SampleResult, ...]:
    return tuple(
        SampleResult(s.order, s.scores, s.error, s.closed, s.usage.completion_tokens, s.grade)
        for s in samples
    )


def _told(sample: RemoteSample) -> SampleResult:
    scores = sample.expected if sample.expected is not None else sample.scores
    return SampleResult(
        sample.order, scores, sample.error, sample.closed, sample.completion_tokens, sample.grade
    )
