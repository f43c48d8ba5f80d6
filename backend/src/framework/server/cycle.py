"""One request on a connection, and its response."""

from collections.abc import Sequence
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from src.framework.server.flow import Flow

_CONTROL = bytes({*range(0x20), 0x7F} - {0x09})
_NO_BODY = {204, 304}

HELD_BYTES = 64 * 1024
"""A response goes out once this many bytes are there, so that flow control can begin."""

SHORT_BYTES = 4 * 1024
"""A body of at most this many bytes is joined to the head: a copy takes less time than a call."""


class Cycle(RequestResponseCycle):
    """Sends a response of known length with one system call.

    uvicorn writes the head with one call and the body with another call, and checks each field by
    itself. That would take time of every request.
    """

    flow: Flow
    held = b""
    """The head and the beginning of a body of known length; up to HELD_BYTES wait for the rest."""

    left: int | None = None
    """How many bytes of the body are to come, if its length is known."""

    async def send(self, message: Any) -> None:  # noqa: ANN401 - of ASGI
        """Raises RuntimeError for a message that HTTP does not allow here."""
        if self.flow.write_paused:
            await self.flow.drain()
        if self.disconnected:
            return
        if not self.response_started:
            self._begin(message["status"], [*self.default_headers, *message["headers"]])
        elif self.response_complete:
            raise RuntimeError(f"{message['type']} after the end of the response")
        else:
            self._go_on(message.get("body", b""), message.get("more_body", False))

    def _begin(self, status: int, fields: Sequence[tuple[bytes, bytes]]) -> None:
        named = dict(fields)
        if self.scope["method"] == "HEAD" or status in _NO_BODY:
            self.left = 0
        elif (length := named.get(b"content-length")) is not None:
            self.left = int(length)
        elif self.scope["http_version"] == "1.0":
            self.keep_alive = False  # HTTP/1.0 has no chunks: RFC 9112 §6.1
        else:
            self.chunked_encoding = True
            fields = [*fields, (b"transfer-encoding", b"chunked")]
        if b"connection" in named:
            self.keep_alive = self.keep_alive and named[b"connection"] != b"close"
        elif not self.keep_alive:
            fields = [*fields, (b"connection", b"close")]
        lines = b"\r\n".join(map(b": ".join, fields))
        if len(lines.translate(None, _CONTROL)) != len(lines) - 2 * (len(fields) - 1):
            raise RuntimeError("a field of the response has a control character")
        self.response_started = True
        self.waiting_for_100_continue = False
        self.held = b"%b%b\r\n\r\n" % (STATUS_LINE[status], lines)
        if self.left is None:
            self._write(b"")

    def _go_on(self, body: bytes, has_more: bool) -> None:
        if self.chunked_encoding:
            body = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            body = body if has_more else b"%b0\r\n\r\n" % body
        elif self.scope["method"] == "HEAD":
            body = b""
        elif self.left is not None:
            self.left -= len(body)
            if self.left < 0 or (self.left and not has_more):
                raise RuntimeError("the body of the response has another length than its head says")
            if has_more and len(self.held) + len(body) < HELD_BYTES:
                self.held += body
                return
        self._write(body)
        if not has_more:
            self.response_complete = True
            self.message_event.set()
            if not self.keep_alive:
                self.transport.close()
            self.on_response()

    def _write(self, data: bytes) -> None:
        head, self.held = self.held, b""
        # The client may have gone in the same turn of the loop.
        if self.transport.is_closing():
            return
        self.flow.sent += len(head) + len(data)
        if len(data) > SHORT_BYTES:
            self.transport.writelines([head, data] if head else [data])
        elif head or data:
            self.transport.write(head + data)
