"""One judgement as server-sent events: `plan`, each `sample` as it is finished, then `verdict` or `error`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from fastapi import Request
from fastapi.responses import StreamingResponse
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event

from grm_service.api.disconnect import while_present
from grm_service.api.problems import problem_of
from grm_service.api.replies import PlanOut, RewardReply, SampleOut
from grm_service.api.schemas import ImproveRequest, RewardRequest
from grm_service.audit.records import Record
from grm_service.errors import GRMError
from grm_service.judging.plan import Plan
from grm_service.serving.service import Service
from grm_service.types import Requester, Sample

_KEEPALIVE_S = 15.0
_Told = asyncio.Queue[Plan | Sample | None]


def wanted(request: Request, body: RewardRequest | ImproveRequest) -> bool:
    """Whether the client asks for events, in the body or by what it accepts."""
    return body.stream or "text/event-stream" in request.headers.get("accept", "")


async def stream(
    request: Request, service: Service, body: RewardRequest, requester: Requester
) -> StreamingResponse:
    """Answers once the judging has begun: what is refused before that is refused as everywhere else.

    One who joins a judgement that is under way, or gets a verdict again, gets all its samples in the end.
    """
    told: _Told = asyncio.Queue()
    judging = asyncio.create_task(service.judge(body.to_task(), told.put_nowait, requester))
    first = await begun(request, judging, told)
    return StreamingResponse(_events(service, judging, told, first, body), media_type="text/event-stream")


async def _events(
    service: Service,
    judging: asyncio.Task[Record],
    told: _Told,
    first: Plan | Sample | None,
    body: RewardRequest,
) -> AsyncIterator[bytes]:
    sent = set[int]()
    try:
        if isinstance(first, Plan):
            yield as_event("plan", PlanOut.of(first).model_dump_json())
            async for event in following(told):
                if event is None:
                    yield KEEPALIVE_COMMENT
                elif isinstance(event, Plan):
                    yield as_event("plan", PlanOut.of(event).model_dump_json())
                else:
                    sent.add(event.index)
                    yield as_event("sample", SampleOut.of(event).model_dump_json())
        record = await judging
        if first is None:
            yield as_event("plan", PlanOut.of_verdict(record.verdict).model_dump_json())
        for sample in record.verdict.samples:
            if sample.index not in sent:
                yield as_event("sample", SampleOut.of(sample).model_dump_json())
        left_out = {"samples"} if body.detail == "rewards" else None
        yield as_event(
            "verdict",
            RewardReply.answer(record, body, service.scale(record)).model_dump_json(exclude=left_out),
        )
    except GRMError as failed:
        yield as_event("error", bytes(problem_of(failed).body).decode())
    finally:
        judging.cancel()


async def begun(request: Request, working: asyncio.Task[Any], told: asyncio.Queue[Any]) -> Any:
    """The first that work tells: then it was not refused. None where it ended well without a word.

    From then on None in the queue is its end. Raises what the work does until then.
    """
    working.add_done_callback(lambda _: told.put_nowait(None))
    try:
        first = await while_present(request, told.get())
        if first is None:
            working.result()
    except BaseException:
        working.cancel()
        raise
    return first


async def following(told: asyncio.Queue[Any]) -> AsyncIterator[Any]:
    """What is told, until that is None; None where nothing was for so long that the client may give up."""
    while True:
        try:
            async with asyncio.timeout(_KEEPALIVE_S):
                event = await told.get()
        except TimeoutError:
            yield None
            continue
        if event is None:
            return
        yield event


def as_event(name: str, data: str) -> bytes:
    return format_sse_event(event=name, data_str=data)
