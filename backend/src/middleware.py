"""Around every request: its id, its line in the log, its path and its size."""

import logging
import re
import sys
from collections.abc import Callable
from random import getrandbits
from time import perf_counter
from typing import Any

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from src.exceptions import CannotStart
from src.problems import BROKEN_PATH, MAX_BODY_BYTES, TOO_LARGE, UNEXPECTED, problem
from src.routing import decode_path

_SANE_ID = re.compile(rb"[\w.:/+=@-]{1,128}", re.ASCII)

logger = logging.getLogger(__name__)


class CORS(CORSMiddleware):
    def preflight_response(self, request_headers: Headers) -> Response:
        response = super().preflight_response(request_headers)
        del response.headers["content-type"], response.headers["content-length"]
        headers = dict(response.headers)
        if response.status_code == 200:
            return Response(status_code=204, headers=headers)
        return problem(400, bytes(response.body).decode(), headers)


class RequestMiddleware:
    """Give a request its id, a decoded path, a bound on its body, CORS, and a line in the log."""

    def __init__(self, app: ASGIApp, cors: Callable[[ASGIApp], ASGIApp]) -> None:
        self.app = app
        self.cors = cors
        self.cross_origin = cors(app)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, _in_one_sentence(send))
            return
        began = perf_counter()
        app = self.app
        # Whether an Origin is sent or not, the answer depends on it (RFC 9110 §12.5.5).
        own_headers = [(b"vary", b"Origin")]
        request_id = b""
        body_bytes = 0
        for name, value in scope["headers"]:
            if name == b"origin":
                app = self.cross_origin
                own_headers.clear()
            elif name == b"x-request-id" and _SANE_ID.fullmatch(value):
                request_id = value
            elif name == b"content-length":
                body_bytes = int(value)
            elif name == b"transfer-encoding":
                receive = _bounded(receive)
        request_id = request_id or b"%032x" % getrandbits(128)
        own_headers.append((b"x-request-id", request_id))
        method = scope["method"]
        # A copy: the server goes by its own scope when it leaves the body of HEAD out.
        scope = {**scope, "request_id": request_id.decode()}
        if method == "HEAD":
            scope["method"] = "GET"
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *own_headers]
            elif method == "HEAD":
                message["body"] = b""
            await send(message)

        if body_bytes > MAX_BODY_BYTES:
            app = self.cors(problem(413, TOO_LARGE))
        try:
            scope["path"] = decode_path(scope)
        except ValueError:
            app = self.cors(problem(400, BROKEN_PATH))
        try:
            await app(scope, receive, send_with_headers)
        except Exception:
            logger.exception("Unexpected error in request %s", scope["request_id"])
            if status:
                raise
            await self.cors(problem(500, UNEXPECTED))(scope, receive, send_with_headers)
        finally:
            if logger.isEnabledFor(logging.INFO):
                _log(scope, method, status, perf_counter() - began)


def _log(scope: Scope, method: str, status: int, seconds: float) -> None:
    route = scope.get("route")
    path = route.path_format if route else "-"
    fields = {
        "method": method,
        "path": path,
        "status": status,
        "ms": round(seconds * 1000, 1),
        "request_id": scope["request_id"],
    }
    logger.info("%s %s %s %s ms %s", *fields.values(), extra={"fields": fields})


def _bounded(receive: Receive) -> Receive:
    """Count a body that comes in chunks, with no length announced."""
    received = 0

    async def receive_bounded() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > MAX_BODY_BYTES:
            raise HTTPException(413, TOO_LARGE)
        return message

    return receive_bounded


def _in_one_sentence(send: Send) -> Send:
    """Tell the server why the application cannot start, without a traceback."""

    async def send_sentence(message: Message) -> None:
        error: Any = sys.exception()
        if message["type"] == "lifespan.startup.failed" and isinstance(error, CannotStart):
            message["message"] = str(error)
        await send(message)

    return send_sentence
