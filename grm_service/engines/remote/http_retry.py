"""HTTP requests with retries: a 429, a 5xx or a dropped connection is retried, honouring Retry-After.

Change here which responses are retried (`_failure`), how often and for how long (`_MAX_ATTEMPTS`,
`_MAX_PAUSE_S`, `RetryingClient._request`); the pause between attempts is `grm_service.backoff.pause_s`. The
meaning of a server's errors is in error_replies.py, the reading of a reply's body in reply_bodies.py.
"""

from __future__ import annotations

import asyncio
import json
import math
import reprlib
from itertools import count
from typing import Any

import httpx

from grm_service import backoff, tracing
from grm_service.addresses import without_credentials
from grm_service.concurrency import off_the_loop
from grm_service.engines.remote.error_replies import ErrorReply, find_error
from grm_service.engines.remote.reply_bodies import ACCEPTED, Unreadable, parse_body, read_body
from grm_service.errors import EngineError, EngineUnreachable, GRMError, UpstreamDenied

_MAX_ATTEMPTS = 3
_MAX_ATTEMPTS_IF_BUSY = 5  # after a 429: the server is up, and its limits are often those of a minute
_MAX_PAUSE_S = 30.0
# For every request, httpx scans all connections of the client's pool and polls their sockets: with 512
# connections in one pool that took 16 ms of CPU time a sample, with pools of 8 it takes 1.6.
_CONNECTIONS_PER_CLIENT = 8


class TransientError(EngineUnreachable):
    """A failure that is retried: no connection, a dropped connection, 429 or 5xx.

    `status` is None if there was no response. `retry_after_s` is the server's Retry-After, 0 if it sent none.
    """

    def __init__(
        self, message: str, reason: str = "", status: int | None = None, retry_after_s: float = 0.0
    ) -> None:
        super().__init__(message, reason)
        self.status = status
        self.retry_after_s = retry_after_s


