"""Connections that live and die with the event loop that opened them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass

import httpx

_CONNECT_S = 10.0


@dataclass(frozen=True, slots=True)
class Pool:
    """One loop's connections, and as many turns: httpx is slow at queueing, so nothing waits in there."""

    http: httpx.AsyncClient
    turns: asyncio.Semaphore
    life: AsyncGenerator[None, None]


class Connections:
    """At most `most` connections for each running event loop.

    A connection belongs to the loop that opened it: used from another it fails or hangs. Some trainers make a
    loop for every step. What a loop opened is closed when it shuts its asynchronous generators down, as
    asyncio.run does at its end.
    """

    def __init__(self, headers: Mapping[str, str], most: int) -> None:
        self._headers, self._most = headers, most
        self._pools: dict[asyncio.AbstractEventLoop, Pool] = {}

    async def here(self) -> Pool:
        """The running loop's."""
        loop = asyncio.get_running_loop()
        if loop not in self._pools:
            for ended in [known for known in self._pools if known.is_closed()]:
                del self._pools[ended]
            self._pools[loop] = self._open()
            await anext(self._pools[loop].life)
        return self._pools[loop]

    async def close(self) -> None:
        """Closes the running loop's."""
        pool = self._pools.get(asyncio.get_running_loop())
        if pool is not None:
            await pool.life.aclose()

    def _open(self) -> Pool:
        http = httpx.AsyncClient(
            headers=self._headers,
            timeout=httpx.Timeout(None, connect=_CONNECT_S),
            limits=httpx.Limits(max_connections=self._most, max_keepalive_connections=self._most),
        )
        return Pool(http, asyncio.Semaphore(self._most), self._life(http))

    async def _life(self, http: httpx.AsyncClient) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            self._pools.pop(asyncio.get_running_loop(), None)
            await http.aclose()
