"""HTTP/1.1 on the wire, with an end to everything that a client could go on with for ever.

uvicorn waits for a request as long as its sender likes, and keeps headers of any length. Here a
request that has begun must be complete within `REQUEST_WITHIN_S`, its head within `HEAD_BYTES_MAX`,
and a connection on which nothing was asked is closed. A request that comes at once, as they all do,
pays nothing for it: the timer is set when one is still incomplete after what came was read.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from sconto.base.errors import LocalError
from sconto.servers import problems

#: Seconds from the first byte of a request to its last.
REQUEST_WITHIN_S = 30.0
#: Request line and headers together. The longest that we have is a signature and a token.
HEAD_BYTES_MAX = 64 * 1024
#: Seconds for a client that still sends to read why it was refused.
LINGER_S = 1.0

_REASONS = {408: "Request Timeout", 431: "Request Header Fields Too Large"}


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol, bounded in time and memory."""

    _timer: asyncio.TimerHandle | None = None
    _is_in_head = False
    _is_incomplete = False
    _is_lingering = False
    #: Bytes of the head before those that are being read now, and how many these are.
    _head_bytes = 0
    _read_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_lingering:
            return
        self._read_bytes = len(data)
        super().data_received(data)
        if self._is_in_head:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES_MAX:
                self._refuse(_headers_too_large())
                return
        if not self._is_incomplete:
            self._stop_timer()
        elif self._timer is None:
            self._start_timer()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._is_incomplete = self._is_in_head = True
        self._head_bytes = 0

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        if self._head_bytes + self._read_bytes > HEAD_BYTES_MAX and self._is_head_too_large():
            app, self.app = self.app, _refuse_headers
            try:
                super().on_headers_complete()
            finally:
                self.app = app
        else:
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._is_incomplete = False
        super().on_message_complete()

    def _is_head_too_large(self) -> bool:
        """Exactly: what was read may have a body in it, or the end of the request before."""
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        return size > HEAD_BYTES_MAX

    def _start_timer(self) -> None:
        self._timer = self.loop.call_later(REQUEST_WITHIN_S, self._too_slow)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        self._timer = None
        if not self._is_incomplete:  # nothing was asked
            self.transport.close()
            return
        self._refuse(
            LocalError(
                f"the request was not here within {REQUEST_WITHIN_S:.0f} seconds",
                code="too_slow",
                remedy="send it at once",
            )
        )

    def _refuse(self, error: LocalError) -> None:
        """Close; answer before, where that is the next thing that the client waits for."""
        if self.transport.is_closing():
            return
        if self._is_in_head:  # `cycle` is of the request before, None where there was none
            may_answer = bool(getattr(self.cycle, "response_complete", True))
        else:
            may_answer = not self.cycle.response_started and not self.pipeline
        self._is_incomplete = self._is_in_head = False
        if may_answer:
            document = problems.problem(error)
            body = problems.encode(document)
            head = (
                f"HTTP/1.1 {document['status']} {_REASONS[document['status']]}\r\n"
                f"content-type: {problems.MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\n"
                "cache-control: no-store\r\nconnection: close\r\n\r\n"
            )
            self.transport.write(head.encode("ascii") + body)
            self._linger()
        else:
            self.transport.close()

    def _linger(self) -> None:
        """Say no more, read on for a while, then close.

        A socket that is closed while its peer still sends is reset, and what the peer has not read
        yet is lost with it (RFC 9112, section 9.6).
        """
        self._stop_timer()
        self._is_lingering = True
        if not getattr(self.cycle, "response_complete", True):  # None where there was no request
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.flow.resume_reading()
        self.transport.write_eof()
        self._timer = self.loop.call_later(LINGER_S, self.transport.close)


async def _refuse_headers(scope: Any, receive: Any, send: Any) -> None:
    document = problems.problem(_headers_too_large())
    body = problems.encode(document)
    headers = [
        (b"content-type", problems.MEDIA_TYPE.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": document["status"], "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _headers_too_large() -> LocalError:
    return LocalError(
        f"the headers are larger than {HEAD_BYTES_MAX} bytes",
        code="headers_too_large",
        remedy="send less in the headers and the address",
    )
