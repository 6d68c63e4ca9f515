"""HTTP requests with retries: a 429, a 5xx or a dropped connection is retried, honouring Retry-After.

Change here which responses are retried (`_check_status`), how often and for how long (`_MAX_ATTEMPTS`,
`_MAX_PAUSE_S`, `RetryingClient._request`); the pause between attempts is `grm_service.backoff.pause_s`.
"""

from __future__ import annotations

import asyncio
import math
import re
from itertools import count
from typing import Any

import httpx

from grm_service import backoff, tracing
from grm_service.errors import BadTask, EngineError, EngineUnreachable, PromptTooLong
from grm_service.types import Params

_MAX_ATTEMPTS = 3
_MAX_PAUSE_S = 30.0
# For every request, httpx scans all connections of the client's pool and polls their sockets: with 512
# connections in one pool that took 16 ms of CPU time a sample, with pools of 8 it takes 1.6.
_CONNECTIONS_PER_CLIENT = 8


class RequestRejected(EngineError):
    """The server rejected the request (4xx other than 401, 403 and 429). It is not retried."""

    retryable = False


class TransientError(EngineUnreachable):
    """A failure that is retried: no connection, a dropped connection, 429 or 5xx.

    `status` is None if there was no response. `retry_after_s` is the server's Retry-After, 0 if it sent none.
    """

    def __init__(self, message: str, status: int | None = None, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after_s = retry_after_s


class RetryingClient:
    """An HTTP client for one server that retries transient failures and bounds concurrent requests.

    `timeout_s` limits one request, retries included. At most `connections` requests are in flight; more wait
    here, so it should be at least what the server can batch.
    """

    def __init__(
        self,
        url: str,
        api_key: str | None,
        timeout_s: float,
        connections: int,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self._timeout_s = timeout_s
        context = httpx.create_ssl_context()
        self._clients = [
            httpx.AsyncClient(
                headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
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
        """Return the JSON object at a path. Raises RequestRejected, EngineUnreachable, EngineError."""
        return await self._request("GET", path)

    async def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Post a JSON body and return the JSON object of the reply; cancelling closes the connection.

        Raises as `get` does.
        """
        return await self._request("POST", path, json=body)

    async def close(self) -> None:
        for client in self._clients:
            await client.aclose()

    async def _request(self, method: str, path: str, **content: Any) -> dict[str, Any]:
        """Send a request, retrying transient failures while attempts and time remain."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout_s
        try:
            async with asyncio.timeout_at(deadline):
                for attempt in count(1):
                    try:
                        return _json_object(await self._send_once(method, path, **content))
                    except TransientError as error:
                        pause_s = backoff.pause_s(error.retry_after_s, attempt)
                        # Fail now instead of after a pause that leaves no time for another attempt.
                        if attempt == _MAX_ATTEMPTS or pause_s > min(_MAX_PAUSE_S, deadline - loop.time()):
                            raise
                    await asyncio.sleep(pause_s)
        except (TimeoutError, httpx.TimeoutException):
            pass
        raise EngineUnreachable(f"{self.url} did not answer in time")

    async def _send_once(self, method: str, path: str, **content: Any) -> httpx.Response:
        client = await self._slots.get()
        try:
            reply = await client.request(method, self.url + path, headers=tracing.trace_headers(), **content)
        except httpx.TimeoutException:
            raise
        except httpx.HTTPError as error:
            raise TransientError(f"{self.url} cannot be reached: {error or type(error).__name__}") from None
        finally:
            self._slots.put_nowait(client)
        self._check_status(reply)
        return reply

    def _check_status(self, reply: httpx.Response) -> None:
        """Raise TransientError for a status to retry, RequestRejected or EngineError for other errors."""
        status = reply.status_code
        if status < 400:
            return
        if status == 429 or status >= 500:
            retry_after_s = backoff.retry_after_s(reply.headers.get("retry-after"))
            raise TransientError(f"{self.url} answered {status}: {_excerpt(reply)}", status, retry_after_s)
        if status in (401, 403):
            raise EngineError(
                f"{self.url} refused the key ({status}): check GRM_OPENAI_API_KEY, GRM_POLICY_API_KEY or "
                "GRM_META_RM_API_KEY"
            )
        raise RequestRejected(f"{self.url} refused the request ({status}): {_excerpt(reply)}")


def prompt_too_long(error: RequestRejected, params: Params) -> BadTask | None:
    """Return PromptTooLong if a rejection is about the context length, None if it is not.

    Returns a plain BadTask if the sizes cannot be parsed from the server's message.
    """
    message = str(error)
    if not _LENGTH.search(message):
        return None
    context, prompt = (_first_number(patterns, message) for patterns in (_CONTEXT, _PROMPT))
    if context is None or prompt is None:
        return BadTask(message)
    return PromptTooLong(prompt, params.max_tokens, context)


# The error messages of vLLM, SGLang and llama.cpp's server.
_LENGTH = re.compile(r"context (?:length|size)|max_model_len|too long", re.IGNORECASE)
_CONTEXT = (r"context (?:length|size)\D{0,20}(\d+)",)
_PROMPT = (
    r"(\d+) (?:input tokens|tokens from the input|in the messages)",
    r"(?:input|request) \((\d+) tokens",
)


def _first_number(patterns: tuple[str, ...], text: str) -> int | None:
    match = next(filter(None, (re.search(pattern, text) for pattern in patterns)), None)
    return None if match is None else int(match[1])


def _json_object(reply: httpx.Response) -> dict[str, Any]:
    try:
        body = reply.json()
    except ValueError:
        raise EngineError(f"{reply.url} returned a body that is not JSON: {_excerpt(reply)}") from None
    if not isinstance(body, dict):
        raise EngineError(f"{reply.url} returned JSON that is not an object: {_excerpt(reply)}")
    return body


def _excerpt(reply: httpx.Response) -> str:
    return " ".join(reply.text.split())[:500]
