"""Connections of HTTP, bounded in number and in time: a client that stops in the middle holds nothing for long.

uvicorn has a time for connections that are kept alive between requests, and none for those on which a request begins
and never ends, or whose answer nobody reads.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

__all__ = ["Connection", "mistaken"]

MAX_CONNECTIONS = 256
REQUEST_S = 30.0
"""For a whole request to come in; also for what still comes of one that is answered already."""
UNREAD_S = 60.0
"""For a client to go on reading an answer."""
_IDLE_S = 75.0
MADE_ROOM_S = 1.0
"""For how long one must have been idle to be closed for a new one: whoever connects gets to send."""

mistaken: dict[str, int] = {}
"""Connections that began with another protocol, by code: they never come to be requests."""

# How a client of HTTP/2 begins (RFC 9113 section 3.4), and one of TLS: with a handshake record (RFC 8446 section 5.1).
_BEGINNINGS = {b"PRI * HTTP/2.0": "grpc_here", b"\x16\x03": "tls_here"}

_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\nconnection: close\r\n"
    b'\r\n{"error": {"code": "busy", "message": "too many connections at once: send it again"}}\n'
)
_SLOW = (
    b"HTTP/1.1 408 Request Timeout\r\ncontent-type: application/json\r\nconnection: close\r\n"
    b'\r\n{"error": {"code": "too_slow", "message": "the request did not come in time"}}\n'
)


class Connection(H11Protocol):
    """One of them. By h11, also where uvicorn finds a faster parser: that one holds headers without end."""

    _waiting: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None
    _lingering = False
    _begun = False
    _active_s = 0.0
    """When something came last, or an answer ended, by the loop's clock."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(cast(asyncio.Transport, _Transport(self, transport)))
        self._active_s = self.loop.time()
        if len(self.connections) > MAX_CONNECTIONS and not self._make_room():
            transport.write(_FULL)
            transport.close()
        else:
            self._wait(REQUEST_S)

    def _make_room(self) -> bool:
        """Closes the connection that has been idle for longest; False if none has been for long enough."""
        others = (one for one in cast(set[Connection], self.connections) if one is not self and one._idle())
        longest = min(others, key=lambda one: one._active_s, default=self)
        if longest is self or longest._active_s > self.loop.time() - MADE_ROOM_S:
            return False
        longest.transport.close()
        return True

    def _idle(self) -> bool:
        """Whether no request is under way, nor its answer."""
        states = self.conn.our_state, self.conn.their_state
        return states == (h11.IDLE, h11.IDLE) and not self.conn.trailing_data[0] and not self.transport.is_closing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._wait(None)
        self.resume_writing()
        super().connection_lost(exc)

    def linger(self) -> None:
        """Takes, and lets go of, what still comes of a body that nobody wants."""
        self._lingering = True
        self.transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        self._active_s = self.loop.time()
        if not self._begun:
            self._begun = True
            for beginning, code in _BEGINNINGS.items():
                if data.startswith(beginning):
                    mistaken[code] = mistaken.get(code, 0) + 1
        if not self._lingering:
            super().data_received(data)

    def on_response_complete(self) -> None:
        self._active_s = self.loop.time()
        super().on_response_complete()

    def handle_events(self) -> None:
        super().handle_events()
        if self._lingering:
            return
        if self.transport.is_closing() or self.conn.their_state in (h11.DONE, h11.MUST_CLOSE, h11.ERROR):
            self._wait(None)
        elif self.conn.their_state is h11.SEND_BODY or self.conn.trailing_data[0]:
            if self._waiting is None:
                self._wait(REQUEST_S)
        elif self.timeout_keep_alive_task is None:
            # What came last was the rest of a body that nobody wanted, and has ended uvicorn's timer.
            self._wait(_IDLE_S)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._unread is None:
            self._unread = self.loop.call_later(UNREAD_S, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _wait(self, seconds: float | None) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
        self._waiting = self.loop.call_later(seconds, self._late) if seconds is not None else None

    def _late(self) -> None:
        self._waiting = None
        if self.conn.their_state is not h11.IDLE:
            self.transport.abort()
            return
        if self.conn.trailing_data[0]:
            self.transport.write(_SLOW)
        self.transport.close()


class _Transport:
    """The transport, which ends with the answer and not before it is read.

    A connection that is closed with bytes unread is reset, and many a client then loses the answer. So where the client
    is still sending, our side alone is closed, and what comes is let go of until the client has closed its own.
    """

    def __init__(self, connection: Connection, transport: asyncio.Transport) -> None:
        self._connection = connection
        self._transport = transport
        self._ended = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        return self._ended or self._transport.is_closing()

    def close(self) -> None:
        if self.is_closing():
            return
        self._ended = True
        if self._connection.conn.their_state is h11.SEND_BODY and self._connection.cycle.response_complete:
            self._transport.write_eof()
            self._connection.linger()
        else:
            self._transport.close()
