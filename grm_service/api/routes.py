"""The native API, v1."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Body, Header, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST

from grm_service.api import examples
from grm_service.api.access import caller
from grm_service.api.disconnect import while_present
from grm_service.api.json_bodies import JSONRoute
from grm_service.api.replies import PrinciplesReply, RewardReply
from grm_service.api.responses import EVENTS, JUDGING, documented, example
from grm_service.api.samples import PrincipleOut, UsageOut
from grm_service.api.schemas import PrinciplesRequest, RewardRequest
from grm_service.api.server_info import (
    CallerUsageOut,
    PrincipleSetOut,
    ProbesSeen,
    ProfileOut,
    Ready,
    ThinkingOut,
)
from grm_service.api.state import probe_runner, service
from grm_service.api.stream import stream, wants_events
from grm_service.audit.records import Record
from grm_service.callers import Requester
from grm_service.engines.base import without_field
from grm_service.profiles.catalog import fingerprint
from grm_service.profiles.profile import Scale
from grm_service.types import PrincipleSpec

router = APIRouter(route_class=JSONRoute)


@router.post(
    "/v1/rewards",
    summary="Judge responses",
    tags=["judge"],
    response_model=RewardReply,
    responses=example("/v1/rewards", EVENTS) | JUDGING,
)
async def rewards(
    request: Request,
    body: Annotated[RewardRequest, Body(openapi_examples=examples.REWARDS)],
    idempotency_key: Annotated[
        str | None, Header(max_length=256, description="Repeats with the same key get the same verdict.")
    ] = None,
) -> Response:
    """Judge the responses to one query together: k critiques, each with its principles, and their vote.

    An identical request within some minutes gets the same verdict (`Idempotent-Replayed: true`); use another
    seed for a second opinion. If the client disconnects, its samples are cancelled. With `stream`, or with
    `Accept: text/event-stream`, the reply is a stream of events: `plan`, each `sample`, then `verdict` or
    `error`.
    """
    requester = Requester(caller(request), priority=body.priority, key=idempotency_key)
    if wants_events(request, body):
        return await stream(request, service(request), body, requester)
    judging = service(request).judge(body.to_task(), requester=requester)
    record = await while_present(request, judging)
    # In a thread: 64 samples about 64 responses are megabytes.
    return await asyncio.to_thread(_reply, record, body, service(request).scale(record))


def _reply(record: Record, body: RewardRequest, scale: Scale) -> Response:
    reply = RewardReply.answer(record, body, scale)
    left_out = {"samples"} if body.detail == "rewards" else None
    headers = {"Idempotent-Replayed": "true"} if record.replayed else None
    return JSONResponse(reply.model_dump(mode="json", exclude=left_out), headers=headers)


@router.post(
    "/v1/principles",
    summary="Write principles for a query",
    tags=["judge"],
    responses=example("/v1/principles") | JUDGING,
)
async def principles(
    request: Request, body: Annotated[PrinciplesRequest, Body(openapi_examples=examples.PRINCIPLES)]
) -> PrinciplesReply:
    """Write principles for a query without judging; edit them and send them back as fixed ones."""
    spec = PrincipleSpec("query", body.constitution)
    writing = service(request).principles(body.to_messages(), body.profile, spec, Requester(caller(request)))
    profile, written, usage = await while_present(request, writing)
    return PrinciplesReply(
        profile=profile.name, principles=[PrincipleOut.of(p) for p in written], usage=UsageOut.of(usage)
    )


@router.get(
    "/v1/profiles",
    summary="List the profiles",
    tags=["catalog"],
    responses=example("/v1/profiles") | documented(401),
)
async def profiles(request: Request) -> list[ProfileOut]:
    """List the profiles, and which of them this server's model can run."""
    serving = service(request)
    return [
        ProfileOut(
            name=profile.name,
            description=profile.description,
            model=profile.model,
            meta_rm=profile.meta_rm,
            served=serving.validator.serves(profile),
            default=profile.name == serving.profile.name,
            fingerprint=fingerprint(profile),
            scale=[profile.scale.min, profile.scale.max],
            k=profile.sampling.k,
        )
        for profile in serving.validator.profiles()
    ]


@router.get(
    "/v1/principle-sets",
    summary="List the principle sets",
    tags=["catalog"],
    responses=example("/v1/principle-sets") | documented(401),
)
async def principle_sets(request: Request) -> list[PrincipleSetOut]:
    """List the named principle sets."""
    return [
        PrincipleSetOut(
            name=named.name,
            description=named.description,
            principles=[PrincipleOut.of(p) for p in named.items()],
        )
        for named in service(request).catalog.principle_sets.values()
    ]


@router.get(
    "/v1/usage",
    summary="Get your usage",
    tags=["operation"],
    responses=example("/v1/usage") | documented(401),
)
async def usage(request: Request) -> CallerUsageOut:
    """Return your usage since the server started."""
    owner = caller(request)
    return CallerUsageOut.of(owner.name, service(request).usage_of(owner))


@router.get("/livez", summary="Check that the process runs", tags=["operation"], responses=example("/livez"))
async def livez() -> dict[str, str]:
    """Return 200 while the process runs."""
    return {"status": "alive"}


@router.get(
    "/readyz",
    summary="Check that the server can judge",
    tags=["operation"],
    responses=example("/readyz") | documented(503),
)
async def readyz(request: Request) -> Ready:
    """Return 200 once the model has produced a token and while the engine answers."""
    serving = service(request)
    serving.require_ready()
    engine, probed = serving.engine, probe_runner(request).report
    return Ready(
        profile=serving.profile.name,
        engine=engine.name,
        model=engine.model,
        meta_rm=None if serving.meta_rm is None else serving.meta_rm.model,
        chosen=serving.chosen,
        lacks=engine.abilities.lacking(),
        thinking=ThinkingOut(**asdict(engine.thinking)),
        dropped_fields={name: without_field(name) for name in engine.dropped_fields},
        probes=ProbesSeen(ran=probed.ran, failed=list(probed.failed)),
    )


@router.get(
    "/metrics",
    summary="Get the Prometheus metrics",
    tags=["operation"],
    response_class=PlainTextResponse,
    responses=example("/metrics", media_type="text/plain") | documented(401),
)
async def metrics(request: Request) -> Response:
    """Return the metrics in the Prometheus text format."""
    return Response(service(request).metrics.text(), media_type=CONTENT_TYPE_LATEST)
