"""Server-sent events (WHATWG HTML §9.2): an answer that goes on until one side ends it."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from random import randint

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from src.framework.files import are_files_scarce
from src.framework.web.preferences import weights
from src.framework.web.problems import answer

EVENT_STREAM = "text/event-stream"
_JSON = ("application/json", "application/*", "*/*")

ENDS_WITH_CLIENT = "ends_with_client"
"""If a request's `state` has this set, the connection closes when the client closes its half."""

RETRY_MILLISECONDS = (1000, 5000)
"""How long a client waits before it reconnects: a random time, so that not all come at once."""

CHECK_SECONDS = 30.0
"""How often to see whether the stream may go on."""

WRITE_BYTES = 32 * 1024
"""How much of an event to write at once."""

TOO_MANY_CONNECTIONS = "Too many connections are open; try again in a moment"

_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # an nginx that compresses would keep events back
    (b"vary", b"Accept"),
]


def asked_for(request: Request) -> bool:
    """Whether the client accepts events by name, and prefers them to JSON: RFC 9110 §12.5.1.

    `*/*` alone gets JSON.
    """
    asked = weights(",".join(request.headers.getlist("accept")))
    events = asked.get(EVENT_STREAM, 0)
    json = next((asked[kind] for kind in _JSON if kind in asked), 0)
    first = next((kind for kind in asked if kind in {EVENT_STREAM, _JSON[0]}), None)
    return events > json or (events == json > 0 and first == EVENT_STREAM)


async def until_gone(request: Request) -> None:
    """Return when the client has left, or its answer has ended.

    Meanwhile, a client that closes its half of the connection counts as gone (see HTTPProtocol).
    """
    state = request.scope.setdefault("state", {})
    state[ENDS_WITH_CLIENT] = True
    try:
        while (await request.receive())["type"] != "http.disconnect":
            pass
    finally:
        state[ENDS_WITH_CLIENT] = False


def refuse_while_files_are_scarce() -> None:
    """Raises HTTPException 503. A request that keeps its connection for long calls this."""
    if are_files_scarce():
        raise HTTPException(503, TOO_MANY_CONNECTIONS, {"Retry-After": "30"})


class EventStream(Response):
    """A stream of events, open until the client leaves, or somebody calls `end`.

    One task waits for the end; other code sends events with `send_event`. While the stream is open,
    it is in the context of `listening`. When events may be sent, the stream calls the function that
    `listening` yields. Errors of `listening` are answered as for any request. `until_refused` gets
    a number of seconds. If the stream may not go on, `until_refused` raises an error within these
    seconds, and the stream ends with that error.
    """

    is_ended = False
    is_in_event = False
    spoke_at = 0.0

    def __init__(
        self,
        listening: Callable[["EventStream"], AbstractContextManager[Callable[[], None]]],
        until_refused: Callable[[float], Awaitable[None]],
    ) -> None:
        self.listening = listening
        self.until_refused = until_refused
        self.status_code = 200
        self.background = None
        self.raw_headers = _HEADERS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.request = Request(scope, receive)
        self.loop = asyncio.get_running_loop()
        self.send = send
        if scope["is_head"]:
            await self._begin()
        else:
            with self.listening(self) as listen:
                await self._begin()
                checking = asyncio.ensure_future(self.until_refused(CHECK_SECONDS))
                checking.add_done_callback(self._end_with_its_error)
                try:
                    listen()
                    await until_gone(self.request)
                finally:
                    checking.cancel()
        await self.end()

    async def _begin(self) -> None:
        start = {"type": "http.response.start", "status": self.status_code}
        await self.send(start | {"headers": self.raw_headers})
        await self.send_retry(randint(*RETRY_MILLISECONDS))  # noqa: S311 - no secret

    def _end_with_its_error(self, checking: asyncio.Future[None]) -> None:
        if not checking.cancelled() and isinstance(error := checking.exception(), Exception):
            self.failing = self.loop.create_task(self.fail(error))

    async def send_event(
        self, data: bytes, token: str, turn: Callable[[], AbstractAsyncContextManager[None]]
    ) -> None:
        """Send an event whose data is one line, as JSON is.

        The event goes out in pieces. Each piece waits for the client to take the piece before, and
        then for its `turn`.
        """
        self.is_in_event = True
        begin, end = b"id: %b\ndata: " % token.encode(), b"\n\n"
        for start in range(0, len(data), WRITE_BYTES):
            piece = data[start : start + WRITE_BYTES]
            is_last = start + WRITE_BYTES >= len(data)
            await self._write(b"")  # waits for the client
            async with turn():
                await self._write(b"%b%b%b" % (begin, piece, end if is_last else b""))
            begin = b""
        self.is_in_event = False

    async def send_comment(self) -> None:
        """Send an empty comment, so that no proxy takes the connection for dead."""
        await self._say(b":\n\n")

    async def send_retry(self, milliseconds: int) -> None:
        """Tell the client how long to wait before it reconnects."""
        await self._say(b"retry: %d\n\n" % milliseconds)

    async def fail(self, error: Exception) -> None:
        """End with the problem (RFC 9457) that a request with this error would get.

        In the middle of an event, end without the problem: clients discard an event without an end.
        """
        if not self.is_in_event:
            problem = await answer(self.request, error)
            await self._write(b"event: problem\ndata: %b\n\n" % bytes(problem.body))
        await self.end()

    async def end(self) -> None:
        if not self.is_ended:
            self.is_ended = True
            await self.send({"type": "http.response.body", "body": b""})

    async def _say(self, text: bytes) -> None:
        if not self.is_in_event:  # an empty line would end the event
            await self._write(text)

    async def _write(self, text: bytes) -> None:
        if not self.is_ended:
            self.spoke_at = self.loop.time()
            await self.send({"type": "http.response.body", "body": text, "more_body": True})
