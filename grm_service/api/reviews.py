"""Routes of the audit trail: verdicts, the review queue, reviews."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse

from grm_service.api.access import caller
from grm_service.api.json_bodies import JSONRoute
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
from grm_service.api.state import service
from grm_service.api.texts import Text
from grm_service.audit.store import Search

router = APIRouter(tags=["oversight"], route_class=JSONRoute)
Limit = Annotated[int, Query(ge=1, le=200)]
Profile = Annotated[Text | None, Query(max_length=200)]


@router.get("/v1/verdicts", responses=documented(401, 422, 503))
def verdicts(
    request: Request,
    limit: Limit = 50,
    before: Annotated[int | None, Query(ge=1, lt=2**63, description="`next` of the previous page.")] = None,
    profile: Profile = None,
    status: Literal["ok", "partial"] | None = None,
    search: Annotated[Text | None, Query(max_length=200, description="Text anywhere in the record.")] = None,
    reviewed: bool | None = None,
) -> VerdictsOut:
    """List verdicts, newest first: your own, or all of them if your key is an auditor's."""
    text = json.dumps(search, ensure_ascii=False)[1:-1] if search else None  # escaped as in the stored JSON
    query = Search(limit + 1, before, None, profile, status, text, reviewed)
    stored = service(request).archive.browse(caller(request), query)
    page = [KeptOut.of(each) for each in stored[:limit]]
    return VerdictsOut(verdicts=page, next=page[-1].seq if len(stored) > limit else None)


@router.get("/v1/verdicts/{id}", responses=documented(401, 404, 422, 503))
def verdict(request: Request, id: Text) -> VerdictOut:
    """Return one verdict with its request, samples and reviews."""
    return VerdictOut.of(*service(request).archive.find(caller(request), id))


@router.post("/v1/verdicts/{id}/reviews", status_code=201, responses=documented(401, 404, *BODY, 503))
async def review(request: Request, id: Text, body: ReviewIn) -> ReviewOut:
    """Review a verdict. Your review is stored as its own record; the verdict stays unchanged."""
    return ReviewOut.of(await service(request).archive.add_review(caller(request), id, body.to_content()))


@router.get("/v1/reviews/queue", responses=documented(401, 422, 503))
def queue(request: Request, limit: Limit = 50, profile: Profile = None) -> QueueOut:
    """List the verdicts that need a review most and have none, with the reasons."""
    stored = service(request).archive.queue(caller(request), Search(limit, profile=profile))
    return QueueOut(items=[KeptOut.of(each) for each in stored])


@router.get("/v1/reviews/stats", responses=documented(401, 422, 503))
def stats(request: Request, profile: Profile = None) -> StatsOut:
    """Return the agreement between reviewers and the judge, by profile and principles, and over time."""
    return StatsOut.of(service(request).archive.agreement(caller(request), profile))


@router.get("/v1/reviews/export", response_class=StreamingResponse, responses=documented(401, 503))
def export(request: Request) -> StreamingResponse:
    """Export reviewed verdicts as preference data in JSON Lines, for `grm eval` and training."""
    items = service(request).archive.preferences(caller(request))
    # Start reading the trail before the response starts, while a failure can still become an error status.
    first = list(islice(items, 1))
    return StreamingResponse(_lines(chain(first, items)), media_type="application/x-ndjson")


@router.get("/v1/principles/observed", responses=documented(401, 422, 503))
def observed(
    request: Request, verdicts: Annotated[int, Query(ge=1, le=5000)] = 1000, profile: Profile = None
) -> ObservationsOut:
    """List the principles that the judge wrote itself in your last verdicts, to make drift visible."""
    archive = service(request).archive
    return ObservationsOut.of(archive.observed_principles(caller(request), verdicts, profile))


def _lines(items: Iterable[dict[str, object]]) -> Iterator[str]:
    for item in items:
        yield json.dumps(item, ensure_ascii=False) + "\n"
