"""The native routes, v1."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Header, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST

from grm_service.api import examples
from grm_service.api.access import caller
from grm_service.api.presence import while_present
from grm_service.api.replies import (
    PrincipleOut,
    PrincipleSetOut,
    PrinciplesReply,
    Problem,
    ProfileOut,
    Ready,
    RewardReply,
    SpentOut,
    UsageOut,
)
from grm_service.api.schemas import PrinciplesRequest, RewardRequest
from grm_service.api.stream import stream, wanted
from grm_service.catalog import fingerprint
from grm_service.service import Asker, Service
from grm_service.types import PrincipleSpec

_PROBLEM: dict[str, Any] = {"model": Problem, "content": {"application/problem+json": {}}}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    401: _PROBLEM | {"description": "The server has keys, and none of them came."},
    404: _PROBLEM | {"description": "No such profile or principle set; the detail names the known ones."},
    429: _PROBLEM | {"description": "Too many requests wait already; Retry-After says when to come back."},
    413: _PROBLEM | {"description": "The body is too large."},
    422: _PROBLEM | {"description": "The request cannot be judged as it stands; nothing was generated."},
    502: _PROBLEM | {"description": "No sample could be read (rewards are null), or the engine failed."},
    503: _PROBLEM
    | {"description": "Not ready: the model is loaded, the engine brought back, or the server drained."},
    504: _PROBLEM | {"description": "timeout_s ran out before the first sample."},
}

router = APIRouter()


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


@router.post("/v1/rewards", tags=["judge"], response_model=RewardReply, responses=_RESPONSES)
async def rewards(
    request: Request,
    body: Annotated[RewardRequest, Body(openapi_examples=examples.REWARDS)],
    idempotency_key: Annotated[str | None, Header(max_length=256)] = None,
) -> Response:
    """Judge the responses to one query together: k critiques, each with its principles, and their vote.

    The same request again, at once or within minutes, gets the same verdict (`Idempotent-Replayed: true`);
    ask with another seed for a second opinion. A client that goes away has its samples cancelled. With
    `stream`, or where `text/event-stream` is accepted, it comes as events: `plan`, each `sample`, `verdict`
    or `error`.
    """
    asker = Asker(caller(request), priority=body.priority, key=idempotency_key)
    if wanted(request, body):
        return await stream(request, _service(request), body, asker)
    judging = _service(request).judge(body.to_task(), asker=asker)
    record = await while_present(request, judging)
    reply = RewardReply.of(record, body)
    left_out = {"samples"} if body.detail == "rewards" else None
    headers = {"Idempotent-Replayed": "true"} if record.replayed else None
    return JSONResponse(reply.model_dump(mode="json", exclude=left_out), headers=headers)


@router.post("/v1/principles", tags=["judge"], responses=_RESPONSES)
async def principles(
    request: Request, body: Annotated[PrinciplesRequest, Body(openapi_examples=examples.PRINCIPLES)]
) -> PrinciplesReply:
    """Write principles for a query without judging: read them, edit them, send them back as fixed ones."""
    spec = PrincipleSpec("query", body.constitution)
    writing = _service(request).principles(body.to_messages(), body.profile, spec, Asker(caller(request)))
    profile, written, usage = await while_present(request, writing)
    return PrinciplesReply(
        profile=profile.name, principles=[PrincipleOut.of(p) for p in written], usage=UsageOut.of(usage)
    )


@router.get("/v1/profiles", tags=["catalog"])
async def profiles(request: Request) -> list[ProfileOut]:
    """The judges that are known, and which of them this server's model can be."""
    service = _service(request)
    return [
        ProfileOut(
            name=profile.name,
            description=profile.description,
            model=profile.model,
            meta_rm=profile.meta_rm,
            served=service.serves(profile),
            default=profile.name == service.profile.name,
            fingerprint=fingerprint(profile),
            scale=[profile.scale.min, profile.scale.max],
            k=profile.sampling.k,
        )
        for profile in service.profiles()
    ]


@router.get("/v1/principle-sets", tags=["catalog"])
async def principle_sets(request: Request) -> list[PrincipleSetOut]:
    """The named sets of principles, as people wrote them."""
    return [
        PrincipleSetOut(
            name=named.name,
            description=named.description,
            principles=[PrincipleOut.of(p) for p in named.items()],
        )
        for named in _service(request).catalog.principle_sets.values()
    ]


@router.get("/v1/usage", tags=["operation"])
async def usage(request: Request) -> SpentOut:
    """What you have had since the server's start."""
    asking = caller(request)
    return SpentOut.of(asking.name, _service(request).spent(asking))


@router.get("/livez", tags=["operation"])
async def livez() -> dict[str, str]:
    """The process answers."""
    return {"status": "alive"}


@router.get("/readyz", tags=["operation"], responses={503: _RESPONSES[503]})
async def readyz(request: Request) -> Ready:
    """The model has produced a token, and the engine answers."""
    service = _service(request)
    service.require_ready()
    engine = service.engine
    return Ready(
        profile=service.profile.name,
        engine=engine.name,
        model=engine.model,
        chosen=service.chosen,
        lacks=engine.abilities.lacking(),
    )


@router.get("/metrics", tags=["operation"], response_class=PlainTextResponse)
async def metrics(request: Request) -> Response:
    """Counters and histograms, as Prometheus reads them."""
    return Response(_service(request).metrics.text(), media_type=CONTENT_TYPE_LATEST)
