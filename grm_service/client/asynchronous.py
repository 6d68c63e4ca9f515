"""The asynchronous client."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import count
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import urlencode

import httpx

from grm_service import backoff
from grm_service.addresses import without_credentials
from grm_service.client.connections import MAX_CONNECT_S, Connections
from grm_service.client.failure import NoVerdict, parse_failure, unreadable_reply
from grm_service.client.verdict import (
    Single,
    Verdict,
    WrittenPrinciples,
    parse_principles,
    parse_single,
    parse_verdict,
)
from grm_service.content import NotText
from grm_service.plain_values import plain, to_reference
from grm_service.types import Message

Turn = Message | Mapping[str, Any]
Query = str | Sequence[Turn]
Response = str | Turn | Sequence[Turn]
Result = TypeVar("Result")
Parser = Callable[[Mapping[str, Any]], Result]
Request = tuple[str, bytes]
"""The path with its query string, and the body."""
BuildRequest = Callable[[float], Request]
"""Builds the request for a number of remaining seconds."""

logger = logging.getLogger(__name__)
_GRACE_S = 5.0


class AsyncClient:
    """A client for one service, with at most `concurrency` concurrent requests per event loop.

    `timeout_s` is the time limit of one judgement in seconds, retries included (at most 3600). The service
    gets it with the request, and votes over the finished samples when it passes. If the service is busy,
    starting or unreachable, the client retries until then, and honours `Retry-After`; a failed judgement is
    tried three times. If the service has never answered this client, it gives up after `connect_timeout_s`
    seconds: the address is probably wrong. Every try sends the same bytes, so the service does not repeat a
    finished judgement; only after a refusal, when nothing was judged, does the next try state the remaining
    time.

    Can be used as a context manager. Without one, connections are closed when their event loop ends. One
    client can serve several event loops, one after the other or in several threads, and can be pickled.
    """

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        timeout_s: float = 600.0,
        connect_timeout_s: float = 30.0,
        concurrency: int = 256,
    ) -> None:
        self._factory = partial(
            AsyncClient,
            url,
            key,
            timeout_s=timeout_s,
            connect_timeout_s=connect_timeout_s,
            concurrency=concurrency,
        )
        self._url, self._timeout_s, self._concurrency = url.rstrip("/"), timeout_s, concurrency
        self._connect_timeout_s, self._was_reached = connect_timeout_s, False
        self._shown = without_credentials(self._url)
        headers = {"Content-Type": "application/json"}
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        self._connections = Connections(headers, concurrency, min(MAX_CONNECT_S, connect_timeout_s))

    def __reduce__(self) -> tuple[object, ...]:
        return self._factory, ()  # without its connections

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections of the running event loop."""
        await self._connections.close()

    async def rewards(self, query: Query, responses: Sequence[Response], **options: Any) -> Verdict:
        """Judge 1 to 64 responses to a query together and return the verdict.

        `query` is a text, or the conversation before the responses as messages; a response is a text, a turn
        or the turns of a trajectory, in the shapes of `POST /v1/rewards`, whose values may be numpy's.
        `options` are its fields (`k`, `principles`, `reference`, `timeout_s`, ...).
        Raises NoVerdict.
        """
        return await self._judge({"query": query, "responses": responses, **options})

    async def batch(self, items: Iterable[Mapping[str, Any]], **options: Any) -> list[Verdict | NoVerdict]:
        """Judge many items, `concurrency` at a time, and return a verdict or the failure for each, in order.

        An item has `query` and `responses`, and may have options of its own, which override the common ones.
        The time limit of an item starts when it is sent.
        """
        semaphore = asyncio.Semaphore(self._concurrency)

        async def result(item: Mapping[str, Any]) -> Verdict | NoVerdict:
            async with semaphore:
                try:
                    return await self._judge({**options, **item})
                except NoVerdict as failure:
                    return failure

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(result(item)) for item in items]
        return [task.result() for task in tasks]

    async def single(
        self,
        query: Query,
        response: Response,
        *,
        reference: object = None,
        group_id: str | None = None,
        **options: Any,
    ) -> Single:
        """Return the reward of one response, judged with the other responses of its group.

        The others are separate calls (see docs/rl-loops.md). The query identifies the group, with `group_id`
        if there is one. `options` are query parameters of `POST /v1/rewards/single`: `group` (the size of the
        group), `window_s`, `k`, `transform`, ... Raises NoVerdict.
        """
        timeout_s = options.setdefault("timeout_s", self._timeout_s)
        parameters = urlencode({name: value for name, value in options.items() if value is not None})
        fields = {"query": query, "response": response, "reference": reference, "group_id": group_id}
        # The same for every try: the options, timeout_s included, identify the group as well.
        request = f"/v1/rewards/single?{parameters}", _encode(_body(fields))
        return await self._retry(lambda left_s: request, timeout_s, parse_single)

    async def principles(self, query: Query, **options: Any) -> WrittenPrinciples:
        """Return principles that the model writes for a query; nothing is judged.

        They can be edited and sent with `rewards`. Raises NoVerdict.
        """
        request = "/v1/principles", _encode(_body({"query": query, **options}))
        return await self._retry(lambda left_s: request, self._timeout_s, parse_principles)

    async def _judge(self, fields: Mapping[str, Any]) -> Verdict:
        body = _body(fields)
        return await self._retry(
            lambda left_s: ("/v1/rewards", _encode({**body, "timeout_s": left_s})),
            body.get("timeout_s", self._timeout_s),
            lambda reply: parse_verdict(reply, len(body["responses"])),
        )

    async def _retry(self, build: BuildRequest, timeout_s: float, parse: Parser[Result]) -> Result:
        """Send a request until it succeeds, fails for good, or the time limit passes."""
        clock, request = asyncio.get_running_loop().time, build(timeout_s)
        deadline = clock() + timeout_s
        connected_by = clock() + min(timeout_s, self._connect_timeout_s)
        failure: NoVerdict | None = None
        try:
            # At the deadline the service answers with a vote over the finished samples: allow for that.
            async with asyncio.timeout_at(deadline + _GRACE_S):
                for tries in count(1):
                    try:
                        return _parse(await self._send(*request), parse)
                    except NoVerdict as error:
                        failure = error
                    await _pause(failure, tries, deadline if self._was_reached else connected_by)
                    if failure.refused:
                        request = build(round(max(0.001, deadline - clock()), 3))
        except TimeoutError:
            last = f"; the last failure: {failure}" if failure else ""
            detail = f"{self._shown} did not answer within {timeout_s:g} s{last}"
            raise NoVerdict("out_of_time", detail, retryable=True) from None
        raise AssertionError("unreachable: the loop does not end")

    async def _send(self, path: str, content: bytes) -> httpx.Response:
        try:
            async with self._connections.one() as http:
                reply = await http.post(self._url + path, content=content)
                self._was_reached = True
                return reply
        except (httpx.InvalidURL, httpx.UnsupportedProtocol):  # the text may quote a part of a password
            what = "is not a valid URL, such as http://HOST:PORT"
            raise NoVerdict("unreachable", f"{self._shown!r} {what}") from None
        except httpx.HTTPError as error:
            why = without_credentials(str(error)) or type(error).__name__
            hint = "" if self._was_reached else "; is the address right, and is the service running?"
            detail = f"{self._shown} cannot be reached: {why}{hint}"
            raise NoVerdict("unreachable", detail, retryable=True) from None


