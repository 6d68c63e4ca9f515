"""JSON bodies of routes: large ones are read in a thread, deep ones and those of many objects are refused."""

from __future__ import annotations

import asyncio
import json
import re
from codecs import BOM_UTF8
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

from fastapi import HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json, to_json
from starlette.requests import ClientDisconnect

from grm_service.api.disconnect import client_gone
from grm_service.concurrency import off_the_loop

T = TypeVar("T")
P = ParamSpec("P")

MAX_DEPTH = 200
"""Levels of arrays and objects in a body; JSON replies cannot be written much deeper."""
# Threads of their own, since replies are written in asyncio's and must not wait for bodies.
_READERS = ThreadPoolExecutor(2, "json-body")
_SMALL = 2**16
# 16 rows of a trainer with 10,000 tokens each have 500,000 numbers; lists, objects and fields cost far more.
_MAX_PARTS, _MAX_VALUES = 2**18, 2**20
_TEXTS = rb'(?:[^"%s]++|"(?:[^"\\]++|\\.)*+")*+[%s]'
_MAX_ERRORS = 1000


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
        """Return the body as the route's model, which FastAPI does not validate again.

        Raises RequestValidationError, and HTTPException.
        """
        assert self.body_field is not None
        assert self.body_field.field_info.annotation is not None
        model = TypeAdapter[Any](self.body_field.field_info.annotation)
        try:
            return model.validate_python(_parse_large(raw))
        except ValidationError as wrong:
            if wrong.error_count() > _MAX_ERRORS:  # a kilobyte each
                many = f"{wrong.error_count()} fields or values of the body are unknown or invalid: see /docs"
                raise HTTPException(422, many) from None
            errors = [error | {"loc": ("body", *error["loc"])} for error in wrong.errors()]
            raise RequestValidationError(errors) from None


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
    if raw.count(b"[") + raw.count(b"{") > MAX_DEPTH:
        _check_depth(value)
    return value


def _check_depth(value: Any) -> None:
    """Raises HTTPException if a value has more than MAX_DEPTH levels."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        parents = (parent.values() if isinstance(parent, dict) else parent for parent in level)
        level = [child for parent in parents for child in parent if isinstance(child, (dict, list))]
        if not level:
            return
    raise too_deep("the body")


def _parse_large(raw: bytes) -> Any:
    """Return the parsed JSON, as `_parse` does; by a parser that is ten times faster with numbers.

    Parsing holds up all threads. Raises HTTPException also for too many values.
    """
    _check_number(raw, b"[{:", _MAX_PARTS, "lists, objects and fields")
    _check_number(raw, b",", _MAX_VALUES, "values")
    try:
        return from_json(raw.removeprefix(BOM_UTF8))
    except ValueError as wrong:
        if "recursion limit" in str(wrong):  # it is MAX_DEPTH
            raise too_deep("the body") from None
        raise not_json(str(wrong)) from None


def _check_number(raw: bytes, signs: bytes, most: int, what: str) -> None:
    """Raises HTTPException if a body has `most` of some characters or more outside its texts."""
    if sum(raw.count(sign) for sign in signs) < most:  # texts included
        return
    chars = re.escape(signs)
    to_sign, end = re.compile(_TEXTS % (chars, chars), re.DOTALL), 0
    for _ in range(most):
        if (sign := to_sign.match(raw, end)) is None:
            return
        end = sign.end()
    raise HTTPException(413, f"the body has {most} {what} or more: send fewer rows at once")


async def in_proportion(request: Request, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return the result of work that grows with the body of a request: in a thread if the body is large."""
    return await off_the_loop(len(await request.body()), work, *args, **kwargs)


def json_reply(value: object) -> Response:
    """Return a reply with a value as JSON."""
    return Response(to_json(value), media_type="application/json")


def not_json(why: str) -> RequestValidationError:
    """Return the error of a body that is not JSON."""
    return RequestValidationError(
        [{"type": "json_invalid", "loc": ("body",), "msg": "", "ctx": {"error": why[:200]}}]
    )


def too_deep(what: str) -> HTTPException:
    """Return the error of a body with more than MAX_DEPTH levels."""
    return HTTPException(400, f"{what} is nested deeper than {MAX_DEPTH} levels: send it with fewer")
