"""Better answers over HTTP: whole, or as server-sent events while they come about."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Body, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from fastapi.sse import KEEPALIVE_COMMENT

from grm_service.api import examples
from grm_service.api.access import caller
from grm_service.api.disconnect import while_present
from grm_service.api.lineage import DraftOut, ImproveReply, OpinionOut, RoundOut
from grm_service.api.problems import JUDGING, problem_of
from grm_service.api.schemas import Detail, ImproveRequest
from grm_service.api.state import policy, service
from grm_service.api.stream import as_event, begun, following, wanted
from grm_service.errors import GRMError
from grm_service.improving.lineage import Draft, Improvement, Round, SecondOpinion
from grm_service.improving.loop import ROUTE, improve
from grm_service.types import Requester

_STREAMED: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {}}}}
_Event = Draft | Round | SecondOpinion

router = APIRouter()


@router.post("/v1/improve", tags=["judge"], response_model=ImproveReply, responses=_STREAMED | JUDGING)
async def improved(
    request: Request, body: Annotated[ImproveRequest, Body(openapi_examples=examples.IMPROVE)]
) -> Response:
    """Let the server's policy answer, and its judge choose: best of n, revised by the judge's own critiques.

    The reply has every draft, who it came from, and each verdict on it. Never comes back what has a lower
    reward than the original; read `flags` before you believe a gain. With `stream` it comes as events: each
    `draft`, each `round` with its verdict, `second_opinion`, then `improved` or `error`.
    """
    requester, told = Requester(caller(request), ROUTE, "eval"), asyncio.Queue[_Event | None]()
    improving = improve(service(request), policy(request), body.to_improve_task(), told.put_nowait, requester)
    if wanted(request, body):
        working = asyncio.create_task(improving)
        first = await begun(request, working, told)
        return StreamingResponse(_events(working, told, first, body.detail), media_type="text/event-stream")
    whole = await while_present(request, improving)
    return JSONResponse(ImproveReply.of(whole, body.detail).model_dump(mode="json"))


async def _events(
    working: asyncio.Task[Improvement],
    told: asyncio.Queue[_Event | None],
    first: _Event | None,
    detail: Detail,
) -> AsyncIterator[bytes]:
    try:
        if first is not None:
            yield _event(first, detail)
        async for event in following(told):
            yield KEEPALIVE_COMMENT if event is None else _event(event, detail)
        yield as_event("improved", ImproveReply.of(await working, detail).model_dump_json())
    except GRMError as failed:
        yield as_event("error", bytes(problem_of(failed).body).decode())
    finally:
        working.cancel()


def _event(event: _Event, detail: Detail) -> bytes:
    match event:
        case Draft():
            return as_event("draft", DraftOut.of(event).model_dump_json())
        case Round():
            return as_event("round", RoundOut.of(event, detail).model_dump_json())
        case SecondOpinion():
            return as_event("second_opinion", OpinionOut.of(event, detail).model_dump_json())
