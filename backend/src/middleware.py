"""Around every request: its id, its line in the log, its path, CORS."""

import re
import sys
from asyncio import Event
from collections.abc import Callable
from random import getrandbits
from time import perf_counter
from typing import Any

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from src.exceptions import CannotStart
from src.logs import LogRequest
from src.problems import BROKEN_PATH, answer, problem
from src.routing import decode_path

_SANE_ID = re.compile(rb"[\w.:/+=@-]{1,128}", re.ASCII)


class CORS(CORSMiddleware):
    def preflight_response(self, request_headers: Headers) -> Response:
        response = super().preflight_response(request_headers)
        del response.headers["content-type"], response.headers["content-length"]
        headers = dict(response.headers)
        if response.status_code == 200:
            return Response(status_code=204, headers=headers)
        refused = bytes(response.body).decode().removeprefix("Disallowed CORS ")
        return problem(400, f"Not allowed for a page of this origin: {refused}", headers)


class RequestMiddleware:
    """Give a request its id, a decoded path, CORS, a line in the log, and any error an answer."""

    def __init__(
        self,
        app: ASGIApp,
        cors: Callable[[ASGIApp], ASGIApp],
        log_request: LogRequest,
        stopping: Event,
    ) -> None:
        self.app = app
        self.cors = cors
        self.log_request = log_request
        self.stopping = stopping
        self.cross_origin = cors(app)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, _in_one_sentence(send))
            return
        began = perf_counter()
        sent_id, origin = _look_for(scope["headers"])
        request_id = sent_id or b"%032x" % getrandbits(128)
        own_headers = [(b"x-request-id", request_id)]
        if origin:
            app = self.cross_origin
        else:
            app = self.app
            # The answer would have been another with an Origin (RFC 9110 §12.5.5).
            own_headers.append((b"vary", b"Origin"))
        if self.stopping.is_set():
            own_headers.append((b"connection", b"close"))
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

        try:
            try:
                scope["path"] = decode_path(scope)
            except ValueError:
                raise HTTPException(400, BROKEN_PATH) from None
            await app(scope, receive, send_with_headers)
        except Exception as error:
            if status:
                raise
            response: ASGIApp = answer(Request(scope), error)
            if origin:
                response = self.cors(response)
            await response(scope, receive, send_with_headers)
        finally:
            route = scope.get("route")
            path = route.path_format if route else "-"
            seconds, peer = perf_counter() - began, scope["client"]
            self.log_request(method, path, status, seconds, scope["request_id"], peer)


def _look_for(headers: list[tuple[bytes, bytes]]) -> tuple[bytes, bool]:
    """Find the request id, if a sane one was sent, and whether there is an Origin."""
    request_id, origin = b"", False
    for name, value in headers:
        if name == b"origin":
            origin = True
        elif name == b"x-request-id" and _SANE_ID.fullmatch(value):
            request_id = value
    return request_id, origin


def _in_one_sentence(send: Send) -> Send:
    """Tell the server why the application cannot start, without a traceback."""

    async def send_sentence(message: Message) -> None:
        error: Any = sys.exception()
        if message["type"] == "lifespan.startup.failed" and isinstance(error, CannotStart):
            message["message"] = f"Cannot start. {error}."
        await send(message)

    return send_sentence
