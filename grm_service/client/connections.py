"""Connection pools, one for each event loop."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx

MAX_CONNECT_S = 10.0
"""The most seconds of one attempt to connect."""
_IDLE_S = 30.0  # shorter than the keep-alive of servers and proxies (ours 75 s, most 60 s)
# httpx scans the whole pool for every request: in one with 256 connections that takes most of the time.
_PER_CLIENT = 8


@dataclass(frozen=True, slots=True)
class _Pool:
    """The HTTP clients of one event loop: `free` has each as often as it may be used concurrently."""

    free: asyncio.LifoQueue[httpx.AsyncClient]
    lifetime: AsyncGenerator[None, None]


class Connections:
    """Up to `max_connections` connections for each running event loop.

    A connection belongs to the loop that opened it: used from another, it fails or hangs. Some trainers run a
    new loop for every step. Connections are closed when their loop shuts down its asynchronous generators, as
    asyncio.run does at its end. `connect_s` limits one attempt to connect, in seconds.
    """

    def __init__(self, headers: Mapping[str, str], max_connections: int, connect_s: float) -> None:
        self._headers, self._max_connections, self._connect_s = headers, max_connections, connect_s
        self._pools: dict[asyncio.AbstractEventLoop, _Pool] = {}

    @asynccontextmanager
    async def one(self) -> AsyncIterator[httpx.AsyncClient]:
        """Lend a client of the running loop; waits until one is free."""
        free = (await self._current()).free
        http = await free.get()
        try:
            yield http
        finally:
            free.put_nowait(http)

    async def close(self) -> None:
        """Close the connections of the running loop."""
        pool = self._pools.get(asyncio.get_running_loop())
        if pool is not None:
            await pool.lifetime.aclose()

    async def _current(self) -> _Pool:
        loop = asyncio.get_running_loop()
        if loop not in self._pools:
            for other in list(self._pools):  # a copy, because other threads add their own loops
                if other.is_closed():
                    self._pools.pop(other, None)
            self._pools[loop] = self._open()
            # Once started, the generator is closed by the loop's shutdown_asyncgens.
            await anext(self._pools[loop].lifetime)
        return self._pools[loop]

    def _open(self) -> _Pool:
        context = httpx.create_ssl_context()
        clients = [
            httpx.AsyncClient(
                headers=self._headers,
                verify=context,
                timeout=httpx.Timeout(None, connect=self._connect_s),
                limits=httpx.Limits(
                    max_connections=_PER_CLIENT,
                    max_keepalive_connections=_PER_CLIENT,
                    keepalive_expiry=_IDLE_S,
                ),
            )
            for _ in range(math.ceil(self._max_connections / _PER_CLIENT))
        ]
        # Last in, first out: a few concurrent requests reuse a few warm connections.
        free: asyncio.LifoQueue[httpx.AsyncClient] = asyncio.LifoQueue()
        for i in reversed(range(self._max_connections)):
            free.put_nowait(clients[i // _PER_CLIENT])
        return _Pool(free, self._lifetime(clients))

    async def _lifetime(self, clients: list[httpx.AsyncClient]) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            self._pools.pop(asyncio.get_running_loop(), None)
            for http in clients:
                await http.aclose()
