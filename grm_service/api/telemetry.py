"""Every request has an id: in its reply and in every line logged on its behalf, joined to a trace."""

from __future__ import annotations

import asyncio
import logging
import re
import time
import uuid
from contextvars import ContextVar

from pythonjsonlogger.json import JsonFormatter
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from grm_service import tracing
from grm_service.api.problems import ProblemReply, problem_of, unexpected_problem
from grm_service.errors import Draining
from grm_service.serving.service import Service

logger = logging.getLogger(__name__)
_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
# Asked every few seconds, and no work: they have no span and are not in flight.
_PROBES = {"/livez", "/readyz", "/metrics"}
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_context: ContextVar[dict[str, str]] = ContextVar("request", default={})  # noqa: B039  never written to


class Telemetry:
    """Names, times, counts, traces and logs each request; answers it where a bug of ours did not, and where
    the time for draining is over before it is done.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service, self._metrics = app, service, service.metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        named = _named(Headers(scope=scope))
        _context.set(named)
        if scope["path"] in _PROBES:
            return await self._answered(scope, receive, send, named, tracing.Span())
        about = {"http.request.method": scope["method"], "grm.request_id": named["request_id"]}
        with (
            self._metrics.requests_in_flight.track_inprogress(),
            tracing.span(scope["method"], about, "SERVER", Headers(scope=scope)) as span,
        ):
            if span.trace_id is not None:
                named["trace_id"] = span.trace_id
            await self._answered(scope, receive, send, named, span)
        return None

    async def _answered(
        self, scope: Scope, receive: Receive, send: Send, named: dict[str, str], span: tracing.Span
    ) -> None:
        began, status = time.perf_counter(), None

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-ID"] = named["request_id"]
            await send(message)

        try:
            await self._app(scope, receive, sent)
        except Exception as bug:
            if status is not None:
                raise  # too late for an answer: the connection is cut
            await unexpected_problem(_route(scope), bug)(scope, receive, sent)
        except asyncio.CancelledError:
            if status is not None or not self._service.draining:
                raise
            await problem_of(Draining("this server was shut down in the middle: ask another"))(
                scope, receive, sent
            )
        finally:
            self._tell(scope, status or 500, time.perf_counter() - began, span)

    def _tell(self, scope: Scope, status: int, seconds: float, span: tracing.Span) -> None:
        route, problem = _route(scope), scope.get("state", {}).get("problem")
        self._metrics.requests.labels(route, str(status)).inc()
        self._metrics.request_seconds.labels(route).observe(seconds)
        span.name(f"{scope['method']} {route}")
        span.note({"http.route": route, "http.response.status_code": status})
        if isinstance(problem, ProblemReply):
            span.note({"error.type": problem.code})
            if scope["path"] not in _PROBES and _turned_away(problem):
                self._metrics.rejected.labels(problem.reason).inc()
        if status >= 500:
            span.fail("internal" if problem is None else problem.code)
        logger.info("%s %s %d %.3f s", scope["method"], route, status, seconds)


def _route(scope: Scope) -> str:
    """What was routed knows its pattern; anything else is one and the same unknown."""
    return getattr(scope.get("route"), "path", "unknown")


def _turned_away(problem: ProblemReply) -> bool:
    """Whether the service would not take the request, rather than failed at it (499: its client left)."""
    return problem.status_code < 499 or problem.status_code == 503 or problem.reason == "shed"


class _OfTheRequest(logging.Filter):
    """Adds the request's id, and its trace's, to what is logged on its behalf."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.__dict__.update(_context.get())
        return True


def log_json() -> None:
    """From now on every line logged is a JSON object."""
    for handler in logging.getLogger().handlers:
        handler.setFormatter(
            JsonFormatter(
                "{asctime}{levelname}{name}{message}",
                style="{",
                rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
            )
        )
        handler.addFilter(_OfTheRequest())


def _named(headers: Headers) -> dict[str, str]:
    own = headers.get("x-request-id", "")
    named = {"request_id": own if _ID.fullmatch(own) else uuid.uuid4().hex}
    if found := _TRACEPARENT.fullmatch(headers.get("traceparent", "")):
        named["trace_id"] = found[1]
    return named