def _body(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body of a request: without None, and with a conversation as `messages`. Raises NoVerdict."""
    wire_names = {"query": "query" if isinstance(fields.get("query"), str) else "messages"}
    try:
        fields = {**fields, "reference": to_reference(fields.get("reference"))}
    except NotText as error:
        raise NoVerdict("invalid_request", f"the reference {error}") from None
    # The order matters: a proxy routes groups by the first fields of the body (examples/replicas.nginx.conf).
    return {wire_names.get(name, name): value for name, value in fields.items() if value is not None}


def _encode(body: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(body, allow_nan=False, default=_encodable).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise NoVerdict("invalid_request", f"the request cannot be encoded as JSON: {error}") from None


def _encodable(value: object) -> object:
    converted = plain(value)
    if converted is value:
        raise TypeError(f"a value of type {type(value).__name__}")
    return converted


def _parse(reply: httpx.Response, parse: Parser[Result]) -> Result:
    if reply.status_code != httpx.codes.OK:
        raise parse_failure(reply)
    try:
        return parse(reply.json())
    except (ValueError, TypeError, KeyError) as error:
        raise unreadable_reply(reply, error) from None


async def _pause(failure: NoVerdict, tries: int, deadline: float) -> None:
    """Wait before the next try. Raises `failure` if no retry is due, or none is possible in time."""
    wait_s = backoff.pause_s(failure.retry_after_s, tries)
    if not failure.worth_another(tries) or asyncio.get_running_loop().time() + wait_s > deadline:
        raise failure
    level = logging.WARNING if failure.code == "unreachable" else logging.INFO
    logger.log(level, "retrying in %.1f s: %s", wait_s, failure)
    await asyncio.sleep(wait_s)