class RetryingClient:
    """An HTTP client for one server that retries transient failures and bounds concurrent requests.

    `timeout_s` limits one request, retries included. At most `connections` requests are in flight; more wait
    here, so it should be at least what the server can batch. A user name and password in `url` are used for
    basic authentication; the attribute `url` is without them.
    """

    def __init__(
        self,
        url: str,
        api_key: str | None,
        timeout_s: float,
        connections: int,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._address = url.rstrip("/")
        self.url = without_credentials(self._address)
        self._timeout_s = timeout_s
        context = httpx.create_ssl_context()
        self._clients = [
            httpx.AsyncClient(
                headers=ACCEPTED | ({"Authorization": f"Bearer {api_key}"} if api_key else {}),
                verify=context,
                timeout=httpx.Timeout(timeout_s, connect=10.0),
                limits=httpx.Limits(
                    max_connections=_CONNECTIONS_PER_CLIENT, max_keepalive_connections=_CONNECTIONS_PER_CLIENT
                ),
                transport=transport,
            )
            for _ in range(math.ceil(connections / _CONNECTIONS_PER_CLIENT))
        ]
        # One slot per connection. Last in, first out, so that warm connections are reused.
        self._slots: asyncio.LifoQueue[httpx.AsyncClient] = asyncio.LifoQueue()
        for slot in reversed(range(connections)):
            self._slots.put_nowait(self._clients[slot // _CONNECTIONS_PER_CLIENT])

    async def get(self, path: str) -> dict[str, Any]:
        """Return the JSON object at a path. Raises UpstreamRefused, PromptTooLong, EngineError."""
        return await self._request("GET", path)

    async def post(self, path: str, body: dict[str, Any], chars: int = 0) -> dict[str, Any]:
        """Post a JSON body, whose texts have `chars` characters, and return the JSON object of the reply.

        Cancelling closes the connection. Raises as `get` does.
        """
        max_tokens = body.get("max_tokens") or body.get("max_completion_tokens") or 0
        return await self._request("POST", path, await off_the_loop(chars, _encoded, body), max_tokens)

    async def close(self) -> None:
        for client in self._clients:
            await client.aclose()

    async def _request(
        self, method: str, path: str, body: bytes = b"", max_tokens: int = 0
    ) -> dict[str, Any]:
        """Send a request, retrying transient failures while attempts and time remain."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout_s
        try:
            async with asyncio.timeout_at(deadline):
                for attempt in count(1):
                    try:
                        return await self._send_once(method, path, body, max_tokens)
                    except TransientError as error:
                        pause_s = backoff.pause_s(error.retry_after_s, attempt)
                        most = _MAX_ATTEMPTS_IF_BUSY if error.status == 429 else _MAX_ATTEMPTS
                        # Fail now instead of after a pause that leaves no time for another attempt.
                        if attempt == most or pause_s > min(_MAX_PAUSE_S, deadline - loop.time()):
                            raise
                    await asyncio.sleep(pause_s)
        except (TimeoutError, httpx.TimeoutException):
            pass
        raise EngineUnreachable(f"{self.url} did not answer in time")

    async def _send_once(self, method: str, path: str, content: bytes, max_tokens: int) -> dict[str, Any]:
        client = await self._slots.get()
        url, headers = self._address + path, tracing.trace_headers()
        if content:
            headers = {"Content-Type": "application/json", **headers}
        try:
            async with client.stream(method, url, headers=headers, content=content or None) as reply:
                body = await read_body(reply)
            # httpx ties a reply to its stream in a cycle: its request would be freed late.
            reply.stream = httpx.ByteStream(b"")
        except httpx.TimeoutException:
            raise
        except httpx.InvalidURL:  # its text may quote a part of a password
            what = (
                "is not an address, such as http://HOST:PORT/v1 (in a password, write / as %2F and @ as %40)"
            )
            raise UpstreamDenied(f"{self.url} {what}") from None
        except httpx.HTTPError as error:
            why = without_credentials(str(error)) or type(error).__name__
            raise TransientError(f"{self.url} cannot be reached: {why}") from None
        except Unreadable as unreadable:
            raise EngineError(f"{self.url}{path} returned {unreadable}", unreadable.excerpt) from None
        finally:
            self._slots.put_nowait(client)
        return self._object(path, reply, body, max_tokens)

    def _object(self, path: str, reply: httpx.Response, text: bytes, max_tokens: int) -> dict[str, Any]:
        """Return the JSON object of a reply. Raises the error that its status or body reports."""
        status, retry_after_s = reply.status_code, backoff.retry_after_s(reply.headers.get("retry-after"))
        try:
            body = parse_body(text)
        except Unreadable as unreadable:
            if status < 300:
                raise EngineError(f"{self.url}{path} returned {unreadable}", unreadable.excerpt) from None
            body = unreadable.excerpt
        if reply.has_redirect_location:  # not followed: the key is not for other servers
            body = f"to {without_credentials(reply.headers['location'])}"
        error = find_error(body) if status < 300 else ErrorReply.of(body, status)
        if error is not None:
            raise self._failure(error, retry_after_s, max_tokens)
        if not isinstance(body, dict):
            raise EngineError(f"{self.url}{path} returned JSON that is not an object", reprlib.repr(body))
        return body

    def _failure(self, error: ErrorReply, retry_after_s: float, max_tokens: int) -> GRMError:
        """Return a permanent refusal, TransientError for what is retried, or EngineError if it is unclear."""
        if (refusal := error.refusal(self.url, max_tokens)) is not None:
            return refusal
        if error.status is None:
            return EngineError(f"{self.url} answered with an error ({error.summary})", error.reason)
        message = f"{self.url} answered {error.summary}"
        return TransientError(message, error.reason, error.status, retry_after_s)


def _encoded(body: dict[str, Any]) -> bytes:
    return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
