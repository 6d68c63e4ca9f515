"""The FastAPI application of a service."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI, Request
from fastapi_offline import FastAPIOffline

from grm_service.api import batch, explorer, improve, probes, problems, reference, reviews
from grm_service.api.access import Access
from grm_service.api.body import Body
from grm_service.api.dialects.registry import ALL_DIALECTS, DialectRegistry
from grm_service.api.reading import Reader
from grm_service.api.routes import router
from grm_service.api.spool import Spools
from grm_service.api.telemetry import Telemetry
from grm_service.errors import BadTask
from grm_service.improving.policy import Policy
from grm_service.probes.runner import NEVER, ProbeRunner, Schedule
from grm_service.serving.keys import Keys
from grm_service.serving.service import Service
from grm_service.version import __version__

logger = logging.getLogger(__name__)
OnStarted = Callable[[Exception | None], Awaitable[None]]
DESCRIPTION = """
The reward service that explains itself. A generative reward model writes principles for your query,
critiques the responses against them and scores each 1 to 10; k samples are voted.

Failures return an error with a reason, never a score.
"""


def create_app(
    service: Service,
    max_body_bytes: int,
    max_batch_bytes: int,
    keys: Keys | None = None,
    hosts: Collection[str] | None = None,
    on_started: OnStarted | None = None,
    schedule: Schedule = NEVER,
    dialects: DialectRegistry = ALL_DIALECTS,
    policy: Policy | None = None,
) -> FastAPI:
    """Return the application of a service; with `policy` None, the judge's own engine writes drafts.

    `hosts`: the only host names, besides localhost, that requests may be addressed to; None: any.

    The model loads while /livez already answers; `on_started` is called with None once it is ready, or with
    the error that stopped it. From then on the probes run on their schedule.
    """

    policy, runner = policy or Policy(service), ProbeRunner(service, schedule)

    async def start() -> None:
        failed: Exception | None = None
        try:
            await service.start(patient=True)
        except Exception as error:
            logger.debug("the service could not start", exc_info=error)
            failed = error
        if on_started is not None:
            await on_started(failed)
        if failed is None:
            await runner.keep_running()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        starting = asyncio.create_task(start())
        yield
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await policy.close()
        await service.close()

    app: FastAPI = FastAPIOffline(  # for its static files; the pages are in reference.py
        docs_url=None,
        redoc_url=None,
        servers=reference.SERVERS,
        dependencies=[Depends(_reject_repeated_parameters)],
        title="grm-service",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        # FastAPI's own telemetry exports whole paths, with keys, and exception texts: see tracing.py.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
        openapi_tags=[
            {"name": "judge", "description": "Rewards, principles and improved answers."},
            {"name": "dialects", "description": "The wire formats of RL frameworks and inference servers."},
            {"name": "oversight", "description": "Recorded verdicts, reviews and probes."},
            {"name": "catalog", "description": "Profiles and principle sets of this server."},
            {"name": "operation", "description": "Health, metrics and usage."},
        ],
    )
    app.state.service = service
    app.state.policy = policy
    app.state.probe_runner = runner
    app.state.reader = Reader()
    app.state.spools = Spools(max_batch_bytes, max_body_bytes)
    app.include_router(router)
    app.include_router(improve.router)
    app.include_router(batch.router)
    app.include_router(reviews.router)
    app.include_router(probes.router)
    app.include_router(explorer.router)
    app.include_router(reference.router)
    dialects.install(app, service)
    app.add_middleware(Body, limit=max_body_bytes, by_path={batch.PATH: max_batch_bytes})
    app.add_middleware(Access, keys=keys, hosts=hosts)
    app.add_middleware(Telemetry, service=service)
    problems.install(app)
    return app


def _reject_repeated_parameters(request: Request) -> None:
    """Raise BadTask if the URL has a parameter twice, of which one value would be ignored."""
    for name, count in Counter(name for name, _ in request.query_params.multi_items()).items():
        if count > 1:
            raise BadTask(f"the parameter {name!r:.40} is in the URL {count} times: write it once")
