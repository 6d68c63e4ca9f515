"""Routes of the audit trail: verdicts, the review queue, reviews."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from functools import partial
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response, StreamingResponse

from grm_service.api.access import caller
from grm_service.api.disconnect import while_present
from grm_service.api.json_bodies import JSONRoute
from grm_service.api.problems import BODY, documented
from grm_service.api.reading import reader, reply
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
from grm_service.audit.queries import Search
from grm_service.review.reviews import VerdictArchive

router = APIRouter(tags=["oversight"], route_class=JSONRoute)
Limit = Annotated[int, Query(ge=1, le=200)]
Profile = Annotated[Text | None, Query(max_length=200)]


@router.get("/v1/verdicts", response_model=VerdictsOut, responses=documented(401, 422, 503))
async def verdicts(
    request: Request,
    limit: Limit = 50,
    before: Annotated[int | None, Query(ge=1, lt=2**63, description="`next` of the previous page.")] = None,
    profile: Profile = None,
    status: Literal["ok", "partial"] | None = None,
    search: Annotated[Text | None, Query(max_length=200, description="Text anywhere in the record.")] = None,
    reviewed: bool | None = None,
) -> Response:
    """List verdicts, newest first: your own, or all of them if your key is an auditor's."""
    text = json.dumps(search, ensure_ascii=False)[1:-1] if search else None  # escaped as in the stored JSON
    query = Search(limit + 1, before, None, profile, status, text, reviewed)

    def read() -> VerdictsOut:
        listed = service(request).archive.browse(caller(request), query)
        page = [KeptOut.of(each) for each in listed[:limit]]
        return VerdictsOut(verdicts=page, next=page[-1].seq if len(listed) > limit else None)

    filters = profile, status, text, reviewed
    return await reply(request, read, long=any(each is not None for each in filters))


@router.get("/v1/verdicts/{id}", response_model=VerdictOut, responses=documented(401, 404, 422, 503))
async def verdict(request: Request, id: Text) -> Response:
    """Return one verdict with its request, samples and reviews."""
    return await reply(request, lambda: VerdictOut.of(*service(request).archive.find(caller(request), id)))


@router.post("/v1/verdicts/{id}/reviews", status_code=201, responses=documented(401, 404, *BODY, 503))
async def review(request: Request, id: Text, body: ReviewIn) -> ReviewOut:
    """Review a verdict. Your review is stored as its own record; the verdict stays unchanged."""
    archive, owner = service(request).archive, caller(request)
    verdict = await reader(request).run(lambda: archive.listed(owner, id))
    return ReviewOut.of(await archive.add_review(owner, verdict, body.to_content()))


@router.get("/v1/reviews/queue", response_model=QueueOut, responses=documented(401, 422, 503))
async def queue(request: Request, limit: Limit = 50, profile: Profile = None) -> Response:
    """List the verdicts that need a review most and have none, with the reasons."""

    def read() -> QueueOut:
        listed = service(request).archive.queue(caller(request), Search(limit, profile=profile))
        return QueueOut(items=[KeptOut.of(each) for each in listed])

    return await reply(request, read, long=True)


@router.get("/v1/reviews/stats", response_model=StatsOut, responses=documented(401, 422, 503))
async def stats(request: Request, profile: Profile = None) -> Response:
    """Return the agreement between reviewers and the judge, by profile and principles, and over time."""
    archive = service(request).archive
    return await reply(request, lambda: StatsOut.of(archive.agreement(caller(request), profile)), long=True)


@router.get("/v1/reviews/export", response_class=StreamingResponse, responses=documented(401, 422, 503))
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


@router.get("/v1/principles/observed", response_model=ObservationsOut, responses=documented(401, 422, 503))
async def observed(
    request: Request, verdicts: Annotated[int, Query(ge=1, le=5000)] = 1000, profile: Profile = None
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
