"""The tables, created and brought up to date at start-up."""

import logging
from pathlib import Path

import asyncpg
from pydantic_core import from_json
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from src.framework.exceptions import CannotStart
from src.framework.sql import citus
from src.framework.sql.engine import Statement, create_engine, fetch, fetch_all, is_distributed
from src.framework.sql.exceptions import DatabaseUnavailable
from src.framework.sql.statements import table_of
from src.migrations import checks
from src.models.feed import Change, Feed
from src.models.idempotency_key import IdempotencyKey
from src.models.personal_token import PersonalToken
from src.models.task import Task

MODELS = (Task, IdempotencyKey, Feed, Change, PersonalToken)

VERSIONS = Path(__file__).parent / "versions"
REVISIONS = sorted(path.stem for path in VERSIONS.glob("[0-9]*.py"))
HEAD = REVISIONS[-1]
LOCK = 0x7461736B73  # "tasks"

logger = logging.getLogger(__name__)

_FACTS = Statement(checks.FACTS)

_WRONG_TIME_ZONES = Statement(f"SELECT convert_to(place, 'UTF8') FROM ({citus.WRONG_TIME_ZONES}) _")  # noqa: S608 - a constant

_LEFT_BEHIND = Statement("""
SELECT convert_to(name, 'UTF8') FROM unnest('{feeds,changes}'::text[]) AS name
WHERE NOT EXISTS (
    SELECT FROM pg_catalog.pg_dist_partition WHERE logicalrelid = to_regclass(name)
) AND EXISTS (
    SELECT FROM pg_catalog.pg_dist_partition WHERE logicalrelid = to_regclass('tasks')
) AND to_regclass(name) IS NOT NULL
""")
"""The tables that triggers of `tasks` write to, unless they are distributed like `tasks`."""


async def upgrade(engine: AsyncEngine, connection_string: str) -> None:
    """Bring the tables up to date, in one transaction, one process at a time.

    Does nothing if a newer release has upgraded the tables: this release ignores the new columns.
    Raises DatabaseUnavailable, and CannotStart when the database or a table in it is not fit for
    the service, the role lacks a right, or PostgreSQL would write times in another time zone.
    """
    try:
        facts = await _facts(engine)
        revision = await _revision(engine, facts)
        if is_distributed(engine):
            await _check_time_zones(engine)
            await _check_triggers(engine)
        if revision < int(HEAD[:4]):
            await _upgrade_alone(connection_string)
            facts = await _facts(engine)
    except asyncpg.PostgresError as error:
        raise CannotStart(f"The service cannot upgrade the tables: {error}") from error
    if revision <= int(HEAD[:4]):
        checks.check_before_serving(facts, _columns())
    for sentence in checks.exposed(facts):
        logger.warning(sentence)


async def _facts(engine: AsyncEngine) -> checks.Facts:
    """Read again if another process just changed or deleted what PostgreSQL looked up."""
    try:
        facts = await fetch(engine, _FACTS)
    except asyncpg.InternalServerError:
        facts = await fetch(engine, _FACTS)
    read: checks.Facts = from_json(facts or b"")
    return read


async def _revision(engine: AsyncEngine, facts: checks.Facts) -> int:
    """Return the number of the tables' revision, 0 if there are none."""
    checks.check_database(facts)
    checks.check_version_table(facts)
    if checks.VERSION_TABLE not in facts["relations"]:
        return 0
    versions = await fetch_all(engine, Statement(_versions(facts)))
    return checks.revision_number([version.decode() for version in versions], REVISIONS)


def _versions(facts: checks.Facts) -> str:
    schema = facts["schema"].replace('"', '""')
    table = f'"{schema}".{checks.VERSION_TABLE}'
    return f"SELECT convert_to(version_num, 'UTF8') FROM {table} LIMIT 3"  # noqa: S608 - quoted


def _columns() -> dict[str, list[str]]:
    return {model.__tablename__: table_of(model).c.keys() for model in MODELS}


