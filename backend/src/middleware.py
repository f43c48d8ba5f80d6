"""Around every request: its id, its line in the log, its path and its size."""

import logging
import re
import secrets
import sys
from collections.abc import Callable
from time import perf_counter
from typing import Any
from urllib.parse import unquote_to_bytes

from starlette.convertors import Convertor
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from src.exceptions import CannotStart
from src.problems import BROKEN_PATH, MAX_BODY_BYTES, TOO_LARGE, UNEXPECTED, problem

_SANE_ID = re.compile(rb"[\w.:/+=@-]{1,128}", re.ASCII)
_BROKEN_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_KEPT_ESCAPE = re.compile(rb"%(25|2[Ff])")

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
        self.app = cors(app)
        self.cors = cors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, _in_one_sentence(send))
            return
        began = perf_counter()
        request_id = b""
        body_bytes = 0
        for name, value in scope["headers"]:
            if name == b"x-request-id" and _SANE_ID.fullmatch(value):
                request_id = value
            elif name == b"content-length":
                body_bytes = int(value)
            elif name == b"transfer-encoding":
                receive = _bounded(receive)
        request_id = request_id or secrets.token_hex(16).encode()
        method = scope["method"]
        # A copy: the server goes by its own scope when it leaves the body of HEAD out.
        scope = {**scope, "request_id": request_id.decode()}
        if method == "HEAD":
            scope["method"] = "GET"
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"].append((b"x-request-id", request_id))
            elif method == "HEAD":
                message["body"] = b""
            await send(message)

        app = self.app
        if body_bytes > MAX_BODY_BYTES:
            app = self.cors(problem(413, TOO_LARGE))
        try:
            scope["path"] = decode_path(scope)
        except ValueError:
            app = self.cors(problem(400, BROKEN_PATH))
        try:
            await app(scope, receive, send_with_id)
        except Exception:
            logger.exception("Unexpected error in request %s", scope["request_id"])
            if status:
                raise
            answer = self.cors(problem(500, UNEXPECTED))
            await answer(scope, receive, send_with_id)
        finally:
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


def decode_path(scope: Scope) -> str:
    """Return the path, decoded but for %2F and %25, and without a slash at its end.

    So a slash inside a path segment is not taken for one between segments; `Segment` decodes the
    rest. Raises ValueError for a path that is not percent-encoded UTF-8 (RFC 3986 §2.1).
    """
    raw: bytes = scope["raw_path"]
    if b"%" in raw:
        if _BROKEN_ESCAPE.search(raw):
            raise ValueError("broken escape")
        path = unquote_to_bytes(_KEPT_ESCAPE.sub(rb"%25\1", raw)).decode()
    else:
        path = raw.decode()
    return path.rstrip("/") or "/"


class Segment(Convertor[str]):
    """A path parameter that may hold any text, slashes too: see `decode_path`."""

    regex = "[^/]+"

    def convert(self, value: str) -> str:
        return re.sub("%2[Ff]", "/", value).replace("%25", "%")

    def to_string(self, value: str) -> str:
        return value.replace("%", "%25").replace("/", "%2F")


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
