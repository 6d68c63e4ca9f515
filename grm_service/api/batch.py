"""Batches: many requests in one body, spooled to disk, judged a window at a time, answered in order."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from dataclasses import replace
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, HTTPException, Request
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import Field, TypeAdapter, ValidationError

from grm_service.api.access import caller
from grm_service.api.base import Described
from grm_service.api.problems import invalid, problem_of, unexpected_problem
from grm_service.api.replies import Problem, RewardReply
from grm_service.api.responses import BODY, documented, example
from grm_service.api.schemas import RewardRequest
from grm_service.api.spool import LINES, MAX_ITEMS, Spool, Spools
from grm_service.api.state import service
from grm_service.api.texts import Text
from grm_service.audit.records import Record
from grm_service.callers import Requester
from grm_service.errors import GRMError, Overloaded
from grm_service.profiles.profile import Scale
from grm_service.serving.service import Service

PATH = "/v1/rewards/batch"
_WINDOW = 64
_WINDOW_BYTES = 2**24
_ID = TypeAdapter(Text)

router = APIRouter()


class BatchItem(RewardRequest):
    """A request of a batch, with an optional id of yours."""

    id: Annotated[Text, Field(max_length=256)] | None = None
    """Your id of the item, at most 256 characters; the result has it too."""


class BatchResult(Described):
    """The result of one item: a verdict or an error."""

    index: int
    """Index of the item in the batch, from 0."""
    id: str | None = None
    """Your id of the item; null if it has none."""
    status: Literal["ok", "partial", "failed"]
    """Status of the verdict, or `failed` if there is none."""
    rewards: list[float] | None = None
    """Rewards of the verdict, in the order of the item's responses; null if it failed."""
    verdict: RewardReply | None = None
    """The verdict; null if the item failed."""
    error: Problem | None = None
    """Why the item failed; null if it did not."""


def _item_schema() -> dict[str, Any]:
    """Return the schema of an item, with references to the components of a single request."""
    schema = BatchItem.model_json_schema(ref_template="#/components/schemas/{model}")
    del schema["$defs"]
    return schema


_ITEMS = {"type": "array", "items": _item_schema(), "maxItems": MAX_ITEMS}
_BODY = {
    "required": True,
    "content": {"application/json": {"schema": _ITEMS}, LINES: {"schema": _item_schema()}},
}
_RESULTS = example(PATH)
_RESULTS[200]["content"][LINES] = {"schema": {"$ref": "#/components/schemas/BatchResult"}}


@router.post(
    PATH,
    summary="Judge a batch of requests",
    tags=["judge"],
    response_model=list[BatchResult],
    responses=_RESULTS | documented(401, 503, *BODY),
    openapi_extra={"requestBody": _BODY},
)
async def rewards_batch(
    request: Request,
    idempotency_key: Annotated[
        str | None, Header(max_length=200, description="Repeats with the same key get the same verdicts.")
    ] = None,
) -> StreamingResponse:
    """Judge up to 10,000 requests: a JSON array, or JSON Lines (`application/x-ndjson`).

    Results are streamed in the order of the items, each with its own status: as a JSON array, or as JSON
    Lines with `Accept: application/x-ndjson`. A bad item does not affect the others.
    """
    judge = service(request)
    judge.require_ready()
    lines = _is_lines(request.headers.get("content-type", ""))
    spools: Spools = request.app.state.spools
    # Stored: the reply begins before the last item is judged, and few items are in memory at once.
    body = await spools.receive(request.stream(), lines)
    results = _results(judge, body, lines, Requester(caller(request), "batch", key=idempotency_key))
    if LINES in request.headers.get("accept", ""):
        return StreamingResponse(_as_lines(results), media_type=LINES)
    return StreamingResponse(_as_array(results), media_type="application/json")


