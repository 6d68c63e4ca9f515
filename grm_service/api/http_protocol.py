"""An HTTP protocol for uvicorn with timeouts for request heads and for bodies already answered."""

from __future__ import annotations

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

_PATIENCE_S = 20.0


class TimeoutProtocol(H11Protocol):
    """Closes connections that are slow to send a request head, or the rest of a body after its reply.

    uvicorn itself waits for both forever, so that a byte a minute would hold a connection.
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
            self._wait()  # not at once: a client still sending would see a reset instead of the reply

    def connection_lost(self, exc: Exception | None) -> None:
        self._done()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._closing = self.loop.call_later(_PATIENCE_S, self.transport.close)

    def _done(self) -> None:
        if self._closing is not None:
            self._closing.cancel()
            self._closing = None
