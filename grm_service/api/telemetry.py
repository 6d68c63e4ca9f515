"""Request ids, logs, metrics and traces of every request."""

from __future__ import annotations

import asyncio
import logging
import re
import time
import uuid
from contextvars import ContextVar
from http import HTTPMethod

from pythonjsonlogger.json import JsonFormatter
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from grm_service import tracing
from grm_service.api.problems import ProblemReply, problem_of, unexpected_problem
from grm_service.errors import Draining
from grm_service.log_lines import SAFE_LINES, holds_key
from grm_service.serving.service import Service

logger = logging.getLogger(__name__)
_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
# Polled every few seconds: without a span, and not counted as in flight.
_HEALTH_CHECKS = {"/livez", "/readyz", "/metrics"}
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_context: ContextVar[dict[str, str]] = ContextVar("request", default={})  # noqa: B039  never written to


class Telemetry:
    """Middleware that identifies, times, counts, traces and logs each request.

    It also replies if a bug raised an exception, or if draining ran out of time before the request finished.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service, self._metrics = app, service, service.metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        ids = _ids(Headers(scope=scope))
        _context.set(ids)
        if scope["path"] in _HEALTH_CHECKS:
            return await self._handle(scope, receive, send, ids, tracing.Span())
        about: tracing.Attributes = {
            "http.request.method": _method(scope),
            "grm.request_id": ids["request_id"],
        }
        with (
            self._metrics.requests_in_flight.track_inprogress(),
            tracing.span(_method(scope), about, "SERVER", Headers(scope=scope)) as span,
        ):
            if span.trace_id is not None:
                ids["trace_id"] = span.trace_id
            await self._handle(scope, receive, send, ids, span)
        return None

    async def _handle(
        self, scope: Scope, receive: Receive, send: Send, ids: dict[str, str], span: tracing.Span
    ) -> None:
        began, status = time.perf_counter(), None

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-ID"] = ids["request_id"]
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except Exception as bug:
            if status is not None:
                raise  # the reply has begun: cut the connection
            await unexpected_problem(_route(scope), bug)(scope, receive, send_with_id)
        except asyncio.CancelledError:
            if status is not None or not self._service.draining:
                raise
            interrupted = Draining("this server shut down during the request: send it to another one")
            await problem_of(interrupted)(scope, receive, send_with_id)
        finally:
            self._record(scope, status or 500, time.perf_counter() - began, span)

    def _record(self, scope: Scope, status: int, seconds: float, span: tracing.Span) -> None:
        route, problem = _route(scope), scope.get("state", {}).get("problem")
        self._metrics.requests.labels(route, str(status)).inc()
        self._metrics.request_seconds.labels(route).observe(seconds)
        span.name(f"{_method(scope)} {route}")
        span.note({"http.route": route, "http.response.status_code": status})
        if isinstance(problem, ProblemReply):
            span.note({"error.type": problem.code})
            if scope["path"] not in _HEALTH_CHECKS and _is_rejection(problem):
                self._metrics.rejected.labels(problem.reason).inc()
        if status >= 500:
            span.fail("internal" if problem is None else problem.code)
        logger.info("%s %s %d %.3f s", _method(scope), route, status, seconds)


def _method(scope: Scope) -> str:
    """Return the method of a request, for an unknown one, which may be any text, OpenTelemetry's name."""
    method: str = scope["method"]
    return method if method in HTTPMethod.__members__ else "_OTHER"


def _route(scope: Scope) -> str:
    """Return the pattern of the matched route, "unknown" for anything else."""
    return getattr(scope.get("route"), "path", "unknown")


def _is_rejection(problem: ProblemReply) -> bool:
    """Return whether the service rejected the request, rather than failed at it (499: the client left)."""
    return problem.status_code < 499 or problem.status_code == 503 or problem.reason == "shed"


class _RequestIds(logging.Filter):
    """Adds the ids of request and trace to every line logged for it."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.__dict__.update(_context.get())
        return True


def log_json() -> None:
    """Log JSON objects, one per line, from now on."""
    for handler in logging.getLogger().handlers:
        handler.setFormatter(
            JsonFormatter(
                "{asctime}{levelname}{name}{message}",
                style="{",
                rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
            )
        )
        handler.addFilter(SAFE_LINES)
        handler.addFilter(_RequestIds())


def _ids(headers: Headers) -> dict[str, str]:
    own = headers.get("x-request-id", "")
    ids = {"request_id": own if _ID.fullmatch(own) and not holds_key(own) else uuid.uuid4().hex}
    if match := _TRACEPARENT.fullmatch(headers.get("traceparent", "")):
        ids["trace_id"] = match[1]
    return ids