def _is_lines(content_type: str) -> bool:
    """Return whether the body is JSON Lines.

    Raises HTTPException for content types that a web page could send cross-origin without a preflight.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind not in (LINES, "application/json"):
        raise HTTPException(422, f"send Content-Type: application/json for a JSON array, or {LINES}")
    return kind == LINES


async def _results(service: Service, body: Spool, lines: bool, requester: Requester) -> AsyncIterator[str]:
    window, window_bytes = deque[tuple[asyncio.Task[str], int]](), 0
    with closing(body):
        items, index = body.items(), 0
        try:
            while (read := await asyncio.to_thread(_read, items, index, lines)) is not None:
                item, size = read
                window.append((asyncio.create_task(_result(service, index, item, requester)), size))
                index, window_bytes = index + 1, window_bytes + size
                while window and (len(window) == _WINDOW or window_bytes > _WINDOW_BYTES):
                    yield await window[0][0]
                    window_bytes -= window.popleft()[1]
            while window:
                yield await window[0][0]
                window.popleft()
        finally:
            running = [task for task, _ in window]
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)


def _read(
    items: Iterator[tuple[Any, int]], index: int, lines: bool
) -> tuple[BatchItem | BatchResult, int] | None:
    """Return the next item, or its result if it is invalid, and its bytes; None after the last."""
    for item, size in items:
        try:
            body = BatchItem.model_validate_json(item) if lines else BatchItem.model_validate(item)
            return body, size
        except ValidationError as wrong:
            return _failed(index, _id_of(item, lines), invalid(wrong.errors(), root=())), size
    return None


async def _result(service: Service, index: int, item: BatchItem | BatchResult, requester: Requester) -> str:
    """Return the result of an item as JSON."""
    if isinstance(item, BatchResult):
        return _dumped(item)
    key = None if requester.key is None else f"{requester.key}:{index}"
    requester = replace(requester, priority=item.priority, key=key)
    try:
        record = await _judged(service, item, requester)
        return await asyncio.to_thread(_judged_result, index, item, record, service.scale(record))
    except GRMError as failed:
        return _dumped(_failed(index, item.id, problem_of(failed)))
    except Exception as unexpected:
        problem = unexpected_problem(f"item {index} of a batch", unexpected)
        return _dumped(_failed(index, item.id, problem))


def _judged_result(index: int, item: BatchItem, record: Record, scale: Scale) -> str:
    reply = RewardReply.answer(record, item, scale)
    result = BatchResult(index=index, id=item.id, status=reply.status, rewards=reply.rewards, verdict=reply)
    return _dumped(result)


def _failed(index: int, id_: str | None, problem: JSONResponse) -> BatchResult:
    error = Problem.model_validate_json(bytes(problem.body))
    return BatchResult(index=index, id=id_, status="failed", error=error)


async def _judged(service: Service, body: BatchItem, requester: Requester) -> Record:
    while True:
        try:
            return await service.judge(body.to_task(), requester=requester)
        except Overloaded as full:
            # The batch was accepted, so its items wait here for room in the queue.
            await asyncio.sleep(full.retry_after_s)


def _id_of(item: Any, lines: bool) -> str | None:
    if lines:
        try:
            item = json.loads(item)
        except (ValueError, RecursionError):
            return None
    id_ = item.get("id") if isinstance(item, dict) else None
    try:
        return _ID.validate_python(id_, strict=True)[:256]
    except ValidationError:
        return None


async def _as_lines(results: AsyncIterator[str]) -> AsyncIterator[str]:
    async for result in results:
        yield result + "\n"


async def _as_array(results: AsyncIterator[str]) -> AsyncIterator[str]:
    separator = "["
    async for result in results:
        yield separator + result
        separator = ","
    yield "[]" if separator == "[" else "]"


def _dumped(result: BatchResult) -> str:
    exclude = dict[str, set[str]]()
    if result.verdict and result.verdict.samples is None:
        exclude["verdict"] = {"samples"}
    if result.error:
        exclude["error"] = {name for name, value in result.error if value is None}
    return result.model_dump_json(exclude=exclude)
