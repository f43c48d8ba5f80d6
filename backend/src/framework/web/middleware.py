"""Around every request: its id, its line in the log, its path, CORS."""

import asyncio
import logging
import re
import sys
from asyncio import Event
from collections.abc import Awaitable, Callable
from functools import lru_cache
from random import getrandbits
from time import perf_counter
from typing import Any, TypeAlias
from urllib.parse import quote

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from src.framework.exceptions import CannotStart
from src.framework.web.bodies import release
from src.framework.web.problems import answer, problem
from src.framework.web.routing import decode_path

Peer: TypeAlias = tuple[str, int] | None
"""Address and port; a Unix socket has none."""

LogRequest: TypeAlias = Callable[[str, str, int, float, str, Peer], None]
"""Takes method, path template, status, seconds, request id and peer."""

_SAFE_ID = re.compile(rb"[\w.:/+=@-]{1,128}", re.ASCII)
_HOST = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[\w.~!$&'()*+,;=%-]*)(:[0-9]*)?", re.ASCII)

_USED_HEADERS = {
    b"connection",
    b"host",
    b"origin",
    b"transfer-encoding",
    b"upgrade",
    b"x-request-id",
}

CANNOT_START = "The service cannot start just now; the service's log says why"

logger = logging.getLogger(__name__)


# If somebody opens an answer as a page, the browser runs nothing that a user wrote.
_NOSNIFF = (b"x-content-type-options", b"nosniff")

# After an ambiguous request, nobody knows where the next request begins.
_CLOSE = {"Connection": "close"}


class CORS(CORSMiddleware):
    def preflight_response(self, request_headers: Headers) -> Response:
        response = super().preflight_response(request_headers)
        del response.headers["content-type"], response.headers["content-length"]
        headers = dict(response.headers)
        if asked := headers.get("access-control-allow-headers"):
            headers["access-control-allow-headers"] = ", ".join(map(str.strip, asked.split(",")))
        if response.status_code == 200:
            return Response(status_code=204, headers=headers)
        refused = bytes(response.body).decode().removeprefix("Disallowed CORS ")
        return problem(400, f"CORS does not allow this page's {refused}", headers)


class RequestMiddleware:
    """Adds the request id, decoded path, CORS headers and log line, and answers every error.

    A proxy strips `root_path` from the path. A server may leave out whatever the ASGI specification
    does not require. If a server sends no lifespan event, the first request starts the application.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - what is around every request
        self,
        app: ASGIApp,
        cors: Callable[[ASGIApp], ASGIApp],
        log_request: LogRequest,
        stopping: Event,
        refusal: Callable[[Scope, bytes | None], ASGIApp | None] | None,
        root_path: str = "",
    ) -> None:
        self.app = app
        self.cors = cors
        self.log_request = log_request
        self.stopping = stopping
        self.refusal = refusal
        self.root_path = root_path
        self.cross_origin = cors(app)
        self.has_lifespan = False
        self.started_in: asyncio.AbstractEventLoop | None = None
        self.opened: asyncio.Future[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._live(scope, receive, send)
            return
        began, status = perf_counter(), 0
        # White space around a value is not part of the value (RFC 9112 §5.1).
        fields = [
            (name, value.strip(b" \t")) for name, value in scope["headers"] if name in _USED_HEADERS
        ]
        values = dict(fields)
        origin = b"origin" in values
        request_id = _request_id(values)
        own_headers = [(b"x-request-id", request_id), _NOSNIFF]
        app = self.cross_origin if origin else self.app
        if not origin:
            # With an Origin, the answer would differ (RFC 9110 §12.5.5).
            own_headers.append((b"vary", b"Origin"))
        if self.stopping.is_set():
            own_headers.append((b"connection", b"close"))
        method = scope["method"]
        if method == "HEAD":  # uvicorn reads its own scope to leave out the body
            scope = {**scope, "method": "GET"}
        scope["request_id"], scope["is_head"] = request_id.decode(), method == "HEAD"

        def send_with_headers(message: Message) -> Awaitable[None]:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *own_headers]
            elif method == "HEAD":
                message["body"] = b""
            return send(message)

        try:
            _refuse_ambiguous(fields, values, scope["http_version"])
            if self.refusal and (refused := self.refusal(scope, values.get(b"host"))):
                await refused(scope, receive, send_with_headers)
                return
            if not self.has_lifespan:
                await self._start(scope["app"])
            if self.root_path or scope.get("root_path", "/") or scope.get("raw_path") is None:
                self._complete(scope)
            scope["path"] = decode_path(scope)
            await app(scope, receive, send_with_headers)
        except Exception as error:
            if status:
                raise
            response: ASGIApp = await answer(Request(scope), error)
            if origin:
                response = self.cors(response)
            await response(scope, receive, send_with_headers)
        finally:
            release(scope)
            route = scope.get("route")
            path = route.path_format if route else "-"
            seconds = perf_counter() - began
            self.log_request(
                method, path, status, seconds, scope["request_id"], scope.get("client")
            )

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_lifespan = scope["type"] == "lifespan"
        self.has_lifespan = is_lifespan or self.has_lifespan
        try:
            await self.app(scope, receive, _in_one_sentence(send))
        finally:
            self.has_lifespan = not is_lifespan and self.has_lifespan

    def _complete(self, scope: Scope) -> None:
        """Add what a server or proxy left out of the path."""
        raw: bytes = scope.get("raw_path") or quote(scope["path"], safe="/").encode()
        root: str = (scope.get("root_path") or "").rstrip("/")
        if not root:
            root, raw = self.root_path, self.root_path.encode() + raw
        elif raw != root.encode() and not raw.startswith(f"{root}/".encode()):
            raw = root.encode() + raw
        scope["raw_path"], scope["root_path"] = raw, root

    async def _start(self, app: Any) -> None:  # noqa: ANN401 - whatever application this is around
        """Start the application for this event loop, once.

        Raises HTTPException 503 if the application cannot start. The next request tries again.
        """
        loop = asyncio.get_running_loop()
        if self.started_in is loop:
            return
        if self.started_in is None and self.opened is None and app.is_open:
            return
        if self.opened is None or self.opened.get_loop() is not loop:
            self.opened = loop.create_future()
            self.running = loop.create_task(self._run(app, self.opened))
        try:
            await asyncio.shield(self.opened)
        except CannotStart as error:
            self.opened = None
            logger.critical("The service cannot start. %s.", error)
            raise HTTPException(503, CANNOT_START, {"Retry-After": "2"}) from None
        self.started_in = loop

    async def _run(self, app: Any, opened: asyncio.Future[None]) -> None:  # noqa: ANN401 - as above
        """Keep the application open until the event loop ends, which cancels its tasks."""
        try:
            async with app.router.lifespan_context(app):
                opened.set_result(None)
                await asyncio.get_running_loop().create_future()
        except Exception as error:
            opened.set_exception(error)


def _request_id(values: dict[bytes, bytes]) -> bytes:
    """Return the client's X-Request-ID if it is safe to log, or a new id."""
    sent = values.get(b"x-request-id", b"")
    return sent if sent and _SAFE_ID.fullmatch(sent) else b"%032x" % getrandbits(128)


def _refuse_ambiguous(
    fields: list[tuple[bytes, bytes]], values: dict[bytes, bytes], version: str
) -> None:
    """Raises HTTPException for a request that a proxy may read differently.

    The status is 400 without exactly one valid Host (RFC 9112 §3.2), and for an Upgrade:
    HTTPProtocol removes the Upgrade, but another server may run the body as a request. The status
    is 501 for a transfer coding other than chunked (RFC 9112 §6.1).
    """
    hosts = [value for name, value in fields if name == b"host"]
    if len(hosts) != 1 and (hosts or version != "1.0"):
        raise HTTPException(400, "Send exactly one Host header", _CLOSE)
    if hosts and not _is_host(hosts[0]):
        raise HTTPException(400, "The Host header must name a host, as in example.com:8000", _CLOSE)
    if b"transfer-encoding" not in values and b"upgrade" not in values:
        return
    codings = [value.lower() for name, value in fields if name == b"transfer-encoding"]
    if codings and version == "1.0":
        raise HTTPException(400, "HTTP/1.0 has no Transfer-Encoding", _CLOSE)
    if codings and codings != [b"chunked"]:
        raise HTTPException(501, "The only supported transfer coding is chunked", _CLOSE)
    options = [value.lower() for name, value in fields if name == b"connection"]
    if b"upgrade" in values and any(b"upgrade" in option for option in options):
        raise HTTPException(400, "This server does not switch to another protocol", _CLOSE)


@lru_cache(maxsize=256)
def _is_host(value: bytes) -> bool:
    return _HOST.fullmatch(value) is not None


def _in_one_sentence(send: Send) -> Send:
    """Tell the server why the application cannot start, without a traceback."""

    async def send_sentence(message: Message) -> None:
        error: Any = sys.exception()
        if message["type"].endswith(".failed") and isinstance(error, CannotStart):
            message["message"] = f"The service cannot start. {error}."
        await send(message)

    return send_sentence
