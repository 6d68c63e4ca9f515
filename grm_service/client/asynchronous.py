"""The client for asynchronous code."""

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
from grm_service.client.connections import Connections
from grm_service.client.failure import NoVerdict, failure, unreadable
from grm_service.client.verdict import Single, Verdict, WrittenPrinciples, single, verdict, written

Query = str | Sequence[Mapping[str, str]]
Response = str | Mapping[str, str]
Result = TypeVar("Result")
Read = Callable[[Mapping[str, Any]], Result]
Requested = tuple[str, bytes]
"""A path with its query, and the body."""

logger = logging.getLogger(__name__)
_GRACE_S = 5.0


class AsyncClient:
    """Asks one service, with at most `concurrency` requests at once for each event loop.

    `timeout_s` bounds one judgement, further tries included (at most 3600): the service is told, and votes
    the samples at hand when it runs out. A service that is busy, starting or cannot be reached is asked
    again until then, after its `Retry-After` where it gives one; a judgement that failed is tried three
    times. Every try sends the same bytes, so that what was judged already is not judged again; after a
    refusal, when nothing was, it says how much time is left.

    A context manager, and usable without: what an event loop opened is closed at its end. It may be kept
    from one loop to the next, shared by threads that run loops of their own, and pickled.
    """

    def __init__(
        self, url: str, key: str | None = None, *, timeout_s: float = 600.0, concurrency: int = 256
    ) -> None:
        self._made = partial(AsyncClient, url, key, timeout_s=timeout_s, concurrency=concurrency)
        self._url, self._timeout_s, self._concurrency = url.rstrip("/"), timeout_s, concurrency
        headers = {"Content-Type": "application/json"}
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        self._connections = Connections(headers, concurrency)

    def __reduce__(self) -> tuple[object, ...]:
        return self._made, ()  # without its connections

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connections of the running event loop."""
        await self._connections.close()

    async def rewards(self, query: Query, responses: Sequence[Response], **options: Any) -> Verdict:
        """The verdict on 1 to 64 responses to a query, judged together.

        `query` is a text, or the conversation up to the responses as messages with `role` and `content`;
        `options` are fields of `POST /v1/rewards` (`k`, `principles`, `reference`, `timeout_s`, ...).
        Raises NoVerdict.
        """
        return await self._judged({"query": query, "responses": responses, **options})

    async def batch(self, items: Iterable[Mapping[str, Any]], **options: Any) -> list[Verdict | NoVerdict]:
        """What became of each item, in their order: its verdict, or why there is none.

        An item has `query` and `responses`, and options of its own, which go before the common ones. The time
        of each begins with its turn, of which there are `concurrency` at once.
        """
        turns = asyncio.Semaphore(self._concurrency)

        async def result(item: Mapping[str, Any]) -> Verdict | NoVerdict:
            async with turns:
                try:
                    return await self._judged({**options, **item})
                except NoVerdict as failed:
                    return failed

        async with asyncio.TaskGroup() as group:
            results = [group.create_task(result(item)) for item in items]
        return [each.result() for each in results]

    async def single(
        self,
        query: Query,
        response: str,
        *,
        reference: str | None = None,
        group_id: str | None = None,
        **options: Any,
    ) -> Single:
        """The reward of one response, judged with its siblings, which others send: see docs/rl-loops.md.

        A group is told by its query, and by `group_id` where there is one. `options` are those of a URL:
        `group` (the group's size), `window_s`, `k`, `transform`, ... Raises NoVerdict.
        """
        timeout_s = options.setdefault("timeout_s", self._timeout_s)
        wish = urlencode({name: value for name, value in options.items() if value is not None})
        said = {"query": query, "response": response, "reference": reference, "group_id": group_id}
        # The same at every try: options, time among them, tell the group as well.
        asked = f"/v1/rewards/single?{wish}", _encoded(_body(said))
        return await self._ask(lambda left_s: asked, timeout_s, single)

    async def principles(self, query: Query, **options: Any) -> WrittenPrinciples:
        """Principles for a query, judging nothing: to be read, edited and sent back. Raises NoVerdict."""
        asked = "/v1/principles", _encoded(_body({"query": query, **options}))
        return await self._ask(lambda left_s: asked, self._timeout_s, written)

    async def _judged(self, asked: Mapping[str, Any]) -> Verdict:
        body = _body(asked)
        return await self._ask(
            lambda left_s: ("/v1/rewards", _encoded({**body, "timeout_s": left_s})),
            body.get("timeout_s", self._timeout_s),
            lambda said: verdict(said, len(body["responses"])),
        )

    async def _ask(self, ask: Callable[[float], Requested], timeout_s: float, read: Read[Result]) -> Result:
        """`ask` gives what is sent where so many seconds are left."""
        clock, asked = asyncio.get_running_loop().time, ask(timeout_s)
        until = clock() + timeout_s
        failed: NoVerdict | None = None
        try:
            # When the time is up the service answers with what it has: that is waited for.
            async with asyncio.timeout_at(until + _GRACE_S):
                for tries in count(1):
                    try:
                        return _read(await self._send(*asked), read)
                    except NoVerdict as why:
                        failed = why
                    await _before_another(failed, tries, until)
                    if failed.refused:
                        asked = ask(round(max(0.001, until - clock()), 3))
        except TimeoutError:
            before = f"; before that, {failed}" if failed else ""
            detail = f"{self._url} gave no answer within {timeout_s:g} s{before}"
            raise NoVerdict("out_of_time", detail, retryable=True) from None
        raise AssertionError("not reached: tries do not end")

    async def _send(self, path: str, content: bytes) -> httpx.Response:
        try:
            async with self._connections.one() as http:
                return await http.post(self._url + path, content=content)
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as wrong:
            raise NoVerdict("unreachable", f"{self._url!r} is no address: {wrong}") from None
        except httpx.HTTPError as lost:
            why = str(lost) or type(lost).__name__
            raise NoVerdict("unreachable", f"{self._url} cannot be reached: {why}", retryable=True) from None


def _body(asked: Mapping[str, Any]) -> dict[str, Any]:
    """As it goes over the wire: there a conversation has a field of its own."""
    name_of = {"query": "query" if isinstance(asked.get("query"), str) else "messages"}
    # In its order: a proxy tells groups by how the body begins (examples/replicas.nginx.conf).
    return {name_of.get(name, name): value for name, value in asked.items() if value is not None}


def _encoded(body: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(body, allow_nan=False).encode()
    except (TypeError, ValueError) as wrong:
        raise NoVerdict("invalid_request", f"the request cannot be written as JSON: {wrong}") from None


def _read(reply: httpx.Response, read: Read[Result]) -> Result:
    if reply.status_code != httpx.codes.OK:
        raise failure(reply)
    try:
        return read(reply.json())
    except (ValueError, TypeError, KeyError) as wrong:
        raise unreadable(reply, wrong) from None


async def _before_another(failed: NoVerdict, tries: int, until: float) -> None:
    """Waits as long as is asked for; raises `failed` where another try is not worth it or comes too late."""
    wait_s = backoff.pause_s(failed.retry_after_s, tries)
    if not failed.worth_another(tries) or asyncio.get_running_loop().time() + wait_s > until:
        raise failed
    level = logging.WARNING if failed.code == "unreachable" else logging.INFO
    logger.log(level, "trying again in %.1f s: %s", wait_s, failed)
    await asyncio.sleep(wait_s)
