"""POST /v1/improve: the whole lineage in one reply, or as server-sent events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Body, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from fastapi.sse import KEEPALIVE_COMMENT

from grm_service.api import examples
from grm_service.api.access import caller
from grm_service.api.disconnect import while_present
from grm_service.api.json_bodies import JSONRoute
from grm_service.api.lineage import DraftOut, ImproveReply, OpinionOut, RoundOut
from grm_service.api.problems import problem_of
from grm_service.api.responses import EVENTS, JUDGING, example
from grm_service.api.schemas import Detail, ImproveRequest
from grm_service.api.state import policy, service
from grm_service.api.stream import first_event, iterate, to_sse, wants_events
from grm_service.callers import Requester
from grm_service.errors import GRMError
from grm_service.improving.lineage import Draft, Improvement, Round, SecondOpinion
from grm_service.improving.loop import ROUTE, improve

_Event = Draft | Round | SecondOpinion

router = APIRouter(route_class=JSONRoute)


@router.post(
    "/v1/improve",
    summary="Improve an answer",
    tags=["judge"],
    response_model=ImproveReply,
    responses=example("/v1/improve", EVENTS) | JUDGING,
)
async def improved(
    request: Request, body: Annotated[ImproveRequest, Body(openapi_examples=examples.IMPROVE)]
) -> Response:
    """Sample answers from the server's policy, judge them, and revise the best by the judge's critiques.

    The reply has every draft, the draft that it revises, and each verdict on it. The best draft never has a
    lower reward than the original; read `flags` before you believe a gain. With `stream` the reply comes as
    events: each `draft`, each `round` with its verdict, `second_opinion`, then `improved` or `error`.
    """
    requester, events = Requester(caller(request), ROUTE, "eval"), asyncio.Queue[_Event | None]()
    improving = improve(
        service(request), policy(request), body.to_improve_task(), events.put_nowait, requester
    )
    if wants_events(request, body):
        work = asyncio.create_task(improving)
        first = await first_event(request, work, events)
        return StreamingResponse(_stream(work, events, first, body.detail), media_type="text/event-stream")
    improvement = await while_present(request, improving)
    return await asyncio.to_thread(_reply, improvement, body.detail)


def _reply(improvement: Improvement, detail: Detail) -> Response:
    return JSONResponse(ImproveReply.of(improvement, detail).model_dump(mode="json"))


async def _stream(
    work: asyncio.Task[Improvement],
    events: asyncio.Queue[_Event | None],
    first: _Event | None,
    detail: Detail,
) -> AsyncIterator[bytes]:
    try:
        if first is not None:
            yield _to_sse(first, detail)
        async for event in iterate(events):
            yield KEEPALIVE_COMMENT if event is None else _to_sse(event, detail)
        yield to_sse("improved", ImproveReply.of(await work, detail).model_dump_json())
    except GRMError as failed:
        yield to_sse("error", bytes(problem_of(failed).body).decode())
    finally:
        work.cancel()


def _to_sse(event: _Event, detail: Detail) -> bytes:
    match event:
        case Draft():
            return to_sse("draft", DraftOut.of(event).model_dump_json())
        case Round():
            return to_sse("round", RoundOut.of(event, detail).model_dump_json())
        case SecondOpinion():
            return to_sse("second_opinion", OpinionOut.of(event, detail).model_dump_json())
