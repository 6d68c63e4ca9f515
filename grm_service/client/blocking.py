"""The client for code that blocks."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, TypeVar

from grm_service.client.asynchronous import AsyncClient, Query, Response
from grm_service.client.failure import NoVerdict
from grm_service.client.verdict import Single, Verdict, WrittenPrinciples

Result = TypeVar("Result")


class Client:
    """AsyncClient for code that blocks, with the same arguments and methods; threads may share one.

    It asks from an event loop in a thread of its own, begun with the first question: so it works inside of
    other loops, all threads share one pool of connections, and time is kept however slowly a reply comes.
    """

    def __init__(
        self, url: str, key: str | None = None, *, timeout_s: float = 600.0, concurrency: int = 256
    ) -> None:
        self._made = partial(Client, url, key, timeout_s=timeout_s, concurrency=concurrency)
        self._asks = AsyncClient(url, key, timeout_s=timeout_s, concurrency=concurrency)
        self._changing = threading.Lock()
        self._thread: _Thread | None = None

    def __reduce__(self) -> tuple[object, ...]:
        return self._made, ()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Cancels what is under way and closes the connections; another question begins anew."""
        with self._changing:
            thread, self._thread = self._thread, None
        if thread is not None and thread.here:
            thread.end()

    def rewards(self, query: Query, responses: Sequence[Response], **options: Any) -> Verdict:
        """As AsyncClient.rewards."""
        return self._wait(self._asks.rewards(query, responses, **options))

    def batch(self, items: Iterable[Mapping[str, Any]], **options: Any) -> list[Verdict | NoVerdict]:
        """As AsyncClient.batch."""
        return self._wait(self._asks.batch(items, **options))

    def single(self, query: Query, response: str, **options: Any) -> Single:
        """As AsyncClient.single."""
        return self._wait(self._asks.single(query, response, **options))

    def principles(self, query: Query, **options: Any) -> WrittenPrinciples:
        """As AsyncClient.principles."""
        return self._wait(self._asks.principles(query, **options))

    def _wait(self, question: Coroutine[Any, Any, Result]) -> Result:
        with self._changing:  # so that a question is begun before the thread is told to end, or by the next
            asked = asyncio.run_coroutine_threadsafe(question, self._running().loop)
        try:
            return asked.result()
        except BaseException:
            asked.cancel()  # whoever interrupts the wait does not want the answer either
            raise

    def _running(self) -> _Thread:
        if self._thread is None or not self._thread.here:
            self._thread = _Thread.begun()
        return self._thread


@dataclass(frozen=True, slots=True)
class _Thread:
    """One that runs an event loop until it is told to end."""

    process: int
    thread: threading.Thread
    loop: asyncio.AbstractEventLoop
    over: asyncio.Event

    @classmethod
    def begun(cls) -> _Thread:
        started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()

        async def until_over() -> None:
            over = asyncio.Event()
            started.set_result((asyncio.get_running_loop(), over))
            await over.wait()

        thread = threading.Thread(
            target=lambda: asyncio.run(until_over()), daemon=True, name="grm_service.client"
        )
        thread.start()
        return cls(os.getpid(), thread, *started.result())

    @property
    def here(self) -> bool:
        """Whether this process runs it: a fork leaves its threads behind."""
        return self.process == os.getpid()

    def end(self) -> None:
        self.loop.call_soon_threadsafe(self.over.set)
        self.thread.join()
