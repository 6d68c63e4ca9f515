"""Request bodies: limits on size and time; gzip, in pieces and with a limit on its ratio."""

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
_MIN_BYTES_S = 4096.0
_TOO_SLOW = (
    f"the body arrived too slowly: nothing for {_PATIENCE_S:g} s, or less than {_MIN_BYTES_S:g} bytes per "
    f"second after {_PATIENCE_S:g} s"
)
_GZIP = 31  # wbits of zlib for a gzip header and checksum
_PIECE = 2**18
# Rows of an RL batch, which differ in a few tokens, compress by 10 to 50.
_MAX_RATIO = 100
_ANY_RATIO_BYTES = 2**20
_BOMB = (
    f"the gzip body expands by more than {_MAX_RATIO}: send it uncompressed "
    f"(beyond the first MiB, at most {_MAX_RATIO} bytes may come of one)"
)


class Body:
    """Middleware that limits request bodies and decompresses gzip.

    Rejects a body of more than `limit` bytes, compressed or not, by its Content-Length or as soon as it grows
    past it; `by_path` has other limits. Rejects a body that arrives too slowly.
    """

    def __init__(self, app: ASGIApp, limit: int, by_path: Mapping[str, int]) -> None:
        self._app, self._limit, self._by_path = app, limit, by_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        limit = self._by_path.get(scope["path"], self._limit)
        receive, headers = _in_time(receive), Headers(scope=scope)
        stated, encoding = headers.get("content-length", ""), headers.get("content-encoding", "identity")
        if stated.isdigit() and int(stated) > limit:
            await _drain(receive)
            return await problem(413, "too_large", _too_large(limit))(scope, receive, send)
        if encoding not in ("identity", "gzip"):
            await _drain(receive)
            detail = (
                f"Content-Encoding {encoding!r:.40} is not supported: send the body uncompressed or as gzip"
            )
            return await problem(415, "unsupported_encoding", detail)(scope, receive, send)
        receive = _bounded(receive, limit)
        if encoding == "gzip":
            for name in ("content-encoding", "content-length"):
                del MutableHeaders(scope=scope)[name]
            receive = _bounded(_decompressed(receive), limit)
        return await self._app(scope, receive, send)


def _too_large(limit: int) -> str:
    return f"the body is larger than {limit} bytes (GRM_MAX_BODY_BYTES, GRM_MAX_BATCH_BYTES)"


def _in_time(receive: Receive) -> Receive:
    """Return a receive function that raises a 408 if the body stalls or is too slow on average."""
    until, more = asyncio.get_running_loop().time() + _PATIENCE_S, True

    async def in_time() -> Message:
        nonlocal until, more
        at_once = asyncio.get_running_loop().time() + _PATIENCE_S
        try:
            # After the body, the next message is the client's disconnect, which may take any time.
            async with asyncio.timeout_at(min(until, at_once) if more else None):
                message = await receive()
        except TimeoutError:
            raise HTTPException(408, _TOO_SLOW) from None
        until, more = until + len(message.get("body", b"")) / _MIN_BYTES_S, message.get("more_body", False)
        return message

    return in_time


def _bounded(receive: Receive, limit: int) -> Receive:
    left = limit

    async def bounded() -> Message:
        nonlocal left
        message = await receive()
        left -= len(message.get("body", b""))
        if left < 0:
            raise HTTPException(413, _too_large(limit))
        return message

    return bounded


def _decompressed(receive: Receive) -> Receive:
    """Return a receive function of the plain body, in pieces of at most _PIECE bytes.

    It raises a 413 for a gzip bomb, and a 400 for anything but one whole gzip member.
    """
    decompressor = zlib.decompressobj(_GZIP)
    compressed, packed, plain, more = b"", 0, 0, True

    async def decompressed() -> Message:
        nonlocal compressed, packed, plain, more
        if compressed:
            await asyncio.sleep(0)  # one body of many pieces must not hold up other requests
        else:
            message = await receive()
            if message["type"] != "http.request":
                return message
            compressed, more = message.get("body", b""), message.get("more_body", False)
            packed += len(compressed)
        try:
            piece = decompressor.decompress(compressed, _PIECE)
        except zlib.error:
            raise HTTPException(400, "the body is not gzip") from None
        compressed, plain = decompressor.unconsumed_tail, plain + len(piece)
        if plain > _ANY_RATIO_BYTES and plain > _MAX_RATIO * packed:
            raise HTTPException(413, _BOMB)
        ended = not compressed and not more
        # A second member would be lost.
        if decompressor.unused_data or (ended and not decompressor.eof):
            raise HTTPException(400, "the body is not one whole gzip member")
        return {"type": "http.request", "body": piece, "more_body": not ended}

    return decompressed


async def _drain(receive: Receive, limit: int = 2**28) -> None:
    """Read and discard a rejected body: a client still sending would see a reset instead of the reply."""
    with suppress(HTTPException):  # too slow: the reply is sent all the same
        while limit > 0:
            message = await receive()
            limit -= len(message.get("body", b""))
            if not message.get("more_body"):
                return
