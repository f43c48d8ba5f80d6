"""The application: `uvicorn src.main:app`."""

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext, suppress
from functools import partial
from itertools import chain, repeat
from math import inf
from time import monotonic
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from src.config import AUTH_ADVICE, Settings, get_settings
from src.framework.auth.tokens import Rules, SecretKey, Tokens
from src.framework.exceptions import CannotStart
from src.framework.server.logs import configure_logging
from src.framework.server.open_mode import OpenMode
from src.framework.server.process import drain_before_stop, end_with_parent, log_end
from src.framework.sql.embedded import embedded_server
from src.framework.sql.engine import create_engine, is_worth_waiting_for
from src.framework.sql.exceptions import DatabaseUnavailable
from src.framework.web import docs
from src.framework.web.application import Application
from src.framework.web.contract import complete
from src.framework.web.fast import FastPath
from src.framework.web.middleware import CORS, RequestMiddleware
from src.migrations import upgrade
from src.routers import health, tasks
from src.routers.problems import EXCEPTION_HANDLERS
from src.services.live import Live

logger = logging.getLogger(__name__)

GARBAGE_THRESHOLD = 20_000
"""New objects between two garbage collections; a request has 45."""

PREFLIGHT_SECONDS = 7200
"""How long browsers may cache a preflight; Chromium's own limit is the same."""


class TaskAPI(Application):
    open_mode: OpenMode | None
    engine: AsyncEngine
    live: Live
    tokens: Tokens | None

    def openapi(self) -> dict[str, Any]:
        """In open mode, the contract asks for no token."""
        if self.openapi_schema is None:
            complete(super().openapi(), tasks.HEADER_EXAMPLES, with_tokens=self.tokens is not None)
        return super().openapi()


def create_app(settings: Settings, *, is_fast: bool = True) -> TaskAPI:
    """Make the application. Without the fast path it gives the same answers, more slowly."""
    app = TaskAPI(
        title="Task API",
        version="1.0.0",
        summary="Per-user tasks",
        description="Every error is an RFC 9457 problem; its `detail` is a sentence that a user "
        "can be shown. The answers to OPTIONS and to a method that is not allowed (405) list the "
        "path's methods in `Allow`. HEAD is answered like GET, without the body.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers=EXCEPTION_HANDLERS,
        lifespan=partial(lifespan, settings),
    )
    app.stopping = asyncio.Event()
    app.tokens = read_tokens(settings, app.stopping)
    app.open_mode = None if app.tokens else OpenMode(settings.is_open_on_purpose)
    log_request = configure_logging(settings.log_level, settings.log_format)
    cors = partial(
        CORS,
        allow_origins=settings.cors_origins,
        allow_credentials=True,
        allow_methods=("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"),
        allow_headers=(
            "Authorization",
            "Content-Type",
            "Idempotency-Key",
            "If-Match",
            "If-None-Match",
            "X-Request-ID",
            # Libraries add these; a preflight that refused them would stop the request.
            "Baggage",
            "Cache-Control",
            "Last-Event-ID",
            "Pragma",
            "Prefer",
            "Traceparent",
            "Tracestate",
            "X-Requested-With",
        ),
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
    for router in (tasks.router, health.router, docs.router):
        app.include_router(router)
    # A request meets the last middleware first. Tracing learns the route from FastAPI's router.
    if is_fast and not app.wants_telemetry:
        app.add_middleware(FastPath, application=app)
    app.add_middleware(
        RequestMiddleware,
        cors=cors,
        log_request=log_request,
        stopping=app.stopping,
        refusal=app.open_mode.refusal if app.open_mode else None,
    )
    return app


def read_tokens(settings: Settings, stopping: asyncio.Event) -> Tokens | None:
    if settings.auth_mode == "open":
        return None
    rules = Rules(
        settings.auth_issuer, settings.auth_audience, settings.auth_user_claim, AUTH_ADVICE
    )
    if settings.auth_secret is not None:
        return Tokens(SecretKey(settings.auth_secret.get_secret_value().encode()), rules)
    # Its HTTP client takes 5 MB, which only a service with a key server needs.
    from src.framework.auth.jwks import JWKS  # noqa: PLC0415 - see above

    return Tokens(JWKS(settings.auth_jwks_url or "", stopping), rules)


@asynccontextmanager
async def lifespan(settings: Settings, app: TaskAPI) -> AsyncIterator[None]:
    """Start the embedded database if it is used, bring the tables up to date, open the pool."""
    app.check_telemetry()
    end_with_parent()
    drain_before_stop(app.stopping, settings.drain_seconds)
    with database_url(settings) as url:
        engine = create_engine(url, settings.database_pool_size)
        try:
            await upgrade_when_reachable(engine, url, settings.database_wait_seconds, app.stopping)
            app.engine = engine
            async with (
                app.tokens.keys.kept_fresh() if app.tokens else nullcontext(),
                app.open_mode.watched() if app.open_mode else nullcontext(),
            ):
                app.live = Live(engine, app.stopping, settings.live_idle_seconds or inf)
                # Objects from start-up stay: scanning them each time stalls requests by 30 ms.
                gc.collect()
                gc.freeze()
                # Requests leave no cycles; looking for them as often as by default takes 5 µs each.
                gc.set_threshold(GARBAGE_THRESHOLD, 20, 20)
                yield
        finally:
            await engine.dispose()
    # The signal that uvicorn sends itself next ends the process at once.
    log_end()


async def upgrade_when_reachable(
    engine: AsyncEngine, url: str, seconds: float, stopping: asyncio.Event
) -> None:
    """Bring the tables up to date, trying for `seconds` with growing pauses.

    Raises CannotStart after that, when trying again would not help, and when told to stop.
    """
    deadline = monotonic() + seconds
    for pause in chain((0.25, 0.5, 1, 2), repeat(4)):
        try:
            await upgrade(engine, url)
        except DatabaseUnavailable as error:
            left = deadline - monotonic()
            if left <= 0 or not is_worth_waiting_for(error):
                raise CannotStart(
                    f"The database cannot be reached ({error}): check DATABASE_URL"
                ) from error
            logger.warning("Waiting %.0f s more for the database (%s)", left, error)
        else:
            return
        with suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), min(pause, left))
            raise CannotStart("The service was stopped while it waited for the database")


@contextmanager
def database_url(settings: Settings) -> Iterator[str]:
    if settings.database_url is None:
        with embedded_server(settings.data_dir) as url:
            yield url
    else:
        yield settings.database_url.get_secret_value()


app = create_app(get_settings())
