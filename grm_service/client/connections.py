"""Connections that live and die with the event loop that opened them."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx

_CONNECT_S = 10.0
_IDLE_S = 30.0  # less than what servers and proxies allow (ours 75, most 60)
# httpx looks through the whole pool for every request: in one of 256 connections that takes most of the time.
_EACH = 8


@dataclass(frozen=True, slots=True)
class _Pool:
    """One loop's connections: `turns` has every client as often as it may be used at once."""

    turns: asyncio.LifoQueue[httpx.AsyncClient]
    life: AsyncGenerator[None, None]


class Connections:
    """At most `most` connections for each running event loop.

    A connection belongs to the loop that opened it: used from another it fails or hangs. Some trainers make a
    loop for every step. What a loop opened is closed when it shuts its asynchronous generators down, as
    asyncio.run does at its end.
    """

    def __init__(self, headers: Mapping[str, str], most: int) -> None:
        self._headers, self._most = headers, most
        self._pools: dict[asyncio.AbstractEventLoop, _Pool] = {}

    @asynccontextmanager
    async def one(self) -> AsyncIterator[httpx.AsyncClient]:
        """A turn at one of the running loop's."""
        turns = (await self._here()).turns
        http = await turns.get()
        try:
            yield http
        finally:
            turns.put_nowait(http)

    async def close(self) -> None:
        """Closes the running loop's."""
        pool = self._pools.get(asyncio.get_running_loop())
        if pool is not None:
            await pool.life.aclose()

    async def _here(self) -> _Pool:
        loop = asyncio.get_running_loop()
        if loop not in self._pools:
            for known in list(self._pools):  # a copy, since other threads have loops of their own
                if known.is_closed():
                    self._pools.pop(known, None)
            self._pools[loop] = self._open()
            await anext(self._pools[loop].life)
        return self._pools[loop]

    def _open(self) -> _Pool:
        context = httpx.create_ssl_context()
        clients = [
            httpx.AsyncClient(
                headers=self._headers,
                verify=context,
                timeout=httpx.Timeout(None, connect=_CONNECT_S),
                limits=httpx.Limits(
                    max_connections=_EACH, max_keepalive_connections=_EACH, keepalive_expiry=_IDLE_S
                ),
            )
            for _ in range(math.ceil(self._most / _EACH))
        ]
        turns: asyncio.LifoQueue[httpx.AsyncClient] = asyncio.LifoQueue()
        for turn in reversed(range(self._most)):
            turns.put_nowait(clients[turn // _EACH])
        return _Pool(turns, self._life(clients))

    async def _life(self, clients: list[httpx.AsyncClient]) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            self._pools.pop(asyncio.get_running_loop(), None)
            for http in clients:
                await http.aclose()
