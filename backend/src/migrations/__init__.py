"""The tables, created and brought up to date at start-up."""

from pathlib import Path

import asyncpg
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncEngine

from src.database import Query, fetch

VERSIONS = Path(__file__).parent / "versions"
HEAD = max(path.stem for path in VERSIONS.glob("[0-9]*.py"))
LOCK = 0x7461736B73  # "tasks"

_VERSION = Query("SELECT convert_to(version_num, 'UTF8') FROM alembic_version")


async def upgrade(engine: AsyncEngine) -> None:
    """Bring the tables up to date, in one transaction, one process at a time.

    Does nothing when a newer release has been here: its columns are there for its own use.
    """
    try:
        version = await fetch(engine, _VERSION)
    except asyncpg.UndefinedTableError:
        version = None
    if version is not None and version.decode() >= HEAD:
        return
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="READ COMMITTED")
        async with connection.begin():
            await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})
            await connection.run_sync(_upgrade)


def _upgrade(connection: Connection) -> None:
    from alembic import command  # noqa: PLC0415 - most starts have no need of it
    from alembic.config import Config  # noqa: PLC0415

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(VERSIONS.parent))
    command.upgrade(config, "head")
