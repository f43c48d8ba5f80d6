"""FastAPI's application, with telemetry where the environment asks for it."""

import asyncio
import os
from importlib.util import find_spec
from typing import Any

from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig
from starlette.types import ASGIApp, Receive, Scope, Send

from src.framework.exceptions import CannotStart


class Application(FastAPI):
    stopping: asyncio.Event
    user_claim: str
    """The claim of a token that names its user."""

    @property
    def is_open(self) -> bool:
        """Whether the application has all that its lifespan opens. A test may set this by hand."""
        return False

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - FastAPI's
        self.wants_telemetry = any(name.startswith("OTEL_EXPORTER_OTLP_") for name in os.environ)
        is_on = self.wants_telemetry and _has_exporter()
        telemetry = TelemetryConfig(tracing=is_on, metrics=is_on, logs=is_on, auto_configure=is_on)
        super().__init__(telemetry=telemetry, **options)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # FastAPI and Starlette each add a call here, and each call takes time of a request.
        if scope["type"] != "http" or self.middleware_stack is None or self.wants_telemetry:
            await super().__call__(scope, receive, send)
            return
        scope["app"] = self
        await self.middleware_stack(scope, receive, send)

    def build_middleware_stack(self) -> ASGIApp:
        """Leave out FastAPI's layers around the application's own, unless they have work to do.

        FastAPI's layers send telemetry, limit bodies to `max_body_size`, and answer errors. But
        RequestMiddleware has answered all errors by then.
        """
        stack: Any = super().build_middleware_stack()
        if self.user_middleware and not self.wants_telemetry and self.max_body_size is None:
            outermost: Any = self.user_middleware[0].cls
            while not isinstance(stack, outermost):
                stack = stack.app
        return stack  # type: ignore[no-any-return]  # Starlette's layers have their next as `app`

    def check_telemetry(self) -> None:
        """Raises CannotStart if the environment asks for telemetry, and nothing can export it."""
        if self.wants_telemetry and not _has_exporter():
            raise CannotStart(
                "OTEL_EXPORTER_OTLP_… is set, which needs two more packages: "
                "pip install 'fastapi[opentelemetry]'"
            )


def _has_exporter() -> bool:
    try:
        return find_spec("opentelemetry.exporter.otlp.proto.http") is not None
    except ModuleNotFoundError:
        return False
