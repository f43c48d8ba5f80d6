"""Server-sent events (WHATWG HTML §9.2): an answer that goes on until one side ends it."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from math import inf
from random import randint

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from src.framework.web.preferences import weights
from src.framework.web.problems import answer

EVENT_STREAM = "text/event-stream"
_JSON = ("application/json", "application/*", "*/*")

ENDS_WITH_CLIENT = "ends_with_client"
"""Set in a request's `state` for streams: close when the client closes its half."""

RETRY_MILLISECONDS = (1000, 5000)
"""How long a client waits before it reconnects: at random, so that not all come at once."""

_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # or nginx, where it compresses, keeps events back
    (b"vary", b"Accept"),
]


def asked_for(request: Request) -> bool:
    """Whether the client accepts events by name, and JSON less or later: RFC 9110 §12.5.1.

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


class EventStream(Response):
    """A stream of events, open until the client leaves, somebody calls `end`, or its time is up.

    It is one task that waits for the end; whoever has something to say calls `send_event`. While
    the stream is open, `listening` is entered.
    """

    is_ended = False
    spoke_at = 0.0

    def __init__(
        self,
        listening: Callable[["EventStream"], AbstractContextManager[None]],
        seconds: float = inf,
        time_is_up: Exception | None = None,
    ) -> None:
        self.listening = listening
        self.seconds = seconds
        self.time_is_up = time_is_up
        self.status_code = 200
        self.background = None
        self.raw_headers = _HEADERS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.request = Request(scope, receive)
        self.loop = asyncio.get_running_loop()
        self.send = send
        start = {"type": "http.response.start", "status": self.status_code}
        await send(start | {"headers": self.raw_headers})
        await self.send_retry(randint(*RETRY_MILLISECONDS))  # noqa: S311 - no secret
        if not scope["is_head"]:
            with self._timer(), self.listening(self):
                await until_gone(self.request)
        await self.end()

    @contextmanager
    def _timer(self) -> Iterator[None]:
        if self.time_is_up is None or self.seconds == inf:
            yield
            return
        timer = self.loop.call_later(self.seconds, self._fail, self.time_is_up)
        try:
            yield
        finally:
            timer.cancel()

    def _fail(self, error: Exception) -> None:
        self.failing = self.loop.create_task(self.fail(error))

    async def send_event(self, data: bytes, token: str) -> None:
        """Send an event whose data is one line, as JSON is; wait if the client is slow."""
        await self._write(b"id: %b\ndata: %b\n\n" % (token.encode(), data))

    async def send_comment(self) -> None:
        """Send an empty comment, so that no proxy takes the connection for dead."""
        await self._write(b":\n\n")

    async def send_retry(self, milliseconds: int) -> None:
        """Tell the client how long to wait before it reconnects."""
        await self._write(b"retry: %d\n\n" % milliseconds)

    async def fail(self, error: Exception) -> None:
        """End with the problem (RFC 9457) that this error would be answered with."""
        problem = await answer(self.request, error)
        await self._write(b"event: problem\ndata: %b\n\n" % bytes(problem.body))
        await self.end()

    async def end(self) -> None:
        if not self.is_ended:
            self.is_ended = True
            await self.send({"type": "http.response.body", "body": b""})

    async def _write(self, text: bytes) -> None:
        if not self.is_ended:
            self.spoke_at = self.loop.time()
            await self.send({"type": "http.response.body", "body": text, "more_body": True})
