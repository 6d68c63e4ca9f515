"""The audit trail over HTTP: verdicts, the queue, reviews."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse

from grm_service.api.access import caller
from grm_service.api.problems import BODY, documented
from grm_service.api.review_schemas import (
    KeptOut,
    ObservationsOut,
    QueueOut,
    ReviewIn,
    ReviewOut,
    StatsOut,
    VerdictOut,
    VerdictsOut,
)
from grm_service.api.schemas import Text
from grm_service.api.state import service
from grm_service.audit.store import Search
from grm_service.review import reviews

router = APIRouter(tags=["oversight"])
Limit = Annotated[int, Query(ge=1, le=200)]
Profile = Annotated[Text | None, Query(max_length=200)]


@router.get("/v1/verdicts", responses=documented(401, 422, 503))
def verdicts(
    request: Request,
    limit: Limit = 50,
    before: Annotated[int | None, Query(ge=1, lt=2**63, description="`next` of the page before.")] = None,
    profile: Profile = None,
    status: Literal["ok", "partial"] | None = None,
    search: Annotated[Text | None, Query(max_length=200, description="Text anywhere in the record.")] = None,
    reviewed: bool | None = None,
) -> VerdictsOut:
    """Verdicts that you may see, newest first: your own, or all where your key is an auditor's."""
    wanted = json.dumps(search, ensure_ascii=False)[1:-1] if search else None  # as the record has it
    asked = Search(limit + 1, before, None, profile, status, wanted, reviewed)
    found = reviews.browse(service(request).trail.store, caller(request), asked)
    shown = [KeptOut.of(kept) for kept in found[:limit]]
    return VerdictsOut(verdicts=shown, next=shown[-1].seq if len(found) > limit else None)


@router.get("/v1/verdicts/{id}", responses=documented(401, 404, 422, 503))
def verdict(request: Request, id: Text) -> VerdictOut:
    """One verdict with its request, its samples, its reviews."""
    return VerdictOut.of(*reviews.look(service(request).trail.store, caller(request), id))


@router.post("/v1/verdicts/{id}/reviews", status_code=201, responses=documented(401, 404, *BODY, 503))
async def review(request: Request, id: Text, body: ReviewIn) -> ReviewOut:
    """Say whether the verdict is right. It stays as it is; your review is a record of its own."""
    trail, asking = service(request).trail, caller(request)
    kept, _ = await run_in_threadpool(reviews.look, trail.store, asking, id)
    return ReviewOut.of(await reviews.review(trail, asking, kept, body.to_opinion()))


@router.get("/v1/reviews/queue", responses=documented(401, 422, 503))
def queue(request: Request, limit: Limit = 50, profile: Profile = None) -> QueueOut:
    """Verdicts most worth a look that nobody has reviewed, with the reasons."""
    asked = Search(limit, profile=profile)
    found = reviews.queue(service(request).trail.store, caller(request), asked)
    return QueueOut(items=[KeptOut.of(kept) for kept in found])


@router.get("/v1/reviews/stats", responses=documented(401, 422, 503))
def stats(request: Request, profile: Profile = None) -> StatsOut:
    """How far people and the judge agree, by profile and principles, and over time."""
    return StatsOut.of(reviews.stats(service(request).trail.store, caller(request), profile))


@router.get("/v1/reviews/export", response_class=StreamingResponse, responses=documented(401, 503))
def export(request: Request) -> StreamingResponse:
    """Reviewed verdicts as preference data, JSON Lines, as `grm eval` and training read them."""
    items = reviews.preferences(service(request).trail.store, caller(request))
    # The trail is read before the answer begins, as long as it can still be an error.
    first = list(islice(items, 1))
    return StreamingResponse(_lines(chain(first, items)), media_type="application/x-ndjson")


@router.get("/v1/principles/observed", responses=documented(401, 422, 503))
def observed(
    request: Request, verdicts: Annotated[int, Query(ge=1, le=5000)] = 1000, profile: Profile = None
) -> ObservationsOut:
    """What the judge writes as its own principles, grouped over your last verdicts, so that a drift shows."""
    found = reviews.observed(service(request).trail, caller(request), verdicts, profile)
    return ObservationsOut.of(found)


def _lines(items: Iterable[dict[str, object]]) -> Iterator[str]:
    for item in items:
        yield json.dumps(item, ensure_ascii=False) + "\n"
