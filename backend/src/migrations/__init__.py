"""The tables, created and brought up to date at start-up."""

from pathlib import Path

import asyncpg
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from src.database.engine import Statement, create_engine, fetch
from src.database.exceptions import DatabaseUnavailable
from src.exceptions import CannotStart

VERSIONS = Path(__file__).parent / "versions"
HEAD = max(path.stem for path in VERSIONS.glob("[0-9]*.py"))
LOCK = 0x7461736B73  # "tasks"

VERSION_TABLE = "task_api_version"

_VERSION = Statement(f"SELECT convert_to(version_num, 'UTF8') FROM {VERSION_TABLE}")  # noqa: S608 - a constant


async def upgrade(engine: AsyncEngine, connection_string: str) -> None:
    """Bring the tables up to date, in one transaction, one process at a time.

    Does nothing if a newer release has upgraded them; this one does not use its columns.
    Raises DatabaseUnavailable, and CannotStart when PostgreSQL refuses a change.
    """
    try:
        version = await fetch(engine, _VERSION)
    except asyncpg.UndefinedTableError:
        version = None
    if version is not None and version.decode() >= HEAD:
        return
    # With its own engine: rewriting a large table may take longer than a request's statement may.
    patient = create_engine(connection_string, pool_size=1, statement_seconds=None)
    try:
        async with patient.connect() as connection:
            await connection.execution_options(isolation_level="READ COMMITTED")
            async with connection.begin():
                await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})
                await connection.run_sync(_upgrade)
    except OSError as error:
        raise DatabaseUnavailable(str(error)) from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise DatabaseUnavailable(str(error.orig)) from error
        raise CannotStart(f"The tables cannot be brought up to date: {error.orig}") from error
    finally:
        await patient.dispose()


def _upgrade(connection: Connection) -> None:
    from alembic import command  # noqa: PLC0415 - most starts do not need it
    from alembic.config import Config  # noqa: PLC0415

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(VERSIONS.parent))
    command.upgrade(config, "head")
