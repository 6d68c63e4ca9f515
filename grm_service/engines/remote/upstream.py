"""A server over HTTP that may stumble: what is tried again, for how long, and what its refusals mean."""

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

_TRIES = 3
_PATIENCE_S = 30.0
# httpx looks through a client's whole pool, and at each of its sockets, for every request: with 512
# connections in one that took 16 ms of processor time a sample, in pools of 8 it takes 1.6.
_EACH = 8


class Refused(EngineError):
    """The server calls the request wrong (4xx): trying again does not help."""

    retryable = False


class Stumbled(EngineUnreachable):
    """Worth another try: no connection, a dropped one, 429 or 5xx. `pause_s` is what the server asks for."""

    def __init__(self, said: str, status: int | None = None, pause_s: float = 0.0) -> None:
        super().__init__(said)
        self.status = status
        self.pause_s = pause_s


class Upstream:
    """The paths under one address. `timeout_s` bounds one question, its further tries included.

    There are `connections`: fewer would silently queue what the server could batch.
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
                limits=httpx.Limits(max_connections=_EACH, max_keepalive_connections=_EACH),
                transport=transport,
            )
            for _ in range(math.ceil(connections / _EACH))
        ]
        # Every client as often as it may be used at once; the one used last is the next.
        self._turns: asyncio.LifoQueue[httpx.AsyncClient] = asyncio.LifoQueue()
        for turn in reversed(range(connections)):
            self._turns.put_nowait(self._clients[turn // _EACH])

    async def get(self, path: str) -> dict[str, Any]:
        """The JSON object at a path. Raises Refused, EngineUnreachable, EngineError."""
        return await self._ask("GET", path)

    async def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """The answer to a JSON body; cancelling closes the connection. Raises as `get` does."""
        return await self._ask("POST", path, json=body)

    async def close(self) -> None:
        for client in self._clients:
            await client.aclose()

    async def _ask(self, method: str, path: str, **content: Any) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        until = loop.time() + self._timeout_s
        try:
            async with asyncio.timeout_at(until):
                for attempt in count(1):
                    try:
                        return _object(await self._send(method, path, **content))
                    except Stumbled as stumbled:
                        pause_s = backoff.pause_s(stumbled.pause_s, attempt)
                        if attempt == _TRIES or pause_s > min(_PATIENCE_S, until - loop.time()):
                            raise
                    await asyncio.sleep(pause_s)
        except (TimeoutError, httpx.TimeoutException):
            pass
        raise EngineUnreachable(f"{self.url} did not answer in time")

    async def _send(self, method: str, path: str, **content: Any) -> httpx.Response:
        client = await self._turns.get()
        try:
            reply = await client.request(method, self.url + path, headers=tracing.trace_headers(), **content)
        except httpx.TimeoutException:
            raise
        except httpx.HTTPError as failed:
            raise Stumbled(f"{self.url} cannot be reached: {failed or type(failed).__name__}") from None
        finally:
            self._turns.put_nowait(client)
        status = reply.status_code
        if status < 400:
            return reply
        if status == 429 or status >= 500:
            pause_s = backoff.retry_after_s(reply.headers.get("retry-after"))
            raise Stumbled(f"{self.url} answered {status}: {_said(reply)}", status, pause_s)
        if status in (401, 403):
            raise EngineError(
                f"{self.url} refused the key ({status}): check GRM_OPENAI_API_KEY, GRM_POLICY_API_KEY or "
                "GRM_META_RM_API_KEY"
            )
        raise Refused(f"{self.url} refused the request ({status}): {_said(reply)}")


def too_long(refused: Refused, params: Params) -> BadTask | None:
    """A refusal for the prompt's length as PromptTooLong, or as BadTask where its sizes cannot be read."""
    said = str(refused)
    if not _LENGTH.search(said):
        return None
    context, prompt = (_first(patterns, said) for patterns in (_CONTEXT, _PROMPT))
    if context is None or prompt is None:
        return BadTask(said)
    return PromptTooLong(prompt, params.max_tokens, context)


# As vLLM, SGLang and llama.cpp's server put it.
_LENGTH = re.compile(r"context (?:length|size)|max_model_len|too long", re.IGNORECASE)
_CONTEXT = (r"context (?:length|size)\D{0,20}(\d+)",)
_PROMPT = (
    r"(\d+) (?:input tokens|tokens from the input|in the messages)",
    r"(?:input|request) \((\d+) tokens",
)


def _first(patterns: tuple[str, ...], said: str) -> int | None:
    found = next(filter(None, (re.search(pattern, said) for pattern in patterns)), None)
    return None if found is None else int(found[1])


def _object(reply: httpx.Response) -> dict[str, Any]:
    try:
        body = reply.json()
    except ValueError:
        raise EngineError(f"{reply.url} answered with something that is not JSON: {_said(reply)}") from None
    if not isinstance(body, dict):
        raise EngineError(f"{reply.url} answered with JSON that is not an object: {_said(reply)}")
    return body


def _said(reply: httpx.Response) -> str:
    return " ".join(reply.text.split())[:500]
