"""HTTP as uvicorn speaks it, with bounds that it has none of: how long a request's head may take, and an answer."""

from __future__ import annotations

import socket
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import h11
from h11._readers import ContentLengthReader
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    import asyncio

HEAD_WITHIN: Final = 10.0
"""Seconds from a connection's, or a request's, first sign to the end of the request's head."""
LINGER: Final = 5.0
"""Seconds in which the rest of a request may still come that was answered before its end; so the answer is read."""
READ_WITHIN: Final = 60.0
"""Seconds within which a client has to take :data:`LEAST`, or all that is left where that is less."""
LEAST: Final = 64 << 10
"""Bytes; a tenth of what the slowest telephone takes in that time."""
_ACKNOWLEDGED: Final = struct.Struct("=120xQ")  # Linux's tcp_info as far as tcpi_bytes_acked
_TOO_SLOW: Final = (
    b"HTTP/1.1 408 Request Timeout\r\ncontent-type: text/plain\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
)


class BoundedProtocol(H11Protocol):
    """A connection that has to ask for something soon, and to take what it is sent.

    A transport that is closed first sends what it has left, without a bound: whoever takes nothing would keep it, and a
    place among the connections, for ever.
    """

    _head: asyncio.TimerHandle | None = None
    _rest: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None
    _ended = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """Wait for the first request."""
        super().connection_made(transport)
        # Writing is to be paused as long as anything is left. asyncio pauses it at so many bytes under TLS, and beyond
        # so many else.
        transport.set_write_buffer_limits(1 if self.scheme == "https" else 0, 0)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Wait for the head's end, unless it has come."""
        if self._handed_on(data):
            return
        super().data_received(data)
        if self._between():
            self._watch()
        else:
            self._unwatch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        super().connection_lost(exc)
        self._unwatch()
        for waiting in (self._rest, self._unread):
            if waiting is not None:
                waiting.cancel()

    def pause_writing(self) -> None:
        """Wait for the client to take what is left, for a while."""
        super().pause_writing()
        self._expect_reading()

    def resume_writing(self) -> None:
        """Wait for that no more. A connection that has ended says so by being lost."""
        super().resume_writing()
        if self._unread is not None and not self._ended:
            self._unread.cancel()
            self._unread = None

    def eof_received(self) -> None:
        """Wait for the client to take the rest; asyncio closes now, and under TLS without telling that it waits."""
        super().eof_received()
        self._ended = True
        self._expect_reading()

    def send_400_response(self, msg: str) -> None:
        """Say that what came is no HTTP, unless an answer is under way. Whoever makes one has nobody to read it."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:
            self.transport.close()

    def on_response_complete(self) -> None:
        """Wait for the rest of a request that was answered before its end, for a while."""
        super().on_response_complete()
        if self.conn.their_state is h11.SEND_BODY and not self.transport.is_closing():
            self._rest = self.loop.call_later(LINGER, self._give_up)

    def _handed_on(self, data: bytes) -> bool:
        """Hand on what can be nothing but a piece of a body whose length was stated; whether it was.

        On h11's way each byte is copied five times, more than half of what its way to the application takes; here it
        gets the very bytes that were received. The body's last piece, and a body in chunks, are h11's. What h11 does
        not see is counted off what it still waits for, for which there are only its own variables: pyproject.toml asks
        for the h11 that has them.
        """
        reader = self.conn._reader  # noqa: SLF001 - see above
        if (
            self.conn.their_state is not h11.SEND_BODY
            or not isinstance(reader, ContentLengthReader)
            or reader._remaining <= len(data)  # noqa: SLF001 - see above
            or self.conn.trailing_data[0]
            or self.cycle.response_complete  # h11's too, which throws it away
        ):
            return False
        reader._remaining -= len(data)  # noqa: SLF001 - see above
        self._unset_keepalive_if_required()
        self.cycle.body = self.cycle.body + data if self.cycle.body else data  # type: ignore[assignment]  # only read
        if len(self.cycle.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        self.cycle.message_event.set()
        return True

    def _between(self) -> bool:
        return self.cycle is None or (self.cycle.response_complete and self.conn.their_state is not h11.SEND_BODY)

    def _watch(self) -> None:
        if self._head is None and not self.transport.is_closing():
            self._head = self.loop.call_later(HEAD_WITHIN, self._too_slow)

    def _unwatch(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None

    def _expect_reading(self) -> None:
        if self._unread is None:
            self._unread = self.loop.call_later(READ_WITHIN, self._let_go, self._taken())

    def _let_go(self, before: int) -> None:
        """End a connection whose client has taken too little since."""
        taken = self._taken()
        if taken - before < LEAST:
            self.transport.abort()
        else:
            self._unread = self.loop.call_later(READ_WITHIN, self._let_go, taken)

    def _taken(self) -> int:
        """What grows with each byte that the client takes.

        The transport's buffer alone would not do: the kernel, which holds some megabytes, asks for more only when a
        third of these has gone, for which a slow client takes minutes. And under TLS there is another buffer below.
        """
        acknowledged = 0
        opened = self.transport.get_extra_info("socket")
        if opened is not None and hasattr(socket, "TCP_INFO"):
            with suppress(OSError, struct.error):
                told = opened.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _ACKNOWLEDGED.size)
                (acknowledged,) = _ACKNOWLEDGED.unpack(told)
        return acknowledged - self.transport.get_write_buffer_size()

    def _too_slow(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(_TOO_SLOW)
            self.transport.close()

    def _give_up(self) -> None:
        if self.conn.their_state is h11.SEND_BODY and not self.transport.is_closing():
            self.transport.close()
