"""A request's body on its way in: bounded, and unpacked where it came packed."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Mapping

from fastapi import HTTPException
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from grm_service.api.problems import problem

_PATIENCE_S = 30.0
_GZIP = 31  # zlib's number for gzip's own header and checksum


class Body:
    """Refuses a body of more than `most` bytes, packed or unpacked: by its stated length, or as soon as it
    grows past it. `by_path` holds other bounds. Unpacks gzip.
    """

    def __init__(self, app: ASGIApp, most: int, by_path: Mapping[str, int]) -> None:
        self._app, self._most, self._by_path = app, most, by_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        most = self._by_path.get(scope["path"], self._most)
        headers = Headers(scope=scope)
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


def _bounded(receive: Receive, most: int) -> Receive:
    left, more = most, True

    async def bounded() -> Message:
        nonlocal left, more
        try:
            # Once the body is there, what is waited for is the client's leaving.
            async with asyncio.timeout(_PATIENCE_S if more else None):
                message = await receive()
        except TimeoutError:
            raise HTTPException(408, f"nothing of the body came for {_PATIENCE_S:g} s") from None
        left, more = left - len(message.get("body", b"")), message.get("more_body", False)
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
    while most > 0:
        message = await receive()
        most -= len(message.get("body", b""))
        if not message.get("more_body"):
            return
