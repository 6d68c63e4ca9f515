"""Authentication: an API key in a header, or in the path for clients that cannot set headers."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection
from urllib.parse import urlsplit

from fastapi import Request
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from grm_service.api.problems import problem
from grm_service.callers import NOBODY, Caller
from grm_service.serving.keys import Keys

_IN_PATH = re.compile(r"/t/([^/]+)(/.*)")
_HEALTH = ("/livez", "/readyz")
# Health checks, and pages without data: the explorer and the documentation.
_OPEN = re.compile(r"/|/(livez|readyz|web|docs|redoc|openapi\.json|static-offline-docs)(/.*)?")


class Access:
    """Middleware that admits requests with one of the keys, or all requests if there are none (`keys` None).

    With `hosts`, the Host header must be one of these names or name this machine: otherwise a web page
    could read a server without keys through the browser, by a name that resolves to 127.0.0.1 (DNS
    rebinding). Health checks, which address a container by its IP, are answered. A key in the path is removed
    from it, so that nothing downstream sees or logs it.
    """

    def __init__(self, app: ASGIApp, keys: Keys | None, hosts: Collection[str] | None = None) -> None:
        self._app, self._keys, self._hosts = app, keys, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        headers = Headers(scope=scope)
        if not (scope["path"] in _HEALTH or self._answers_to(headers.get("host", ""))):
            return await _foreign_host()(scope, receive, send)
        presented = _in_headers(headers)
        if match := _IN_PATH.fullmatch(scope["path"]):
            presented = match[1]
            scope["path"], scope["raw_path"] = match[2], match[2].encode()
        caller = self._caller(scope["path"], presented)
        if caller is None:
            return await _unauthorized(presented)(scope, receive, send)
        scope.setdefault("state", {})["caller"] = caller
        return await self._app(scope, receive, send)

    def _answers_to(self, host: str) -> bool:
        if self._hosts is None:
            return True
        try:
            name = urlsplit(f"//{host}").hostname or "localhost"
        except ValueError:
            return False
        return is_loopback(name) or name in self._hosts

    def _caller(self, path: str, presented: str | None) -> Caller | None:
        if self._keys is None or _OPEN.fullmatch(path):
            return NOBODY
        return None if presented is None else self._keys.caller(presented)


def caller(request: Request) -> Caller:
    """Return the caller of a request."""
    owner: Caller = request.state.caller
    return owner


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach the address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def allowed_hosts(keys: Keys | None, names: str) -> frozenset[str] | None:
    """Return the lower-case names of the setting GRM_ALLOWED_HOSTS; None (any host) with keys or `*`."""
    hosts = frozenset(name.strip().lower() for name in names.split(",") if name.strip())
    return None if keys is not None or "*" in hosts else hosts


def _in_headers(headers: Headers) -> str | None:
    kind, _, key = headers.get("authorization", "").partition(" ")
    return key.strip() if kind.lower() == "bearer" else headers.get("x-api-key")


def _foreign_host() -> ASGIApp:
    return problem(
        401,
        "unauthorized",
        "without API keys this server only answers requests to localhost or 127.0.0.1: set GRM_KEYS_FILE, or "
        "GRM_ALLOWED_HOSTS to the host name in the URL (*: any) if only trusted clients reach this server",
    )


def _unauthorized(presented: str | None) -> ASGIApp:
    detail = (
        "this server needs an API key: Authorization: Bearer KEY, X-API-Key: KEY, or /t/KEY before the path"
        if presented is None
        else "this API key is unknown"
    )
    refused = problem(401, "unauthorized", detail)
    refused.headers["WWW-Authenticate"] = "Bearer"
    return refused
