"""Connections that send their request's head in time, and end it soon once it is answered, or are closed."""

from __future__ import annotations

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

_PATIENCE_S = 20.0


class PromptProtocol(H11Protocol):
    """uvicorn waits for ever for the rest of a head, and of a body that has its answer already (such as 408):
    a byte a minute would hold a connection.
    """

    _closing: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before:
            self._done()
        elif self.conn.their_state is h11.IDLE and self._closing is None:
            self._wait()

    def on_response_complete(self) -> None:
        early = self.conn.their_state is h11.SEND_BODY
        super().on_response_complete()
        if early and self._closing is None:
            self._wait()  # not at once: one that still sends would see a reset instead of the answer

    def connection_lost(self, exc: Exception | None) -> None:
        self._done()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._closing = self.loop.call_later(_PATIENCE_S, self.transport.close)

    def _done(self) -> None:
        if self._closing is not None:
            self._closing.cancel()
            self._closing = None
