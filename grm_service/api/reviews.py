"""Routes of the audit trail: verdicts, the review queue, reviews."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from functools import partial
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response, StreamingResponse

from grm_service.api.access import caller
from grm_service.api.disconnect import while_present
from grm_service.api.json_bodies import JSONRoute
from grm_service.api.reading import reader, reply
from grm_service.api.responses import BODY, documented, example
from grm_service.api.review_schemas import (
    QueueOut,
    ReviewIn,
    ReviewOut,
    VerdictItem,
    VerdictOut,
    VerdictsOut,
)
from grm_service.api.review_stats import ObservationsOut, StatsOut
from grm_service.api.spool import LINES
from grm_service.api.state import service
from grm_service.api.texts import Text
from grm_service.audit.queries import Search
from grm_service.review.reviews import VerdictArchive

router = APIRouter(tags=["oversight"], route_class=JSONRoute)
Limit = Annotated[int, Query(ge=1, le=200, description="Most verdicts to return.")]
Profile = Annotated[Text | None, Query(max_length=200, description="Only verdicts of this profile.")]
VerdictId = Annotated[Text, Path(description="Id of the verdict.")]


@router.get(
    "/v1/verdicts",
    summary="List verdicts",
    response_model=VerdictsOut,
    responses=example("/v1/verdicts") | documented(401, 422, 503, of_trail=True),
)
async def verdicts(
    request: Request,
    limit: Limit = 50,
    before: Annotated[int | None, Query(ge=1, lt=2**63, description="`next` of the previous page.")] = None,
    profile: Profile = None,
    status: Annotated[
        Literal["ok", "partial"] | None, Query(description="Only verdicts of this status.")
    ] = None,
    search: Annotated[Text | None, Query(max_length=200, description="Text anywhere in the record.")] = None,
    reviewed: Annotated[
        bool | None, Query(description="Only verdicts with reviews, or only those without.")
    ] = None,
) -> Response:
    """List verdicts, newest first: your own, or all of them if your key is an auditor's."""
    text = json.dumps(search, ensure_ascii=False)[1:-1] if search else None  # escaped as in the stored JSON
    query = Search(limit + 1, before, None, profile, status, text, reviewed)

    def read() -> VerdictsOut:
        listed = service(request).archive.browse(caller(request), query)
        page = [VerdictItem.of(each) for each in listed[:limit]]
        return VerdictsOut(verdicts=page, next=page[-1].seq if len(listed) > limit else None)

    filters = profile, status, text, reviewed
    return await reply(request, read, long=any(each is not None for each in filters))


@router.get(
    "/v1/verdicts/{id}",
    summary="Get a verdict",
    response_model=VerdictOut,
    responses=example("/v1/verdicts/{id}") | documented(401, 404, 422, 503, of_trail=True),
)
async def verdict(request: Request, id: VerdictId) -> Response:
    """Return one verdict with its request, samples and reviews."""
    return await reply(request, lambda: VerdictOut.of(*service(request).archive.find(caller(request), id)))


@router.post(
    "/v1/verdicts/{id}/reviews",
    summary="Review a verdict",
    status_code=201,
    responses=example("/v1/verdicts/{id}/reviews", status=201)
    | documented(401, *BODY)
    | documented(404, 503, of_trail=True),
)
async def review(request: Request, id: VerdictId, body: ReviewIn) -> ReviewOut:
    """Review a verdict. Your review is stored as its own record; the verdict stays unchanged."""
    archive, owner = service(request).archive, caller(request)
    verdict = await reader(request).run(lambda: archive.listed(owner, id))
    return ReviewOut.of(await archive.add_review(owner, verdict, body.to_content()))


@router.get(
    "/v1/reviews/queue",
    summary="List verdicts to review",
    response_model=QueueOut,
    responses=example("/v1/reviews/queue") | documented(401, 422, 503, of_trail=True),
)
async def queue(request: Request, limit: Limit = 50, profile: Profile = None) -> Response:
    """List the verdicts that need a review most and have none, with the reasons."""

    def read() -> QueueOut:
        listed = service(request).archive.queue(caller(request), Search(limit, profile=profile))
        return QueueOut(items=[VerdictItem.of(each) for each in listed])

    return await reply(request, read, long=True)


@router.get(
    "/v1/reviews/stats",
    summary="Get the agreement with reviewers",
    response_model=StatsOut,
    responses=example("/v1/reviews/stats") | documented(401, 422, 503, of_trail=True),
)
async def stats(request: Request, profile: Profile = None) -> Response:
    """Return the agreement between reviewers and the judge, by profile and principles, and over time."""
    archive = service(request).archive
    return await reply(request, lambda: StatsOut.of(archive.agreement(caller(request), profile)), long=True)


@router.get(
    "/v1/reviews/export",
    summary="Export reviewed verdicts",
    response_class=StreamingResponse,
    responses=example("/v1/reviews/export", media_type=LINES) | documented(401, 422, 503, of_trail=True),
)
async def export(request: Request) -> StreamingResponse:
    """Export reviewed verdicts as preference data in JSON Lines, for `grm eval` and training."""
    archive, owner = service(request).archive, caller(request)
    read = partial(reader(request).one_at_a_time, owner.name)
    # Read before the response starts, while a failure can still become an error status.
    reviews = await while_present(request, read(partial(archive.last_reviews, owner)))

    # No transaction stays open while the client reads a line.
    async def lines() -> AsyncIterator[bytes]:
        for review_seq, verdict_seq in reviews:
            if line := await read(partial(_line, archive, review_seq, verdict_seq)):
                yield line

    return StreamingResponse(lines(), media_type="application/x-ndjson")


@router.get(
    "/v1/principles/observed",
    summary="List the principles of the judge",
    response_model=ObservationsOut,
    responses=example("/v1/principles/observed") | documented(401, 422, 503, of_trail=True),
)
async def observed(
    request: Request,
    verdicts: Annotated[int, Query(ge=1, le=5000, description="Most verdicts to read, newest first.")] = 1000,
    profile: Profile = None,
) -> Response:
    """List the principles that the judge wrote itself in your last verdicts, to make drift visible."""
    archive = service(request).archive

    def read() -> ObservationsOut:
        return ObservationsOut.of(archive.observed_principles(caller(request), verdicts, profile))

    return await reply(request, read, long=True)


def _line(archive: VerdictArchive, review_seq: int, verdict_seq: int) -> bytes:
    """Return one line of the export, empty if the verdict has no preference."""
    item = archive.preference(review_seq, verdict_seq)
    return b"" if item is None else (json.dumps(item, ensure_ascii=False) + "\n").encode()