async def _upgrade_alone(connection_string: str) -> None:
    # With its own engine: rewriting a large table may take longer than a request's statement may.
    patient = create_engine(connection_string, 1, None, "DATABASE_URL")
    try:
        async with patient.connect() as connection:
            await connection.execution_options(isolation_level="READ COMMITTED")
            async with connection.begin():
                await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})
                for setting in citus.FOR_MIGRATIONS:
                    await connection.execute(text(f"SET LOCAL {setting}"))
                await connection.run_sync(_upgrade)
    except OSError as error:
        raise DatabaseUnavailable(str(error)) from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise DatabaseUnavailable(str(error.orig)) from error
        raise checks.failed(
            str(error.orig), getattr(error.driver_exception, "detail", "")
        ) from error
    finally:
        await patient.dispose()


async def _check_time_zones(engine: AsyncEngine) -> None:
    """The server that has a row writes the JSON, in the time zone of its own database."""
    wrong = await fetch_all(engine, _WRONG_TIME_ZONES)
    if wrong:
        raise CannotStart(
            f"The time zone of {b', '.join(wrong).decode()} is not UTC, but the API writes every "
            "time in UTC: on the coordinator, run "
            f"ALTER DATABASE {engine.url.database} SET timezone = 'UTC'"
        )


async def _check_triggers(engine: AsyncEngine) -> None:
    """On each server that has rows of `tasks`, triggers have to find the tables they write to."""
    for table in await fetch_all(engine, _LEFT_BEHIND):
        raise CannotStart(
            f"The table {table.decode()} is not distributed like tasks, so writes would fail: "
            "on the coordinator, run SET citus.enable_unsafe_triggers = on; "
            f"SELECT create_distributed_table('{table.decode()}', 'user_id', "
            "colocate_with => 'tasks')"
        )


def colocate(connection: Connection, table: str) -> None:
    """Distribute a new table as `tasks` is, by `user_id`; do nothing where `tasks` is not."""
    if connection.scalar(text(f"SELECT {citus.IS_INSTALLED}")):
        connection.execute(text(citus.COLOCATE), {"table": table, "other": "tasks"})


def run_in_schema(connection: Connection, *statements: str) -> None:
    """Run statements in which {schema} stands for the name of the tables' schema, in quotes."""
    schema = connection.exec_driver_sql("SELECT quote_ident(current_schema())").scalar_one()
    for statement in statements:
        connection.exec_driver_sql(statement.replace("{schema}", schema))


def distribute_functions(connection: Connection, *signatures: str) -> None:
    """Let Citus, if it is installed, make these functions on every server, and on new servers."""
    if connection.scalar(text(f"SELECT {citus.IS_INSTALLED}")):
        for signature in signatures:
            connection.execute(text("SELECT create_distributed_function(:it)"), {"it": signature})


def _upgrade(connection: Connection) -> None:
    from alembic import command  # noqa: PLC0415 - most starts do not need it
    from alembic.config import Config  # noqa: PLC0415

    # Read again, because another process may have upgraded the tables before this one had the lock.
    facts = from_json(connection.exec_driver_sql(checks.FACTS).scalar_one())
    checks.check_version_table(facts)
    revision = 0
    if checks.VERSION_TABLE in facts["relations"]:
        versions = connection.exec_driver_sql(_versions(facts)).scalars()
        revision = checks.revision_number([version.decode() for version in versions], REVISIONS)
    if revision < int(HEAD[:4]):
        checks.check_before_upgrade(facts, revision)
        connection.execute(text(_FIRST), {"schema": facts["schema"]})
        config = Config(attributes={"connection": connection, "schema": facts["schema"]})
        config.set_main_option("script_location", str(VERSIONS.parent))
        command.upgrade(config, "head")
        facts = from_json(connection.exec_driver_sql(checks.FACTS).scalar_one())
        checks.check_before_serving(facts, _columns())


_FIRST = """
SELECT set_config('search_path', concat_ws(', ', quote_ident(:schema),
    nullif(current_setting('search_path'), '')), true)
"""
