"""One judgement as server-sent events: `plan`, each `sample` as it is finished, then `verdict` or `error`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from fastapi import Request
from fastapi.responses import StreamingResponse
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event

from grm_service.api.presence import while_present
from grm_service.api.problems import problem_of
from grm_service.api.replies import PlanOut, RewardReply, SampleOut
from grm_service.api.schemas import RewardRequest
from grm_service.errors import GRMError
from grm_service.plan import Plan
from grm_service.service import Asker, Service
from grm_service.types import Record, Sample

_KEEPALIVE_S = 15.0
Told = asyncio.Queue[Plan | Sample | None]


def wanted(request: Request, body: RewardRequest) -> bool:
    """Whether the client asks for events, in the body or by what it accepts."""
    return body.stream or "text/event-stream" in request.headers.get("accept", "")


async def stream(request: Request, service: Service, body: RewardRequest, asker: Asker) -> StreamingResponse:
    """Answers once the judging has begun: what is refused before that is refused as everywhere else.

    One who joins a judgement that is under way, or gets a verdict again, gets all its samples in the end.
    """
    told: Told = asyncio.Queue()
    judging = asyncio.create_task(service.judge(body.to_task(), told.put_nowait, asker))
    judging.add_done_callback(lambda _: told.put_nowait(None))
    try:
        first = await while_present(request, told.get())
        if first is None:
            judging.result()
    except BaseException:
        judging.cancel()
        raise
    return StreamingResponse(_events(service, judging, told, first, body), media_type="text/event-stream")


async def _events(
    service: Service,
    judging: asyncio.Task[Record],
    told: Told,
    first: Plan | Sample | None,
    body: RewardRequest,
) -> AsyncIterator[bytes]:
    sent, event = set[int](), first
    try:
        while event is not None:
            if isinstance(event, Plan):
                yield _event("plan", PlanOut.of(event).model_dump_json())
            else:
                sent.add(event.index)
                yield _event("sample", SampleOut.of(event).model_dump_json())
            while (event := await _next(told)) is _SILENCE:
                yield KEEPALIVE_COMMENT
        record = await judging
        if first is None:
            yield _event("plan", PlanOut.again(record.verdict).model_dump_json())
        for sample in record.verdict.samples:
            if sample.index not in sent:
                yield _event("sample", SampleOut.of(sample).model_dump_json())
        left_out = {"samples"} if body.detail == "rewards" else None
        yield _event(
            "verdict",
            RewardReply.answer(record, body, service.scale(record)).model_dump_json(exclude=left_out),
        )
    except GRMError as failed:
        yield _event("error", bytes(problem_of(failed).body).decode())
    finally:
        judging.cancel()


_SILENCE = Sample(-1, 0, ())


async def _next(told: Told) -> Plan | Sample | None:
    try:
        async with asyncio.timeout(_KEEPALIVE_S):
            return await told.get()
    except TimeoutError:
        return _SILENCE


def _event(name: str, data: str) -> bytes:
    return format_sse_event(event=name, data_str=data)
