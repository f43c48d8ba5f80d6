"""The database: its engine, and its tables at start-up."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from itertools import chain, repeat
from time import monotonic

from sqlalchemy.ext.asyncio import AsyncEngine

from src.config import DATA_ADVICE, Settings
from src.framework.exceptions import CannotStart
from src.framework.sql.embedded import embedded_server
from src.framework.sql.engine import create_engine, is_worth_waiting_for
from src.framework.sql.exceptions import DatabaseUnavailable
from src.migrations import upgrade

logger = logging.getLogger(__name__)


@asynccontextmanager
async def opened_engine(settings: Settings, stopping: asyncio.Event) -> AsyncIterator[AsyncEngine]:
    """Start the embedded database if it is used, bring the tables up to date, open the pool.

    Raises CannotStart.
    """
    with database_url(settings) as url:
        engine = create_engine(url, settings.database_pool_size, setting="DATABASE_URL")
        try:
            await upgrade_when_reachable(engine, url, settings.database_wait_seconds, stopping)
            yield engine
        finally:
            await engine.dispose()


@contextmanager
def database_url(settings: Settings) -> Iterator[str]:
    if settings.database_url is None:
        with embedded_server(settings.data_dir, DATA_ADVICE) as url:
            yield url
    else:
        yield settings.database_url.get_secret_value()


async def upgrade_when_reachable(
    engine: AsyncEngine, url: str, seconds: float, stopping: asyncio.Event
) -> None:
    """Bring the tables up to date, trying for `seconds` with growing pauses.

    Raises CannotStart after `seconds`. Raises CannotStart earlier if another attempt would not
    help, or if `stopping` is set.
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
