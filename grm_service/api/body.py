"""A request's body on its way in: bounded, and unpacked where it came packed."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Mapping
from contextlib import suppress

from fastapi import HTTPException
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from grm_service.api.problems import problem

_PATIENCE_S = 30.0
_LEAST_BYTES_S = 4096.0
_TOO_SLOW = (
    f"the body came too slowly: nothing for {_PATIENCE_S:g} s, or after {_PATIENCE_S:g} s fewer than "
    f"{_LEAST_BYTES_S:g} bytes a second on the whole"
)
_GZIP = 31  # zlib's number for gzip's own header and checksum


class Body:
    """Refuses a body of more than `most` bytes, packed or unpacked: by its stated length, or as soon as it
    grows past it. `by_path` holds other bounds. Refuses one that comes too slowly. Unpacks gzip.
    """

    def __init__(self, app: ASGIApp, most: int, by_path: Mapping[str, int]) -> None:
        self._app, self._most, self._by_path = app, most, by_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        most = self._by_path.get(scope["path"], self._most)
        receive, headers = _in_time(receive), Headers(scope=scope)
        stated, encoding = headers.get("content-length", ""), headers.get("content-encoding", "identity")
        if stated.isdigit() and int(stated) > most:
            await _drain(receive)
            return await problem(413, "too_large", _too_large(most))(scope, receive, send)
        if encoding not in ("identity", "gzip"):
            await _drain(receive)
            detail = f"the body is encoded as {encoding!r:.40}: send it plain, or as gzip"
            return await problem(415, "unsupported_encoding", detail)(scope, receive, send)
        receive = _bounded(receive, most)
        if encoding == "gzip":
            for name in ("content-encoding", "content-length"):
                del MutableHeaders(scope=scope)[name]
            receive = _bounded(_unpacked(receive, most), most)
        return await self._app(scope, receive, send)


def _too_large(most: int) -> str:
    return f"the body is larger than {most} bytes (GRM_MAX_BODY_BYTES, GRM_MAX_BATCH_BYTES)"


def _in_time(receive: Receive) -> Receive:
    """Gives up a body that stops for long, or that comes too slowly on the whole, however large it is."""
    until, more = asyncio.get_running_loop().time() + _PATIENCE_S, True

    async def in_time() -> Message:
        nonlocal until, more
        at_once = asyncio.get_running_loop().time() + _PATIENCE_S
        try:
            # Once the body is there, what is waited for is the client's leaving.
            async with asyncio.timeout_at(min(until, at_once) if more else None):
                message = await receive()
        except TimeoutError:
            raise HTTPException(408, _TOO_SLOW) from None
        until, more = until + len(message.get("body", b"")) / _LEAST_BYTES_S, message.get("more_body", False)
        return message

    return in_time


def _bounded(receive: Receive, most: int) -> Receive:
    left = most

    async def bounded() -> Message:
        nonlocal left
        message = await receive()
        left -= len(message.get("body", b""))
        if left < 0:
            raise HTTPException(413, _too_large(most))
        return message

    return bounded


def _unpacked(receive: Receive, most: int) -> Receive:
    unpacking = zlib.decompressobj(_GZIP)

    async def unpacked() -> Message:
        message = await receive()
        if message["type"] != "http.request":
            return message
        try:
            # One byte more than is allowed: the bound behind refuses it, and a bomb stays packed.
            plain = unpacking.decompress(message.get("body", b""), most + 1)
        except zlib.error:
            raise HTTPException(400, "the body is not gzip") from None
        whole = unpacking.eof and not unpacking.unused_data  # a second member would be left out
        if not message.get("more_body") and not whole and len(plain) <= most:
            raise HTTPException(400, "the body is not one whole gzip member")
        return {**message, "body": plain}

    return unpacked


async def _drain(receive: Receive, most: int = 2**28) -> None:
    """Reads a refused body away: a client that is still sending sees a reset connection, not the answer."""
    with suppress(HTTPException):  # too slow: it has its answer all the same
        while most > 0:
            message = await receive()
            most -= len(message.get("body", b""))
            if not message.get("more_body"):
                return
