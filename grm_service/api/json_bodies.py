"""JSON bodies of routes: large ones are parsed and validated in a thread, deep ones are refused."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fastapi import HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect

from grm_service.api.disconnect import client_gone

MAX_DEPTH = 200
"""Levels of arrays and objects in a body; JSON replies cannot be written much deeper."""
# Threads of their own, since replies are written in asyncio's and must not wait for bodies.
_READERS = ThreadPoolExecutor(4, "json-body")
_SMALL = 2**16


class JSONRoute(APIRoute):
    """A route that reads its JSON body without holding up other requests.

    8 MiB of small values take seconds to validate.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def read(request: Request) -> Response:
            if self.body_field is None or not _is_json(request):
                return await handle(request)
            try:
                raw = await request.body()
            except ClientDisconnect:
                raise client_gone() from None
            if len(raw) <= _SMALL:
                return await handle(_Read(request, raw, _parse(raw) if raw else None))
            loop = asyncio.get_running_loop()
            return await handle(_Read(request, raw, await loop.run_in_executor(_READERS, self._read, raw)))

        return read

    def _read(self, raw: bytes) -> Any:
        """Return the body as the route's model, which FastAPI does not validate again."""
        assert self.body_field is not None
        value, errors = self.body_field.validate(_parse(raw), loc=("body",))
        if errors:
            raise RequestValidationError(errors)
        return value


class _Read(Request):
    """A request whose body has been read."""

    def __init__(self, request: Request, raw: bytes, value: Any) -> None:
        super().__init__(request.scope, request.receive)
        self._raw, self._value = raw, value

    async def body(self) -> bytes:
        return self._raw

    async def json(self) -> Any:
        return self._value


def _is_json(request: Request) -> bool:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind.startswith("application/") and kind.endswith(("/json", "+json"))


def _parse(raw: bytes) -> Any:
    """Return the parsed JSON. Raises RequestValidationError, and HTTPException if it is deep or not text."""
    try:
        value = json.loads(raw)
    except json.JSONDecodeError as wrong:
        raise not_json(wrong.msg) from None
    except RecursionError:
        raise too_deep("the body") from None
    except ValueError:  # not UTF-8, or an integer of thousands of digits
        raise HTTPException(400, "the body cannot be read: it must be JSON in UTF-8") from None
    # Most bodies have fewer brackets than levels are allowed.
    if raw.count(b"[") + raw.count(b"{") > MAX_DEPTH and _is_deep(value):
        raise too_deep("the body")
    return value


def _is_deep(value: Any) -> bool:
    """Return whether a value has more than MAX_DEPTH levels, without recursion."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [
            child
            for parent in level
            if isinstance(parent, (dict, list))
            for child in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(child, (dict, list))
        ]
        if not level:
            return False
    return True


def not_json(why: str) -> RequestValidationError:
    """Return the error of a body that is not JSON."""
    return RequestValidationError(
        [{"type": "json_invalid", "loc": ("body",), "msg": "", "ctx": {"error": why[:200]}}]
    )


def too_deep(what: str) -> HTTPException:
    """Return the error of a body with more than MAX_DEPTH levels."""
    return HTTPException(400, f"{what} is nested deeper than {MAX_DEPTH} levels: send it with fewer")
