"""A judgement as server-sent events: `plan`, each finished `sample`, then `verdict` or `error`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from fastapi import Request
from fastapi.responses import StreamingResponse
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event

from grm_service.api.disconnect import while_present
from grm_service.api.problems import problem_of
from grm_service.api.replies import RewardReply
from grm_service.api.samples import PlanOut, SampleOut
from grm_service.api.schemas import ImproveRequest, RewardRequest
from grm_service.audit.records import Record
from grm_service.callers import Requester
from grm_service.errors import GRMError
from grm_service.judging.plan import Plan
from grm_service.profiles.profile import Scale
from grm_service.serving.service import Service
from grm_service.types import Sample

_KEEPALIVE_S = 15.0
_EventQueue = asyncio.Queue[Plan | Sample | None]


def wants_events(request: Request, body: RewardRequest | ImproveRequest) -> bool:
    """Return whether the client requests a stream, in the body or with its Accept header."""
    return body.stream or "text/event-stream" in request.headers.get("accept", "")


async def stream(
    request: Request, service: Service, body: RewardRequest, requester: Requester
) -> StreamingResponse:
    """Return the stream once judging has started; an earlier failure is raised, so it gets an HTTP status.

    A request that joins a running judgement, or repeats one, gets the samples it missed before the verdict.
    """
    events: _EventQueue = asyncio.Queue()
    judging = asyncio.create_task(service.judge(body.to_task(), events.put_nowait, requester))
    first = await first_event(request, judging, events)
    return StreamingResponse(_stream(service, judging, events, first, body), media_type="text/event-stream")


async def _stream(
    service: Service,
    judging: asyncio.Task[Record],
    events: _EventQueue,
    first: Plan | Sample | None,
    body: RewardRequest,
) -> AsyncIterator[bytes]:
    sent = set[int]()
    try:
        if isinstance(first, Plan):
            yield to_sse("plan", PlanOut.of(first).model_dump_json())
            async for event in iterate(events):
                if event is None:
                    yield KEEPALIVE_COMMENT
                elif isinstance(event, Plan):
                    yield to_sse("plan", PlanOut.of(event).model_dump_json())
                else:
                    sent.add(event.index)
                    yield to_sse("sample", SampleOut.of(event).model_dump_json())
        record = await judging
        if first is None:
            yield to_sse("plan", PlanOut.of_verdict(record.verdict).model_dump_json())
        for sample in record.verdict.samples:
            if sample.index not in sent:
                yield to_sse("sample", SampleOut.of(sample).model_dump_json())
        yield await asyncio.to_thread(_verdict, record, body, service.scale(record))
    except GRMError as failed:
        yield to_sse("error", bytes(problem_of(failed).body).decode())
    finally:
        judging.cancel()


def _verdict(record: Record, body: RewardRequest, scale: Scale) -> bytes:
    exclude = {"samples"} if body.detail == "rewards" else None
    return to_sse("verdict", RewardReply.answer(record, body, scale).model_dump_json(exclude=exclude))


async def first_event(request: Request, work: asyncio.Task[Any], events: asyncio.Queue[Any]) -> Any:
    """Return the first event of `work`, or None if it succeeds without any; raise what it raises before.

    `events` ends with None once the work is done.
    """
    work.add_done_callback(lambda _: events.put_nowait(None))
    try:
        first = await while_present(request, events.get())
        if first is None:
            work.result()
    except BaseException:
        work.cancel()
        raise
    return first


async def iterate(events: asyncio.Queue[Any]) -> AsyncIterator[Any]:
    """Yield events until the queue's final None; yield None when a keepalive is due."""
    while True:
        try:
            async with asyncio.timeout(_KEEPALIVE_S):
                event = await events.get()
        except TimeoutError:
            yield None
            continue
        if event is None:
            return
        yield event


def to_sse(name: str, data: str) -> bytes:
    """Return one server-sent event."""
    return format_sse_event(event=name, data_str=data)
