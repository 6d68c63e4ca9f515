"""The bodies of a server's replies: bounded in bytes, also unpacked, and parsed as plain JSON."""

from __future__ import annotations

import json
import math
import zlib
from typing import Any

import httpx

ACCEPTED = {"Accept-Encoding": "gzip"}
"""The request headers for the encodings that `read_body` reads."""
# The longest texts that are read have 2**20 characters, which take up to 12 bytes each. Logprobs are only
# requested for a few tokens.
_MAX_BYTES = 16 * 2**20
_MAX_VALUES = 2**19  # so many take some 0.1 s to parse, during which no other request runs
_MAX_LINES = 1000  # of events, which no request asks for
_MAX_DIGITS = 40
_GZIP = 31  # wbits of zlib for a gzip header and checksum


class Unreadable(Exception):
    """A body cannot be read. `excerpt`: its first characters, "" if they are of no use."""

    def __init__(self, why: str, excerpt: str = "") -> None:
        super().__init__(why)
        self.excerpt = excerpt


async def read_body(reply: httpx.Response) -> bytes:
    """Return the bytes of a streamed reply, unpacked. Raises Unreadable, httpx.HTTPError."""
    encoding = reply.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity", "gzip", "x-gzip"):
        raise Unreadable(f"a body in the encoding {encoding!r:.40}, which was not requested")
    decompressor, body = zlib.decompressobj(_GZIP) if encoding.endswith("gzip") else None, bytearray()
    async for chunk in reply.aiter_bytes() if decompressor is None else reply.aiter_raw():
        # At most one byte over the limit is unpacked, so that a small body cannot fill the memory.
        body += chunk if decompressor is None else _unpacked(decompressor, chunk, _MAX_BYTES - len(body) + 1)
        if len(body) > _MAX_BYTES:
            raise Unreadable(f"more than {_MAX_BYTES} bytes")
    if decompressor is not None and not decompressor.eof:
        raise Unreadable("a body that ends within its gzip member")
    return bytes(body)


def _unpacked(decompressor: zlib._Decompress, chunk: bytes, max_bytes: int) -> bytes:
    try:
        return decompressor.decompress(chunk, max_bytes)
    except zlib.error:
        raise Unreadable("a body that is not gzip, as its header says") from None


def parse_body(body: bytes) -> Any:
    """Return the JSON value of a body, or the error that server-sent events report. Raises Unreadable."""
    if body.lstrip().startswith((b"data:", b"event:", b"id:", b"retry:", b":")):
        return _error_event(body)
    return _parse(body)


def _error_event(body: bytes) -> Any:
    """Return the first error among server-sent events."""
    is_error = False
    for line in body.split(b"\n", _MAX_LINES)[:_MAX_LINES]:
        field, _, value = line.partition(b":")
        if field == b"event":
            is_error = value.strip() == b"error"
        elif field == b"data" and value.strip() != b"[DONE]":
            try:
                event = _parse(value)
            except Unreadable:
                if not is_error:
                    raise
                return {"error": value.decode("utf-8", "replace")}
            if is_error or (isinstance(event, dict) and event.get("error")):
                return event if isinstance(event, dict) and "error" in event else {"error": event}
    raise Unreadable("a stream of events, though none was requested: turn streaming off there")


def _parse(body: bytes) -> Any:
    if sum(map(body.count, (b",", b"[", b"{"))) > _MAX_VALUES:  # those in texts count, too
        raise Unreadable(f"JSON with more than {_MAX_VALUES} commas and brackets")
    try:
        return json.loads(body, parse_constant=_refuse, parse_float=_finite, parse_int=_moderate)
    except RecursionError:
        raise Unreadable("JSON that is nested too deeply") from None
    except ValueError as error:
        excerpt = body[:2000].decode("utf-8", "replace")
        why = str(error) if isinstance(error, _BadNumber) else "a body that is not JSON"
        raise Unreadable(why, excerpt) from None


class _BadNumber(ValueError):
    pass


def _refuse(constant: str) -> Any:
    raise _BadNumber(f"JSON with {constant}, which is not a number of JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise _BadNumber("JSON with a number that is too large")
    return number


def _moderate(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise _BadNumber("JSON with a number that is too large")
    return int(digits)
