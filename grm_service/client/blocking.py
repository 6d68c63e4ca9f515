"""The blocking client."""

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
    """AsyncClient for blocking code, with the same arguments and methods; threads may share one.

    Requests run in an event loop in a background thread, which starts with the first call. So the client
    works inside of a running event loop, all threads share one connection pool, and time limits hold however
    slowly a reply arrives.
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
        create = partial(
            AsyncClient,
            url,
            key,
            timeout_s=timeout_s,
            connect_timeout_s=connect_timeout_s,
            concurrency=concurrency,
        )
        self._factory = partial(Client, *create.args, **create.keywords)
        self._client = create()
        self._lock = threading.Lock()
        self._thread: _LoopThread | None = None

    def __reduce__(self) -> tuple[object, ...]:
        return self._factory, ()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Cancel the requests in progress and close the connections; the next call opens new ones."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None and thread.is_ours:
            thread.stop()

    def rewards(self, query: Query, responses: Sequence[Response], **options: Any) -> Verdict:
        """See AsyncClient.rewards."""
        return self._wait(self._client.rewards(query, responses, **options))

    def batch(self, items: Iterable[Mapping[str, Any]], **options: Any) -> list[Verdict | NoVerdict]:
        """See AsyncClient.batch."""
        return self._wait(self._client.batch(items, **options))

    def single(self, query: Query, response: Response, **options: Any) -> Single:
        """See AsyncClient.single."""
        return self._wait(self._client.single(query, response, **options))

    def principles(self, query: Query, **options: Any) -> WrittenPrinciples:
        """See AsyncClient.principles."""
        return self._wait(self._client.principles(query, **options))

    def _wait(self, call: Coroutine[Any, Any, Result]) -> Result:
        with self._lock:  # `close` must not stop the loop between its look-up and the scheduling
            future = asyncio.run_coroutine_threadsafe(call, self._running_thread().loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # an interrupted caller does not need the answer
            raise

    def _running_thread(self) -> _LoopThread:
        if self._thread is None or not self._thread.is_ours:
            self._thread = _LoopThread.start()
        return self._thread


@dataclass(frozen=True, slots=True)
class _LoopThread:
    """A thread that runs an event loop until it is stopped."""

    process: int
    thread: threading.Thread
    loop: asyncio.AbstractEventLoop
    stopping: asyncio.Event

    @classmethod
    def start(cls) -> _LoopThread:
        started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()

        async def run() -> None:
            stopping = asyncio.Event()
            started.set_result((asyncio.get_running_loop(), stopping))
            await stopping.wait()

        # A daemon: a client that is never closed must not keep the process alive.
        thread = threading.Thread(target=lambda: asyncio.run(run()), daemon=True, name="grm_service.client")
        thread.start()
        return cls(os.getpid(), thread, *started.result())

    @property
    def is_ours(self) -> bool:
        """True if it runs in this process: a forked process does not inherit threads."""
        return self.process == os.getpid()

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.stopping.set)
        self.thread.join()
