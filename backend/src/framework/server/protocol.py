"""One HTTP connection, with limits.

The protocol prevents request smuggling, and limits the memory, time and open files that a peer
takes. uvicorn's protocol parses everything as it arrives, and waits forever. Our protocol stops
reading while a request waits for the request before it. It refuses what is too large or too slow,
and ignores upgrades and trailers.
"""

import asyncio
import logging
import socket
import struct
import sys
from collections import deque
from http import HTTPStatus
from math import inf
from typing import Any
from urllib.parse import unquote
from weakref import WeakKeyDictionary

import httptools
from fastapi import Response
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from src.framework.files import file_limit
from src.framework.server.cycle import Cycle
from src.framework.server.flow import Flow
from src.framework.server.transport import Transport
from src.framework.web.events import ENDS_WITH_CLIENT, TOO_MANY_CONNECTIONS
from src.framework.web.problems import problem
from src.framework.web.routing import MAX_PATH_BYTES

SLICE = 8 * 1024
"""Bytes to parse before checking whether a request has to wait."""

MAX_HEAD_BYTES = 64 * 1024
MAX_FIELDS = 200

SHORT_PIECE = 256

MAX_SHORT_PIECES = 3000
"""How many pieces below SHORT_PIECE a body may have: each takes as long as a piece of 8 KiB."""

MANY_SHORT_PIECES = (
    f"Send larger chunks: at most {MAX_SHORT_PIECES} may have fewer than {SHORT_PIECE} bytes"
)

HEAD_SECONDS = 20.0
"""How long a head may take, and a new connection may be silent."""

BODY_SECONDS = 20.0
"""How long a body may pause."""

REQUEST_SECONDS = 300.0
"""Limit for a whole request, however steadily it arrives."""

UNREAD_SECONDS = 30.0
"""How long a peer may read nothing of what it was sent."""

UNSENT_BYTES = 64 * 1024
"""How many unsent bytes the system keeps for a peer that reads nothing."""

RESERVED_FILES = 64
"""How many files stay free of clients' connections, for the database, logs and the system."""

REFUSED_BYTES = 256 * 1024
"""How many bytes are read and discarded after a refusal, so that the peer can read the refusal."""

REFUSED_SECONDS = 2.0
"""How long a refused peer has to read the refusal."""

LINGER_SECONDS = 0.2
"""How long a shutdown waits for requests that are on their way."""

logger = logging.getLogger(__name__)


class TooLargeHead(Exception):
    """RFC 6585 §5."""


class TooManyPieces(Exception):
    """RFC 9112 §7.1.1."""


