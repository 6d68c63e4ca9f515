"""Who asks: a key in a header, or in the path for clients that can set no header."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

from fastapi import Request
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from grm_service.api.problems import problem
from grm_service.serving.keys import Keys
from grm_service.types import NOBODY, Caller

_IN_PATH = re.compile(r"/t/([^/]+)(/.*)")
# What a probe or a load balancer asks, and a browser for pages that hold nothing: explorer, documentation.
_OPEN = re.compile(r"/|/(livez|readyz|web|docs|redoc|openapi\.json|static-offline-docs)(/.*)?")


class Access:
    """Lets in whoever has one of the keys, and everybody where there are none (`keys` None).

    With `local` a request must name this machine as its host: a name of theirs that leads here is how pages
    elsewhere would read a server without keys through a browser (DNS rebinding). A key in the path is taken
    out of it, so that nothing behind ever sees or logs it.
    """

    def __init__(self, app: ASGIApp, keys: Keys | None, local: bool = False) -> None:
        self._app, self._keys, self._local = app, keys, local

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        headers = Headers(scope=scope)
        if self._local and not _names_this_machine(headers.get("host", "")):
            return await _elsewhere()(scope, receive, send)
        presented = _in_headers(headers)
        if found := _IN_PATH.fullmatch(scope["path"]):
            presented = found[1]
            scope["path"], scope["raw_path"] = found[2], found[2].encode()
        caller = self._caller(scope["path"], presented)
        if caller is None:
            return await _refusal(presented)(scope, receive, send)
        scope.setdefault("state", {})["caller"] = caller
        return await self._app(scope, receive, send)

    def _caller(self, path: str, presented: str | None) -> Caller | None:
        if self._keys is None or _OPEN.fullmatch(path):
            return NOBODY
        return None if presented is None else self._keys.caller(presented)


def caller(request: Request) -> Caller:
    """Who asks."""
    found: Caller = request.state.caller
    return found


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _names_this_machine(host: str) -> bool:
    try:
        return is_loopback(urlsplit(f"//{host}").hostname or "localhost")
    except ValueError:
        return False


def _in_headers(headers: Headers) -> str | None:
    kind, _, key = headers.get("authorization", "").partition(" ")
    return key.strip() if kind.lower() == "bearer" else headers.get("x-api-key")


def _elsewhere() -> ASGIApp:
    return problem(
        401,
        "unauthorized",
        "without keys this server is for this machine, to be asked as localhost or 127.0.0.1: set "
        "GRM_KEYS_FILE, or GRM_ALLOW_ANYONE=true where a proxy decides who comes in",
    )


def _refusal(presented: str | None) -> ASGIApp:
    detail = (
        "this server wants an API key: Authorization: Bearer KEY, X-API-Key: KEY, or /t/KEY before the path"
        if presented is None
        else "this API key is not known here"
    )
    refused = problem(401, "unauthorized", detail)
    refused.headers["WWW-Authenticate"] = "Bearer"
    return refused
