"""Every request has an id: in its reply and in every line logged on its behalf, joined to a trace."""

from __future__ import annotations

import logging
import re
import time
import uuid
from contextvars import ContextVar

from pythonjsonlogger.json import JsonFormatter
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from grm_service.metrics import Metrics

logger = logging.getLogger(__name__)
_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_context: ContextVar[dict[str, str]] = ContextVar("request", default={})  # noqa: B039  never written to


class Telemetry:
    """Names, times, counts and logs each request."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        named = _named(Headers(scope=scope))
        _context.set(named)
        began, status = time.perf_counter(), 500

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-ID"] = named["request_id"]
            await send(message)

        try:
            await self._app(scope, receive, sent)
        finally:
            seconds = time.perf_counter() - began
            # What was routed knows its pattern; anything else is one and the same unknown.
            route = getattr(scope.get("route"), "path", "unknown")
            self._metrics.requests.labels(route, str(status)).inc()
            self._metrics.request_seconds.labels(route).observe(seconds)
            logger.info("%s %s %d %.3f s", scope["method"], route, status, seconds)
        return None


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