class HTTPProtocol(HttpToolsProtocol):
    transport: Any
    """Our `Transport`, where uvicorn declares asyncio's."""

    cycle: Cycle
    flow: Flow
    deadline = 0.0
    must_arrive_by = 0.0
    unread = b""
    unparsed = 0
    short_pieces = 0
    thrown_away = 0
    is_arriving = False
    is_half_closed = False
    refusal: Response | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        limit_unread(transport.get_extra_info("socket"))
        self.clock = clock_of(self.server_state, self.loop)
        self.transport = Transport(transport, self.clock.unsent)
        self.waiting: deque[Cycle] = deque()
        self.flow = Flow(self.transport, self.waiting, self.parse)
        self.asgi = {"version": self.asgi_version, "spec_version": "2.3"}
        self.headers = []
        self.deadline = self.clock.now + HEAD_SECONDS
        if self.clock.has_no_file_left_for(transport):
            self.refuse(503, TOO_MANY_CONNECTIONS)
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.unread = b""
        super().connection_lost(exc)

    def eof_received(self) -> bool:  # type: ignore[override]  # uvicorn's always closes
        """Keep a half-closed connection open until its requests are answered."""
        self.transport.send()  # without a True from here, the event loop closes the connection
        self.is_half_closed = True
        has_sent_all = not self.is_arriving or self.unread != b""
        return self.scheme == "http" and has_sent_all and not self._is_idle()

    def data_received(self, data: bytes) -> None:
        if self.refusal is not None:
            self._throw_away(data)
            return
        self.unread += data
        if not self.flow.read_paused:
            self.parse()

    def parse(self) -> None:
        """Parse what has arrived, until a request has to wait for the request before it."""
        data, self.unread = self.unread, b""
        if len(data) <= SLICE:
            self._feed(data)
            return
        for start in range(0, len(data), SLICE):
            if self.flow.read_paused:
                self.unread = data[start:]
                return
            self._feed(data[start : start + SLICE])
            if self.refusal is not None:
                return

    def _feed(self, data: bytes) -> None:
        self.unparsed += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._parse_head_without_upgrade()
            if self.refusal is None:
                self._feed(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            if isinstance(error.__context__, TooLargeHead):
                self._refuse_head()
            elif isinstance(error.__context__, TooManyPieces):
                self.refuse(413, MANY_SHORT_PIECES)
            else:
                self.refuse(400, "The request is not valid HTTP")
        else:
            if self.unparsed > MAX_HEAD_BYTES + SLICE or len(self.headers) > MAX_FIELDS:
                self._refuse_head()

    def _parse_head_without_upgrade(self) -> None:
        """Ignore an Upgrade: RFC 9110 §7.8.

        The parser would take everything after such a head, even the body, for another protocol.
        """
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        if method == b"CONNECT":
            self.refuse(400, "This server is not a proxy")
            return
        fields = [b"%b: %b" % field for field in self.headers if field[0] != b"upgrade"]
        head = [b"%b %b HTTP/%b" % (method, self.url, version), *fields, b"", b""]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.unparsed = 0
        self._feed(b"\r\n".join(head))

    def on_message_begin(self) -> None:
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self.is_arriving = True
        self.deadline = self.clock.now + HEAD_SECONDS
        self.must_arrive_by = self.clock.now + REQUEST_SECONDS

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        if len(self.headers) > MAX_FIELDS or self._head_bytes() > MAX_HEAD_BYTES:
            raise TooLargeHead
        if len(self.url) > MAX_PATH_BYTES:
            # A longer path would be decoded before the application refuses it.
            path, *query = self.url.split(b"?", 1)
            self.url = b"?".join([path[: MAX_PATH_BYTES + 1], *query])
        before, self.cycle = self.cycle, self._cycle()
        if before is None or before.response_complete:
            self._run(self.cycle)
        else:
            self.flow.pause_reading()
            self.waiting.appendleft(self.cycle)
        self.unparsed = self.short_pieces = 0
        self.deadline = self.clock.now + BODY_SECONDS
        # Trailers are not headers (RFC 9110 §6.5.1), and no endpoint needs any.
        self.headers = []

    def _cycle(self) -> Cycle:
        url, version = httptools.parse_url(self.url), self.parser.get_http_version()
        path = url.path or b"/"  # of http://localhost (RFC 9112 §3.2.2)
        scope: Any = {
            "type": "http",
            "asgi": self.asgi,
            "http_version": version,
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme,
            "method": self.parser.get_method().decode("ascii"),
            "root_path": "",
            "path": unquote(path.decode("ascii")),
            "raw_path": path,
            "query_string": url.query or b"",
            "headers": self.headers,
            "state": self.app_state.copy(),
        }
        return Cycle(
            scope,
            self.transport,
            self.flow,
            self.logger,
            self.access_logger,
            self.access_log,
            self.server_state.default_headers,
            asyncio.Event(),
            self.expect_100_continue,
            version != "1.0" and self.parser.should_keep_alive(),
            self.on_response_complete,
        )

    def _head_bytes(self) -> int:
        if self.unparsed + SLICE < MAX_HEAD_BYTES:
            return 0
        fields = sum(len(name) + len(value) + len(": \r\n") for name, value in self.headers)
        return len(self.parser.get_method()) + len(self.url) + len("  HTTP/1.1\r\n\r\n") + fields

    def on_body(self, body: bytes) -> None:
        if len(body) < SHORT_PIECE:
            self.short_pieces += 1
            if self.short_pieces > MAX_SHORT_PIECES:
                raise TooManyPieces
        self.unparsed = 0
        self.deadline = min(self.clock.now + BODY_SECONDS, self.must_arrive_by)
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        super().on_message_complete()
        self.unparsed = 0
        self.is_arriving = False
        self.deadline = self.clock.now + self.timeout_keep_alive

    def _run(self, cycle: Cycle) -> None:
        task = self.loop.create_task(cycle.run_asgi(self.app))
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if not self.is_arriving:
            self.deadline = self.clock.now + self.timeout_keep_alive
        if self.waiting:
            self._run(self.waiting.pop())
        elif self.refusal is not None:
            self._send_refusal(self.refusal)
        elif self.is_half_closed and not self.unread:
            self.transport.close()
        self.flow.resume_reading()

    def _refuse_head(self) -> None:
        self.refuse(
            431, f"A request's head may have at most {MAX_HEAD_BYTES} bytes and {MAX_FIELDS} fields"
        )

    def refuse(self, status: int, detail: str) -> None:
        """Refuse input that never reaches the application, after answering earlier requests."""
        headers = {"Connection": "close", "X-Content-Type-Options": "nosniff"}
        self.refusal = problem(status, detail, headers)
        self.unread = b""
        if self._is_idle():
            self._send_refusal(None if self._is_answered() else self.refusal)
        elif self.cycle.more_body:
            self._give_up_on_body(self.refusal)

    def _give_up_on_body(self, refusal: Response) -> None:
        if self.waiting:
            self.waiting.popleft()
            return
        self.cycle.disconnected = True
        self.cycle.message_event.set()
        if self.cycle.response_started:
            self.transport.close()
        else:
            self._send_refusal(refusal)

    def _is_answered(self) -> bool:
        """Whether the request that is arriving has had its answer, before the end of its body."""
        return self.cycle is not None and self.cycle.response_complete and self.cycle.more_body

    def _send_refusal(self, refusal: Response | None) -> None:
        if self.transport.is_closing():
            return
        if refusal is not None:
            status = HTTPStatus(refusal.status_code)
            head = [b"HTTP/1.1 %d %b" % (status, status.phrase.encode())]
            head += [b"%b: %b" % field for field in refusal.raw_headers]
            self.transport.write(b"\r\n".join([*head, b"", bytes(refusal.body)]))
        # Closing would reset a peer that is still sending, and lose the answer.
        self.transport.write_eof()
        self.deadline = self.clock.now + REFUSED_SECONDS

    def _throw_away(self, data: bytes) -> None:
        self.thrown_away += len(data)
        if self.thrown_away > REFUSED_BYTES:
            self.transport.pause_reading()

    def check(self, now: float) -> None:
        """Close the connection if its peer has used up its time."""
        if self.flow.stands_still(now, UNREAD_SECONDS):
            reset(self.transport.get_extra_info("socket"))
            self.transport.abort()
        elif self.is_half_closed and self._ends_with_client():
            self.transport.close()
        elif self.transport.is_closing() or (not self.is_arriving and not self._is_idle()):
            return
        elif self.flow.read_paused:  # the peer is not to blame
            self.deadline = now + BODY_SECONDS
        elif now > self.deadline:
            if self.is_arriving and self.refusal is None:
                self.refuse(408, "The request did not arrive in time")
            else:
                self.transport.close()

    def _ends_with_client(self) -> bool:
        return self.cycle is not None and bool(self.cycle.scope["state"].get(ENDS_WITH_CLIENT))

    def shutdown(self) -> None:
        """Close an idle connection only after LINGER_SECONDS: a request may be on its way."""
        if self._is_idle():
            self.loop.call_later(LINGER_SECONDS, self._close_if_idle)
        else:
            self.cycle.keep_alive = False

    def _close_if_idle(self) -> None:
        if self._is_idle():
            self.transport.close()

    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete


class Clock:
    """Checks every connection once a second; a timer per connection would slow each request.

    `unsent` has the connections that have something to send at the end of this turn.
    """

    def __init__(self, state: ServerState, loop: asyncio.AbstractEventLoop) -> None:
        self.state = state
        self.loop = loop
        self.unsent: list[Transport] = []
        self.file_limit = file_limit()
        self.warned_at = -inf
        self.now = loop.time()
        loop.call_later(1, self.tick)

    def tick(self) -> None:
        self.now = self.loop.time()
        for connection in list(self.state.connections):
            if isinstance(connection, HTTPProtocol):
                connection.check(self.now)
        self.loop.call_later(1, self.tick)

    def has_no_file_left_for(self, transport: asyncio.Transport) -> bool:
        """Whether this connection has one of the last file numbers. The lowest free number is next.

        Logs a warning at most once a minute.
        """
        if transport.get_extra_info("socket").fileno() < self.file_limit - RESERVED_FILES:
            return False
        if self.now - self.warned_at > 60:
            self.warned_at = self.now
            logger.warning(
                "New connections are refused: %d are open, and the process may open %d files; "
                "raise that limit (ulimit -n)",
                len(self.state.connections),
                self.file_limit,
            )
        return True


_clocks: WeakKeyDictionary[ServerState, Clock] = WeakKeyDictionary()


def clock_of(state: ServerState, loop: asyncio.AbstractEventLoop) -> Clock:
    if state not in _clocks:
        _clocks[state] = Clock(state, loop)
    return _clocks[state]


def limit_unread(connection: socket.socket) -> None:
    """Let the system keep little of what the peer does not read, and not for long."""
    limits = {"TCP_NOTSENT_LOWAT": UNSENT_BYTES, "TCP_USER_TIMEOUT": int(UNREAD_SECONDS * 1000)}
    if connection.family in {socket.AF_INET, socket.AF_INET6}:
        for name, limit in limits.items():
            if (option := getattr(socket, name, None)) is not None:  # of this system
                connection.setsockopt(socket.IPPROTO_TCP, option, limit)


def reset(connection: socket.socket) -> None:
    """Let the system forget what the peer did not read when the connection is closed."""
    now = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, now)
