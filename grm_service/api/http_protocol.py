"""An HTTP protocol for uvicorn with timeouts for request heads, bodies already answered, and replies."""

from __future__ import annotations

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

_PATIENCE_S = 20.0
_REPLY_PATIENCE_S = 30.0
_MIN_REPLY_BYTES_S = 4096.0


class TimeoutProtocol(H11Protocol):
    """Closes connections that are slow to send a request head, or the rest of a body after its reply.

    Cuts connections whose client does not read: of what waits to be sent, it must read 4096 bytes per second
    within each 30 s. The application then sees the client disconnect, and cancels the work for it. uvicorn
    itself waits for all of these forever, so that a byte a minute would hold a connection.
    """

    _closing: asyncio.TimerHandle | None = None
    _reading: asyncio.TimerHandle | None = None

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
        self._watch_reader()  # the end of a reply can be too short to pause writing
        if early and self._closing is None:
            self._wait()  # not at once: a client still sending would see a reset instead of the reply

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_reader()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_watching()
        if self.cycle.response_complete:
            self._watch_reader()

    def connection_lost(self, exc: Exception | None) -> None:
        self._done()
        self._stop_watching()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._closing = self.loop.call_later(_PATIENCE_S, self.transport.close)

    def _done(self) -> None:
        if self._closing is not None:
            self._closing.cancel()
            self._closing = None

    def _stop_watching(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def _watch_reader(self) -> None:
        self._stop_watching()
        if unsent := self.transport.get_write_buffer_size():
            self._reading = self.loop.call_later(_REPLY_PATIENCE_S, self._check_reader, self.cycle, unsent)

    def _check_reader(self, cycle: object, unsent: int) -> None:
        """Cut the connection if too little was read of `unsent` bytes, the end of the reply so far."""
        read = unsent - self.transport.get_write_buffer_size()
        if self.cycle is cycle and read < min(unsent, _MIN_REPLY_BYTES_S * _REPLY_PATIENCE_S):
            self.transport.abort()
        else:
            self._watch_reader()
