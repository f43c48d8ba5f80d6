"""FastAPI's application, with telemetry where the environment asks for it."""

import asyncio
import os
from importlib.util import find_spec
from typing import Any

from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig

from src.framework.exceptions import CannotStart


class Application(FastAPI):
    stopping: asyncio.Event
    user_claim = "sub"
    """The claim of a token that names its user."""

    @property
    def is_open(self) -> bool:
        """Whether it has what its lifespan would open, as in a test that sets it by hand."""
        return False

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - FastAPI's
        self.wants_telemetry = any(name.startswith("OTEL_EXPORTER_OTLP_") for name in os.environ)
        is_on = self.wants_telemetry and _has_exporter()
        telemetry = TelemetryConfig(tracing=is_on, metrics=is_on, logs=is_on, auto_configure=is_on)
        super().__init__(telemetry=telemetry, **options)

    def check_telemetry(self) -> None:
        """Raises CannotStart when telemetry is asked for that nothing here can export."""
        if self.wants_telemetry and not _has_exporter():
            raise CannotStart(
                "OTEL_EXPORTER_OTLP_… is set, which needs two packages more: "
                "pip install 'fastapi[opentelemetry]'"
            )


def _has_exporter() -> bool:
    try:
        return find_spec("opentelemetry.exporter.otlp.proto.http") is not None
    except ModuleNotFoundError:
        return False
