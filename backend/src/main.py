"""The application: `uvicorn src.main:app`, or any other ASGI server."""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from math import inf
from typing import Any

from fastapi.routing import APIRoute
from sqlalchemy.ext.asyncio import AsyncEngine

from src.config import AUTH_ADVICE, NO_KEY, Settings, get_settings
from src.database import opened_engine
from src.framework.auth.tokens import Rules, SecretKey, Tokens
from src.framework.exceptions import CannotStart
from src.framework.server.host_check import host_check
from src.framework.server.logs import configure_logging
from src.framework.server.process import drain_before_stop, end_with_parent, log_end
from src.framework.web import docs
from src.framework.web.application import Application
from src.framework.web.contract import finish_openapi
from src.framework.web.fast import FastPath
from src.framework.web.middleware import CORS, RequestMiddleware
from src.routers import batches, changes, health, personal_tokens, tasks
from src.routers.introduction import introduction
from src.routers.problems import EXCEPTION_HANDLERS
from src.services.expiry_service import sweeping
from src.services.known_tokens import KnownTokens
from src.services.listeners import Listeners

GARBAGE_THRESHOLD = 20_000
"""New objects between two garbage collections; a request makes 45."""

PREFLIGHT_SECONDS = 7200
"""How long browsers may cache a preflight; Chromium's own limit is the same."""


class TaskAPI(Application):
    engine: AsyncEngine
    listeners: Listeners
    tokens: Tokens | None
    """The tokens of the sign-in. None: anyone may act for any user."""

    known_tokens: KnownTokens
    """Personal tokens."""

    @property
    def is_open(self) -> bool:
        return hasattr(self, "engine")

    def openapi(self) -> dict[str, Any]:
        """In open mode, the contract asks for no token."""
        if self.openapi_schema is None:
            finish_openapi(
                super().openapi(), tasks.HEADER_EXAMPLES, with_tokens=self.tokens is not None
            )
        return super().openapi()


def operation_id(route: APIRoute) -> str:
    """Return the endpoint's name as clients write it: listUserTasks for list_user_tasks."""
    first, *words = route.name.split("_")
    return first + "".join(map(str.capitalize, words))


def create_app(settings: Settings, *, is_fast: bool = True) -> TaskAPI:
    """Make the application. Without the fast path it gives the same answers, but more slowly."""
    app = TaskAPI(
        title="Task API",
        version="1.0.0",
        summary="Per-user tasks",
        servers=[{"url": settings.root_path or "/"}],
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=operation_id,
        exception_handlers=EXCEPTION_HANDLERS,
        lifespan=partial(lifespan, settings),
    )
    app.stopping = asyncio.Event()
    app.tokens = read_tokens(settings, app.stopping)
    app.user_claim = settings.auth_user_claim
    app.description = introduction(with_tokens=app.tokens is not None)
    log_request = configure_logging(settings.log_level, settings.log_format)
    cors = partial(
        CORS,
        allow_origin_regex=settings.cors_pattern,
        allow_credentials=True,
        allow_methods=("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"),
        # Monitoring, gateways and libraries add headers; a refused header would stop the request.
        allow_headers=("*",),
        allow_private_network=True,
        max_age=PREFLIGHT_SECONDS,
        expose_headers=(
            "ETag",
            "Link",
            "Location",
            "Preference-Applied",
            "Retry-After",
            "WWW-Authenticate",
            "X-Total-Count",
            "X-Request-ID",
        ),
    )
    for router in (tasks.router, batches.router, changes.router):
        app.include_router(router)
    app.include_router(personal_tokens.router, include_in_schema=app.tokens is not None)
    for router in (health.router, docs.router):
        app.include_router(router)
    # A request meets the last middleware first. Telemetry learns the route from FastAPI's router.
    if is_fast and not app.wants_telemetry:
        app.add_middleware(FastPath, application=app)
    app.add_middleware(
        RequestMiddleware,
        cors=cors,
        log_request=log_request,
        stopping=app.stopping,
        refusal=None if app.tokens else host_check(settings.allowed_hosts),
        root_path=settings.root_path,
    )
    return app


def read_tokens(settings: Settings, stopping: asyncio.Event) -> Tokens | None:
    if settings.auth_mode in {None, "open"}:
        return None
    rules = Rules(
        settings.auth_issuer, settings.auth_audience, settings.auth_user_claim, AUTH_ADVICE
    )
    if settings.auth_mode == "personal":
        return Tokens(SecretKey(None), rules)
    if settings.auth_secret is not None:
        return Tokens(SecretKey(settings.auth_secret.get_secret_value()), rules)
    # This module's HTTP client takes 5 MB, which only a service with a key server needs.
    from src.framework.auth.jwks import JWKS  # noqa: PLC0415 - see above

    return Tokens(JWKS(settings.auth_jwks_url or "", stopping, "AUTH_JWKS_URL"), rules)


@asynccontextmanager
async def lifespan(settings: Settings, app: TaskAPI) -> AsyncIterator[None]:
    """Open what the application needs, and close it at the end."""
    if settings.auth_mode is None:
        raise CannotStart(NO_KEY)
    app.check_telemetry()
    end_with_parent()
    drain_before_stop(app.stopping, settings.drain_seconds)
    async with (
        opened_engine(settings, app.stopping) as app.engine,
        sweeping(app.engine),
        app.tokens.keys.kept_fresh() if app.tokens else nullcontext(),
    ):
        app.known_tokens = KnownTokens(app.engine)
        app.listeners = Listeners(
            app.engine,
            app.stopping,
            settings.live_idle_seconds or inf,
            settings.live_streams_per_user,
        )
        # Objects from start-up live on: scanning them each time stalls requests by 30 ms.
        gc.collect()
        gc.freeze()
        # Requests leave no cycles. To look for cycles as often as by default takes 5 µs a request.
        gc.set_threshold(GARBAGE_THRESHOLD, 20, 20)
        yield
        await app.known_tokens.close()
    # The signal that uvicorn sends itself next ends the process at once.
    log_end()


app = create_app(get_settings())
