"""FastAPI's application, with one layer around its routes instead of six."""

import asyncio
import os
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from fastapi import FastAPI
from fastapi.middleware.asyncexitstack import AsyncExitStackMiddleware
from fastapi.telemetry import TelemetryConfig
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from src.framework.exceptions import CannotStart
from src.framework.server.logs import LogRequest
from src.framework.server.open_mode import OpenMode
from src.framework.web.middleware import RequestMiddleware
from src.framework.web.routing import DirectRoute, DirectRoutes


class Application(FastAPI):
    """Supports everything that FastAPI does, at a cost only where it is used.

    DirectRoutes need no layer but RequestMiddleware. Other routes and added middleware get the
    layers that FastAPI puts around them.
    """

    cors: Callable[[ASGIApp], ASGIApp]
    log_request: LogRequest
    open_mode: OpenMode | None
    stopping: asyncio.Event

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - FastAPI's
        self._wants_telemetry = any(name.startswith("OTEL_EXPORTER_OTLP_") for name in os.environ)
        is_on = self._wants_telemetry and _has_exporter()
        telemetry = TelemetryConfig(tracing=is_on, metrics=is_on, logs=is_on, auto_configure=is_on)
        super().__init__(telemetry=telemetry, **options)
        self._routes = 0

    def check_telemetry(self) -> None:
        """Raises CannotStart when telemetry is asked for that nothing here can export."""
        if self._wants_telemetry and not _has_exporter():
            raise CannotStart(
                "OTEL_EXPORTER_OTLP_… is set, which needs two packages more: "
                "pip install 'fastapi[opentelemetry]'"
            )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if len(self.router.routes) != self._routes:
            self._routes = len(self.router.routes)
            self.middleware_stack = None  # FastAPI rebuilds it
        stack = self.middleware_stack
        if stack is None or self._wants_telemetry or scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        # As FastAPI and Starlette do, which take two layers of calls for it.
        scope["app"] = self
        if self.root_path:
            scope["root_path"] = self.root_path
        await stack(scope, receive, send)

    def build_middleware_stack(self) -> ASGIApp:
        # Tracing learns the route from FastAPI's router.
        app: ASGIApp = self.router if self._wants_telemetry else DirectRoutes(self.router)
        if self.user_middleware or not all(map(self._is_direct, self.routes)):
            app = AsyncExitStackMiddleware(app)
            handlers = {
                kind: handler
                for kind, handler in self.exception_handlers.items()
                if kind not in (500, Exception)  # RequestMiddleware calls these
            }
            app = ExceptionMiddleware(app, handlers, self.debug)
        for added, arguments, options in reversed(self.user_middleware):
            app = added(app, *arguments, **options)
        if self.max_body_size is not None:
            app = RequestBodyLimitMiddleware(app, self.max_body_size)
        refusal = self.open_mode.refusal if self.open_mode else None
        return RequestMiddleware(app, self.cors, self.log_request, self.stopping, refusal)

    def _is_direct(self, route: BaseRoute) -> bool:
        is_contract = isinstance(route, Route) and route.path == self.openapi_url
        return isinstance(route, DirectRoute) or is_contract


def _has_exporter() -> bool:
    try:
        return find_spec("opentelemetry.exporter.otlp.proto.http") is not None
    except ModuleNotFoundError:
        return False
