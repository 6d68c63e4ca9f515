"""Batches: many requests in one body, spooled to disk, judged a window at a time, answered in order."""

from __future__ import annotations

import asyncio
import json
import tempfile
from codecs import BOM_UTF8
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from dataclasses import replace
from typing import IO, Annotated, Any, Literal

import ijson
from fastapi import APIRouter, Header, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from grm_service.api.access import caller
from grm_service.api.problems import BODY, documented, invalid, problem_of, unexpected_problem
from grm_service.api.replies import Problem, RewardReply
from grm_service.api.schemas import RewardRequest
from grm_service.api.state import service
from grm_service.api.texts import Text
from grm_service.audit.records import Record
from grm_service.callers import Requester
from grm_service.errors import GRMError, Overloaded
from grm_service.serving.service import Service

PATH = "/v1/rewards/batch"
_LINES = "application/x-ndjson"
_MAX_ITEMS = 10_000
_WINDOW = 64
_IN_MEMORY = 2**20
_ID = TypeAdapter(Text)

router = APIRouter()


class BatchItem(RewardRequest):
    """A request of a batch, with an optional id of yours."""

    id: Annotated[Text, Field(max_length=256)] | None = None


class BatchResult(BaseModel):
    """The result of one item: `rewards` and `verdict`, or null and an `error`."""

    index: int
    id: str | None = None
    status: Literal["ok", "partial", "failed"]
    rewards: list[float] | None = None
    verdict: RewardReply | None = None
    error: Problem | None = None


def _item_schema() -> dict[str, Any]:
    """Return the schema of an item, with references to the components of a single request."""
    schema = BatchItem.model_json_schema(ref_template="#/components/schemas/{model}")
    del schema["$defs"]
    return schema


_ITEMS = {"type": "array", "items": _item_schema(), "maxItems": _MAX_ITEMS}
_BODY = {
    "required": True,
    "content": {"application/json": {"schema": _ITEMS}, _LINES: {"schema": _item_schema()}},
}
_RESULTS: dict[int | str, dict[str, Any]] = {
    200: {"content": {_LINES: {"schema": {"$ref": "#/components/schemas/BatchResult"}}}}
}


@router.post(
    PATH,
    tags=["judge"],
    response_model=list[BatchResult],
    responses=_RESULTS | documented(401, 503, *BODY),
    openapi_extra={"requestBody": _BODY},
)
async def rewards_batch(
    request: Request, idempotency_key: Annotated[str | None, Header(max_length=200)] = None
) -> StreamingResponse:
    """Judge up to 10,000 requests: a JSON array, or JSON Lines (`application/x-ndjson`).

    Results are streamed in the order of the items, each with its own status: as a JSON array, or as JSON
    Lines with `Accept: application/x-ndjson`. A bad item does not affect the others.
    """
    judge = service(request)
    judge.require_ready()
    lines = _is_lines(request.headers.get("content-type", ""))
    # Spooled: the reply begins before the last item is judged, and few items are in memory at once.
    body = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115  closed with the reply
    try:
        async for chunk in request.stream():
            body.write(chunk)
        await asyncio.to_thread(_check, body, lines)
    except BaseException:
        body.close()
        raise
    results = _results(judge, body, lines, Requester(caller(request), "batch", key=idempotency_key))
    if _LINES in request.headers.get("accept", ""):
        return StreamingResponse(_as_lines(results), media_type=_LINES)
    return StreamingResponse(_as_array(results), media_type="application/json")


def _is_lines(content_type: str) -> bool:
    """Return whether the body is JSON Lines.

    Raises HTTPException for content types that a web page could send cross-origin without a preflight.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind not in (_LINES, "application/json"):
        raise HTTPException(422, f"send Content-Type: application/json for a JSON array, or {_LINES}")
    return kind == _LINES


def _check(body: IO[bytes], lines: bool) -> None:
    """Count the items, so that nothing is judged of a body that cannot be parsed to its end."""
    body.seek(0)
    if not lines and not body.read(_IN_MEMORY).removeprefix(BOM_UTF8).lstrip().startswith(b"["):
        raise HTTPException(422, "the body must be a JSON array, or JSON Lines with Content-Type: " + _LINES)
    try:
        count = sum(1 for _ in _items(body, lines))
    except (ijson.JSONError, UnicodeDecodeError) as wrong:
        raise RequestValidationError(
            [{"type": "json_invalid", "loc": ("body",), "msg": "", "ctx": {"error": str(wrong)[:200]}}]
        ) from None
    if count > _MAX_ITEMS:
        raise HTTPException(422, f"the batch has {count} items, at most {_MAX_ITEMS} are allowed: split it")


def _items(body: IO[bytes], lines: bool) -> Iterator[Any]:
    body.seek(0)
    if lines:
        # Files that were joined have a byte order mark before any of their lines.
        unmarked = (line.removeprefix(BOM_UTF8) for line in body)
        return (line for line in unmarked if line.strip())
    body.seek(len(BOM_UTF8) if body.read(len(BOM_UTF8)) == BOM_UTF8 else 0)
    return iter(ijson.items(body, "item", use_float=True))


async def _results(
    service: Service, body: IO[bytes], lines: bool, requester: Requester
) -> AsyncIterator[BatchResult]:
    window: deque[asyncio.Task[BatchResult]] = deque()
    with closing(body):
        try:
            for index, item in enumerate(_items(body, lines)):
                window.append(asyncio.create_task(_result(service, index, item, lines, requester)))
                if len(window) == _WINDOW:
                    yield await window.popleft()
            while window:
                yield await window.popleft()
        finally:
            for running in window:
                running.cancel()
            await asyncio.gather(*window, return_exceptions=True)


async def _result(service: Service, index: int, item: Any, lines: bool, requester: Requester) -> BatchResult:
    try:
        body = BatchItem.model_validate_json(item) if lines else BatchItem.model_validate(item)
    except ValidationError as wrong:
        return _failed(index, _id_of(item, lines), invalid(wrong.errors(), root=()))
    key = None if requester.key is None else f"{requester.key}:{index}"
    requester = replace(requester, priority=body.priority, key=key)
    try:
        record = await _judged(service, body, requester)
        reply = RewardReply.answer(record, body, service.scale(record))
        return BatchResult(index=index, id=body.id, status=reply.status, rewards=reply.rewards, verdict=reply)
    except GRMError as failed:
        return _failed(index, body.id, problem_of(failed))
    except Exception as unexpected:
        return _failed(index, body.id, unexpected_problem(f"item {index} of a batch", unexpected))


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


async def _as_lines(results: AsyncIterator[BatchResult]) -> AsyncIterator[str]:
    async for result in results:
        yield _dumped(result) + "\n"


async def _as_array(results: AsyncIterator[BatchResult]) -> AsyncIterator[str]:
    separator = "["
    async for result in results:
        yield separator + _dumped(result)
        separator = ","
    yield "[]" if separator == "[" else "]"


def _dumped(result: BatchResult) -> str:
    exclude = dict[str, set[str]]()
    if result.verdict and result.verdict.samples is None:
        exclude["verdict"] = {"samples"}
    if result.error:
        exclude["error"] = {name for name, value in result.error if value is None}
    return result.model_dump_json(exclude=exclude)
