"""How statements run: compiled once, on a pooled connection, to JSON that PostgreSQL writes.

A `Query` is a SQLModel statement as SQL text with the order of its parameters. `fetch` runs it on
the asyncpg connection under SQLAlchemy's pool, prepared once per connection: one round trip, no
transaction around it, and each row comes back as the bytes of its JSON object.
"""

from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeAlias

import asyncpg
from sqlalchemy import Select, event, exc, func, select
from sqlalchemy.dialects.postgresql.asyncpg import (
    AsyncAdapt_asyncpg_connection,
    PGDialect_asyncpg,
)
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection
from sqlalchemy.sql.dml import UpdateBase

from src.connection_string import parse
from src.exceptions import DatabaseUnavailable

CONNECT_SECONDS = 5.0
STATEMENT_SECONDS = 10.0
POOL_WAIT_SECONDS = 5.0

# How a statement ends when the server goes, is full, or is a standby. A TimeoutError is an OSError.
_UNAVAILABLE = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.ReadOnlySQLTransactionError,
)

_DIALECT = PGDialect_asyncpg()  # type: ignore[no-untyped-call]  # SQLAlchemy left it untyped

Driver: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Prepared: TypeAlias = "asyncpg.prepared_stmt.PreparedStatement[asyncpg.Record]"


@dataclass(frozen=True, slots=True)
class Query:
    """A compiled statement; `parameters` are the names of $1, $2 and so on."""

    sql: str
    parameters: tuple[str, ...] = ()


def query(statement: Select[Any] | UpdateBase) -> Query:
    """Compile a statement: each of its rows is answered as a JSON object.

    Raises TypeError for a value that is no bindparam.
    """
    rows = statement.cte("task")
    compiled = select(func.row_to_json(rows.table_valued())).compile(dialect=_DIALECT)
    if any(value is not None for value in compiled.params.values()):
        raise TypeError(f"every value of a statement is a bindparam: {compiled}")
    return Query(str(compiled), tuple(compiled.positiontup or ()))


def create_engine(
    connection_string: str, pool_size: int, statement_seconds: float | None = STATEMENT_SECONDS
) -> AsyncEngine:
    """Make the pooled engine; it connects on first use.

    Raises ValueError when the connection string is not one.
    """
    url, arguments = parse(connection_string)
    engine = create_async_engine(
        url,
        isolation_level="AUTOCOMMIT",
        pool_size=pool_size,
        max_overflow=0,
        # A few busy connections are warmer than many that take turns.
        pool_use_lifo=True,
        pool_timeout=POOL_WAIT_SECONDS,
        pool_reset_on_return=None,
        connect_args={
            "timeout": CONNECT_SECONDS,
            "command_timeout": statement_seconds,
            # Named statements do not survive a pooler in transaction mode.
            "statement_cache_size": 0,
            **arguments,
        },
    )
    event.listen(engine.sync_engine, "connect", _prepare_connection)
    event.listen(engine.sync_engine, "checkout", _replace_if_closed)
    return engine


def _prepare_connection(
    connection: AsyncAdapt_asyncpg_connection, record: ConnectionPoolEntry
) -> None:
    """Let JSON through as it is, and see whether a pooler is in between.

    A pooler gives out process numbers of its own. Behind one, statements stay unnamed: PostgreSQL
    parses them every time, still in one round trip.
    """

    async def prepare(driver: Driver) -> None:
        await driver.set_type_codec(
            "json", schema="pg_catalog", encoder=str.encode, decoder=bytes, format="binary"
        )
        own_number = await driver.fetchval("SELECT pg_backend_pid()")
        record.info["direct"] = own_number == driver.get_server_pid()

    connection.run_async(prepare)


def _replace_if_closed(
    connection: AsyncAdapt_asyncpg_connection,
    _record: ConnectionPoolEntry,
    _proxy: PoolProxiedConnection,
) -> None:
    """Find a connection that died in the pool without asking the server."""
    if connection.driver_connection.is_closed():
        raise exc.DisconnectionError


async def _connection(engine: AsyncEngine) -> PoolProxiedConnection:
    """Take an idle connection as it is; a greenlet, which costs, only where there is I/O to do."""
    if engine.pool.checkedin():  # type: ignore[attr-defined]  # of the pool that create_engine made
        with suppress(exc.MissingGreenlet):
            return engine.sync_engine.raw_connection()
    try:
        return await engine.raw_connection()
    except Exception as error:  # refused, silent, full, no such role: whatever it is, there is none
        raise DatabaseUnavailable(str(error) or type(error).__name__) from error


async def fetch(engine: AsyncEngine, query: Query, **values: object) -> bytes | None:
    """Run a query of one row or none, in one round trip.

    Raises DatabaseUnavailable when PostgreSQL cannot be reached, has no connection to spare
    within POOL_WAIT_SECONDS, or does not answer within STATEMENT_SECONDS.
    """
    rows = await fetch_all(engine, query, **values)
    return rows[0] if rows else None


async def fetch_all(engine: AsyncEngine, query: Query, **values: object) -> list[bytes]:
    """Run a query of any number of rows in one round trip. Raises as `fetch` does."""
    connection = await _connection(engine)
    driver: Driver = connection.driver_connection  # type: ignore[assignment]  # of any driver
    try:
        statement = connection.info.get(query) or await _prepare(driver, connection.info, query)
        records = await statement.fetch(*[values[name] for name in query.parameters])
        return [record[0] for record in records]
    except _UNAVAILABLE as error:
        raise DatabaseUnavailable(str(error)) from error
    except asyncpg.InterfaceError as error:
        if driver.is_closed():
            raise DatabaseUnavailable(str(error)) from error
        raise
    finally:
        if driver.is_closed():
            connection.invalidate()
        connection.close()


async def _prepare(driver: Driver, info: dict[Any, Any], query: Query) -> "Prepared":
    name = f"query_{len(info)}" if info["direct"] else ""
    statement = info[query] = await driver.prepare(query.sql, name=name)
    return statement
