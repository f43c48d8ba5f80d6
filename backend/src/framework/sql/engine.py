"""How statements run: compiled once, on a pooled connection, to JSON that PostgreSQL writes.

A `Statement` is a SQLModel statement as SQL text, with the order of its parameters. `fetch` runs
the statement on an asyncpg connection of SQLAlchemy's pool, and prepares the statement once for
each connection. The statement takes one round trip, without a transaction around the statement.
Each row comes back as the bytes of a JSON object.
"""

import asyncio
import logging
import select as polling
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from math import inf
from time import monotonic
from typing import Any, TypeAlias, TypeVar

import asyncpg
from pydantic_core import to_json
from sqlalchemy import CTE, CompoundSelect, FromClause, Select, event, exc, select, true
from sqlalchemy.dialects.postgresql.asyncpg import AsyncAdapt_asyncpg_connection, PGDialect_asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, ConnectionPoolEntry
from sqlalchemy.sql.dml import UpdateBase
from sqlalchemy.sql.visitors import iterate
from sqlalchemy.util import greenlet_spawn

from src.framework.sql import citus
from src.framework.sql.connection_string import parse
from src.framework.sql.exceptions import (
    DatabaseUnavailable,
    LockTimedOut,
    MembersRefused,
    NoConnectionFree,
    OutcomeUnknown,
)
from src.framework.sql.json_times import with_six_digits
from src.framework.sql.members import MEMBER_REASONS
from src.framework.sql.row_end import RowEnd, json_of, row_end
from src.framework.sql.shares import Shares
from src.framework.sql.sharing import Answers, Group, How, Queue, Turn, Values

CONNECT_SECONDS = 5.0
STATEMENT_SECONDS = 8.0
POOL_WAIT_SECONDS = 4.0
CANCEL_SECONDS = 1.5

SLOW_SECONDS = 1.0
"""A statement that takes longer has a line in the log."""

BATCH_ROWS = 1000
"""How many rows to read at a time from a statement that may have very many."""

logger = logging.getLogger(__name__)

# How a statement fails when its connection is lost.
_LOST = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)

# How a statement fails when the server is full, stopping or read-only, or took a right from us.
_REFUSED = (
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.InsufficientPrivilegeError,
)

# How a connection fails when the server refuses, is silent or is full, or knows no such role or
# database, or when the host has no address.
_NO_CONNECTION = (
    OSError,
    UnicodeError,  # of a host's name
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    exc.EmulatedDBAPIException,
    exc.TimeoutError,
)

# Errors that waiting does not fix.
_WRONG = (
    ssl.SSLError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
)

_TAKES_LONG = object()
"""The key of the share that all users' slow statements have together."""

# How a statement fails when it cannot lock a row. PostgreSQL has then undone the statement.
_LOCKED = (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError)

_FAILED = (TimeoutError, asyncpg.RaiseError, *_LOST, *_REFUSED, *_LOCKED, *citus.REFUSALS)

_DIALECT = PGDialect_asyncpg()  # type: ignore[no-untyped-call]  # SQLAlchemy left it untyped

Driver: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Prepared: TypeAlias = "asyncpg.prepared_stmt.PreparedStatement[asyncpg.Record]"


T = TypeVar("T")
Run: TypeAlias = Callable[..., Awaitable[list[asyncpg.Record]]]
Once: TypeAlias = Callable[[ConnectionPoolEntry], Awaitable[T]]
"""One attempt to run a statement, on this connection."""


class _SendAgain(DatabaseUnavailable):
    """The connection is gone, and the statement was not applied or may be applied again."""


# Compared by identity, because every request looks up its prepared statement.
@dataclass(frozen=True, slots=True, eq=False)
class Statement:
    """A compiled statement; `parameters` are the names of $1, $2 and so on.

    All statements with `takes_long` together get at most half of the pool. All statements with
    `writes`, which may wait for locked rows, also get at most half. `shared` makes the statement
    that many requests share. Each request gives the shared statement its values, and says what its
    own statement `does`.

    The first column is the answer. If `end` is not None, `end` completes the JSON of each row. If
    `has_footer` is true, the last row says something about the other rows.
    """

    sql: str
    parameters: tuple[str, ...] = ()
    repeatable: bool = True
    takes_long: bool = False
    writes: bool = False
    shared: "Shared | None" = None
    does: Mapping[str, object] = field(default_factory=dict)
    end: RowEnd | None = None
    has_footer: bool = False


Shared: TypeAlias = Callable[[frozenset[Statement], How], Statement]
"""Makes the shared statement for requests with these plain statements."""

_HAS_CITUS = Statement(f"SELECT to_json({citus.IS_INSTALLED})")
_IS_DISTRIBUTED = Statement(f"SELECT to_json({citus.IS_DISTRIBUTED})")


def compiled(
    statement: Select[Any] | UpdateBase, repeatable: bool | None = None, current: CTE | None = None
) -> Statement:
    """Compile a statement that returns each of its rows as a JSON object.

    A repeatable statement changes nothing when it is applied a second time. A statement that writes
    nothing is repeatable.
    If `current` has a row and the statement has none, the result is one None: a condition failed.
    Raises TypeError for a value that is not a bindparam.
    """
    row = statement.cte("row")
    source = row if current is None else current.outerjoin(row, true())
    return compiled_rows(select(json_of(row)).select_from(source), row, repeatable)


def compiled_rows(
    answer: Select[Any] | CompoundSelect[Any], rows: FromClause, repeatable: bool | None = None
) -> Statement:
    """Compile a statement whose first column is the JSON of rows. Raises as `compiled` does."""
    return replace(compiled_answer(answer, repeatable), end=row_end(rows.c))


def compiled_answer(
    answer: Select[Any] | CompoundSelect[Any] | UpdateBase, repeatable: bool | None = None
) -> Statement:
    """Compile a statement whose first column is the answer. Raises as `compiled` does."""
    text = answer.compile(dialect=_DIALECT)
    if any(value is not None for value in text.params.values()):
        raise TypeError(f"every value of a statement must be a bindparam: {text}")
    writes = any(isinstance(part, UpdateBase) for part in iterate(answer))
    if repeatable is None:
        repeatable = not writes
    return Statement(str(text), tuple(text.positiontup or ()), repeatable, writes=writes)


class Pool(AsyncAdaptedQueuePool):
    """SQLAlchemy's pool, in which each user gets at most half of the connections.

    Shared statements count towards no user's half. `broken` has the entries that need a new
    connection. `is_distributed` says whether the last look found distributed tables.
    """

    def __init__(self, *arguments: Any, **settings: Any) -> None:  # noqa: ANN401 - as SQLAlchemy has them
        super().__init__(*arguments, **settings)
        self.shares = Shares(max(1, self.size() // 2), POOL_WAIT_SECONDS)
        self.broken: set[ConnectionPoolEntry] = set()
        self.reads: Queue
        self.writes: Queue
        self.statement_seconds: float
        self.is_distributed = False

    def take(self) -> ConnectionPoolEntry:
        """Take a connection from the pool, or make a new connection. Only I/O needs a greenlet.

        SQLAlchemy's `connect` would wrap the connection in a proxy, which knows when to reset the
        connection. Our connections need no reset, and the proxy would take a third of a statement's
        processor time.
        """
        entry = self._do_get()
        try:
            entry.get_connection()  # type: ignore[attr-defined]  # every entry of SQLAlchemy has it
        except BaseException:
            self.give_back(entry)
            raise
        return entry

    def give_back(self, entry: ConnectionPoolEntry) -> None:
        self._do_return_conn(entry)


# SQLAlchemy names its logger after the class, and our loggers show `info`.
logging.getLogger(f"{__name__}.{Pool.__name__}").setLevel(logging.WARNING)


def _pool(engine: AsyncEngine) -> Pool:
    return engine.sync_engine.pool  # type: ignore[return-value]  # that `create_engine` made


def create_engine(
    connection_string: str,
    pool_size: int,
    statement_seconds: float | None = STATEMENT_SECONDS,
    setting: str = "The connection string",
) -> AsyncEngine:
    """Make the pooled engine; it connects on first use. Warnings name the `setting`.

    Raises ValueError for an invalid connection string.
    """
    url, arguments = parse(connection_string, setting)
    engine = create_async_engine(
        url,
        isolation_level="AUTOCOMMIT",
        poolclass=Pool,
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
    pool = _pool(engine)

    def fill(_: object) -> None:
        pool, together = _pool(engine), partial(_fetch_together, engine)
        pool.reads = Queue(together, POOL_WAIT_SECONDS)
        pool.writes = Queue(together, POOL_WAIT_SECONDS, room=pool.shares.most)
        pool.statement_seconds = inf if statement_seconds is None else statement_seconds

    fill(engine)
    event.listen(engine.sync_engine, "engine_disposed", fill)  # the engine has a new pool then
    broken = pool.broken
    event.listen(engine.sync_engine, "invalidate", lambda _, entry, _error: broken.add(entry))
    event.listen(engine.sync_engine, "connect", partial(_prepare_connection, pool))
    event.listen(engine.sync_engine, "connect", lambda _, entry: broken.discard(entry))
    return engine


def is_distributed(engine: AsyncEngine) -> bool:
    """Whether Citus spreads the tables over several servers, as of the last look.

    Every new connection looks, and so does `ping`.
    """
    return _pool(engine).is_distributed


async def ping(engine: AsyncEngine) -> None:
    """See whether the database answers, and whether its tables are distributed by now.

    Raises DatabaseUnavailable.
    """
    has_citus = await fetch(engine, _HAS_CITUS) == b"true"
    _pool(engine).is_distributed = has_citus and await fetch(engine, _IS_DISTRIBUTED) == b"true"


def _prepare_connection(
    pool: Pool, connection: AsyncAdapt_asyncpg_connection, record: ConnectionPoolEntry
) -> None:
    """Pass JSON through, with six digits in times, and find out who is at the other end.

    A pooler reports process numbers of its own. Behind a pooler, statements have no name, and
    PostgreSQL parses and plans a statement each time, still in one round trip. Without a pooler,
    PostgreSQL does so once, because to plan a list of 20 takes longer than to read the list. With
    Citus, PostgreSQL plans each time, for the server that has the rows.
    """

    async def prepare(driver: Driver) -> None:
        await driver.set_type_codec(
            "json", schema="pg_catalog", encoder=bytes, decoder=with_six_digits, format="binary"
        )
        [(own_number, has_citus)] = await driver.fetch(
            f"SELECT pg_backend_pid(), {citus.IS_INSTALLED}"
        )
        found = knows_a_table = False
        if has_citus:
            [(found, knows_a_table)] = await driver.fetch(
                f"SELECT {citus.IS_DISTRIBUTED}, {citus.KNOWS_A_TABLE}"
            )
        pool.is_distributed = found  # at once: other requests go on meanwhile
        record.info["direct"] = own_number == driver.get_server_pid()
        # PostgreSQL may have prepared a statement after the service gave up: no name is used twice.
        record.info["numbers"] = count()
        record.info["plans once"] = record.info["direct"] and not knows_a_table
        if record.info["plans once"]:
            # Without enable_seqscan, a scan that no index can replace counts as so expensive that
            # PostgreSQL would compile the statement (JIT), for seconds.
            await driver.execute(
                "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET jit = off"
            )

    connection.run_async(prepare)
    driver: Any = connection.driver_connection
    record.info["is_readable"] = _is_readable(driver._transport.get_extra_info("socket"))


def _is_readable(socket: Any) -> Callable[[], object]:  # noqa: ANN401 - what the event loop has
    if not hasattr(polling, "poll"):  # on Windows
        return lambda: polling.select([socket], [], [], 0)[0]
    poll = polling.poll()
    poll.register(socket, polling.POLLIN)
    return partial(poll.poll, 0)


async def _connect(pool: Pool) -> ConnectionPoolEntry:
    """Wait for a connection, or make one. Raises DatabaseUnavailable."""
    try:
        return await greenlet_spawn(pool.take)
    except _NO_CONNECTION as error:
        cause = error.orig if isinstance(error, exc.EmulatedDBAPIException) else error
        unavailable = DatabaseUnavailable
        if isinstance(cause, asyncpg.PostgresConnectionError):
            unavailable = _SendAgain
        elif isinstance(cause, exc.TimeoutError):
            unavailable = NoConnectionFree
        raise unavailable(str(error) or type(error).__name__) from cause


def is_worth_waiting_for(error: DatabaseUnavailable) -> bool:
    """Whether retrying can help; a wrong password or certificate stays wrong."""
    cause = error.__cause__
    refused_tls = type(cause) is ConnectionError  # as asyncpg raises it
    return not refused_tls and not isinstance(cause, _WRONG)


def fetch(
    engine: AsyncEngine, statement: Statement, /, **values: object
) -> Coroutine[Any, Any, bytes | None]:
    """Run a statement for one row or None, in one round trip. Raises as `fetch_all` does.

    The request may share a statement with others. Where tables are distributed it does not: a
    shared statement would go to every server.
    """
    pool = _pool(engine)
    alone = partial(_fetch_one, engine, statement, values)
    if statement.shared is None or pool.is_distributed:
        return _alone(pool, statement, values, alone)
    queue = pool.writes if statement.writes else pool.reads
    row_id: Any = values["id"]
    key = (values["user_id"], row_id.int)  # a UUID itself takes long to hash
    return queue.answer(statement, key, values, alone)


def _alone(
    pool: Pool,
    statement: Statement,
    values: Values,
    send: Callable[[float], Coroutine[Any, Any, T]],
) -> Coroutine[Any, Any, T]:
    if not statement.writes or "user_id" not in values:  # it is for nobody, or for several users
        return send(monotonic())
    return pool.writes.alone(values["user_id"], send)


async def _fetch_one(
    engine: AsyncEngine, statement: Statement, values: Values, came: float
) -> bytes | None:
    records = await _fetch_alone(engine, statement, values, came)
    return rows_of(statement, records)[0] if records else None


def _fetch_alone(
    engine: AsyncEngine, statement: Statement, values: Values, came: float
) -> Coroutine[Any, Any, list[asyncpg.Record]]:
    by = came + _pool(engine).statement_seconds
    arguments = _arguments(statement, values)

    def once(connection: ConnectionPoolEntry) -> Awaitable[list[asyncpg.Record]]:
        return _fetch_once(connection, statement, arguments, by=by)

    return _in_turn(engine, once, values.get("user_id"), takes_long=statement.takes_long)


def _arguments(statement: Statement, values: Values) -> list[object]:
    return [values[name] for name in statement.parameters]


async def _fetch_together(engine: AsyncEngine, choose: Callable[[], Group]) -> Answers | None:
    """Run a group's statement, and return None if PostgreSQL refuses a value in it."""

    async def once(connection: ConnectionPoolEntry) -> Answers | None:
        turns, how = choose()
        if not turns:
            return {}
        statement: Statement = turns[0].statement
        is_shared = len(turns) > 1 or (statement.writes and how != "wait")
        try:
            if is_shared:
                statements = frozenset([turn.statement for turn in turns])
                statement = turns[0].statement.shared(statements, how)
                if statement.writes:
                    rounds = _rounds(turns, how, alike=len(statements) == 1)
                else:
                    names = turns[0].values
                    rounds = [{f"{name}s": [turn.values[name] for turn in turns] for name in names}]
            else:
                rounds = [turns[0].values]
            records = await _fetch_once(
                connection,
                statement,
                *(_arguments(statement, values) for values in rounds),
                requests=len(turns),
                by=min([turn.came for turn in turns]) + pool.statement_seconds,
            )
        except LockTimedOut:
            if how == "wait":
                raise
            return {}
        except (asyncpg.PostgresError, MembersRefused, ValueError):
            return None
        rows = rows_of(statement, records)
        if not is_shared:
            return {turns[0].key: rows}
        answers: Answers = {}
        for record, row in zip(records, rows, strict=True):
            answers.setdefault((record[-2], record[-1].int), []).append(row)
        return answers

    pool = _pool(engine)
    return await _until_sent(engine, once)


def _rounds(turns: list[Turn], how: How, *, alike: bool) -> list[Values]:
    """Return the values of each round of a shared statement. A row is in a round only once.

    If the requests are not `alike`, the values say what each request does.
    """
    values = [turn.values if alike else {**turn.values, **turn.statement.does} for turn in turns]
    if how != "wait":
        return [{"asked": to_json(values)}]
    rounds: list[dict[object, Values]] = [{}]
    for turn, each in zip(turns, values, strict=True):
        number = 0
        while turn.key in rounds[number]:
            number += 1
            if number == len(rounds):
                rounds.append({})
        rounds[number][turn.key] = each
    return [{"asked": to_json([*each.values()])} for each in rounds]


async def fetch_all(engine: AsyncEngine, statement: Statement, /, **values: object) -> list[bytes]:
    """Run a statement for all of its rows, in one round trip.

    The statement is sent again when its connection breaks, unless it might be applied twice.
    Raises DatabaseUnavailable when PostgreSQL cannot be reached, no connection is free within
    POOL_WAIT_SECONDS, or no answer comes within STATEMENT_SECONDS. Then PostgreSQL may have applied
    a statement that is not repeatable. A user who holds half of the pool waits for a connection, as
    all users do when the whole pool is taken.
    """
    send = partial(_fetch_alone, engine, statement, values)
    return rows_of(statement, await _alone(_pool(engine), statement, values, send))


def fetch_into(
    engine: AsyncEngine,
    statement: Statement,
    gather: Callable[[list[bytes]], Awaitable[T]],
    /,
    **values: object,
) -> Awaitable[T]:
    """Run a statement as `fetch_all` does, and return what `gather` makes of its rows.

    The connection is released after `gather`, so memory has the rows of at most one list for each
    connection.
    """
    arguments = _arguments(statement, values)

    async def once(connection: ConnectionPoolEntry) -> T:
        # No name for the records: memory would have each row twice until `gather` returns.
        rows = rows_of(statement, await _fetch_once(connection, statement, arguments))
        return await gather(rows)

    return _in_turn(engine, once, values.get("user_id"), takes_long=statement.takes_long)


def fetch_batches_into(
    engine: AsyncEngine,
    statement: Statement,
    gather: Callable[[AsyncIterator[list[bytes]]], Awaitable[T]],
    /,
    **values: object,
) -> Awaitable[T]:
    """Run a statement with very many rows through a cursor; return what `gather` makes of them.

    `gather` gets BATCH_ROWS rows at a time, all from one snapshot, and starts over when the
    connection breaks. Raises DatabaseUnavailable as `fetch_all` does. All batches together may take
    STATEMENT_SECONDS.
    """
    arguments = _arguments(statement, values)

    def once(connection: ConnectionPoolEntry) -> Awaitable[T]:
        return _fetch_batches_once(gather, connection, statement, arguments)

    return _in_turn(engine, once, values.get("user_id"), takes_long=True)


def fetch_in_transaction(
    engine: AsyncEngine,
    work: Callable[[Run], Awaitable[T]],
    /,
    user_id: str,
    *,
    repeatable: bool = True,
) -> Awaitable[T]:
    """Return what `work` makes of the statements that it runs in one transaction, for this user.

    `work` starts over when the connection breaks, unless it might be applied twice.
    Raises DatabaseUnavailable as `fetch_all` does.
    """

    async def once(connection: ConnectionPoolEntry) -> T:
        driver = _driver(connection)
        is_ending = False

        async def run(statement: Statement, **values: object) -> list[asyncpg.Record]:
            prepared = connection.info.get(statement) or await _prepare(
                driver, connection.info, statement
            )
            return await prepared.fetch(*_arguments(statement, values))

        try:
            try:
                await driver.execute("BEGIN")
                answer = await work(run)
                is_ending = True
                await driver.execute("COMMIT")
            except _FAILED as error:
                again = repeatable or not is_ending
                raise await _explained(error, connection, again=again) from error
        except BaseException:
            driver.terminate()  # or the next statement would be in its transaction
            raise
        return answer

    def send(_came: float) -> Coroutine[Any, Any, T]:
        return _in_turn(engine, once, user_id)

    return _pool(engine).writes.alone(user_id, send)


async def _in_turn(
    engine: AsyncEngine, once: Once[T], user_id: object, *, takes_long: bool = False
) -> T:
    """Run a statement when the user's share allows it, and again if its connection is gone."""
    pool = _pool(engine)
    if not pool.shares.take(user_id):
        await pool.shares.turn(user_id)
    try:
        if takes_long and not pool.shares.take(_TAKES_LONG):
            await pool.shares.turn(_TAKES_LONG)
        try:
            return await _until_sent(engine, once)
        finally:
            if takes_long:
                pool.shares.give_back(_TAKES_LONG)
    finally:
        pool.shares.give_back(user_id)


async def _until_sent(engine: AsyncEngine, once: Once[T]) -> T:
    pool = _pool(engine)
    gone = 0  # every connection in the pool may be gone
    while True:
        try:
            # SQLAlchemy's greenlet is expensive, and only needed for I/O.
            is_idle = pool.checkedin() and not pool.broken
            connection = pool.take() if is_idle else await _connect(pool)
            driver = _driver(connection)
            try:
                return await once(connection)
            finally:
                if driver.is_closed() or pool is not _pool(engine):  # the engine was disposed
                    connection.invalidate()
                pool.give_back(connection)
        except _SendAgain:
            gone += 1
            if gone > pool.size():
                raise


async def _fetch_once(
    connection: ConnectionPoolEntry,
    statement: Statement,
    arguments: list[object],
    *further: list[object],
    requests: int = 1,
    by: float = inf,
) -> list[asyncpg.Record]:
    """Run a statement. With `further`, run it several times, in one transaction and round trip."""
    driver = _driver(connection)
    sent = False
    began = monotonic()
    try:
        # An idle server sends nothing, unless it ends the session.
        if not statement.repeatable and connection.info["is_readable"]():
            driver.terminate()
            raise _SendAgain("the session was ended")
        prepared = connection.info.get(statement) or await _prepare(
            driver, connection.info, statement
        )
        sent = True
        seconds = None if by == inf else max(by - monotonic(), 0)
        if further:
            return await prepared.fetchmany([arguments, *further], timeout=seconds)
        return await prepared.fetch(*arguments, timeout=seconds)
    except _FAILED as error:
        raise await _explained(error, connection, again=not sent or statement.repeatable) from error
    finally:
        took = monotonic() - began
        if took > SLOW_SECONDS:
            sql = " ".join(statement.sql.split())
            logger.warning("A slow statement took %.1f s for %d requests: %s", took, requests, sql)


async def _fetch_batches_once(
    gather: Callable[[AsyncIterator[list[bytes]]], Awaitable[T]],
    connection: ConnectionPoolEntry,
    statement: Statement,
    arguments: list[object],
) -> T:
    driver = _driver(connection)
    try:
        try:
            async with asyncio.timeout(STATEMENT_SECONDS):
                return await gather(_batches(connection, statement, arguments))
        except _FAILED as error:
            raise await _explained(error, connection, again=True) from error
    except BaseException:
        driver.terminate()  # or the next statement would be in its transaction
        raise


async def _batches(
    connection: ConnectionPoolEntry, statement: Statement, arguments: list[object]
) -> AsyncIterator[list[bytes]]:
    driver = _driver(connection)
    # First, because a pooler may prepare on another connection outside of a transaction.
    await driver.execute("BEGIN READ ONLY")
    prepared = connection.info.get(statement) or await _prepare(driver, connection.info, statement)
    cursor = await prepared.cursor(*arguments)
    while rows := rows_of(statement, await cursor.fetch(BATCH_ROWS)):
        yield rows
    await driver.execute("COMMIT")


def rows_of(statement: Statement, records: list[asyncpg.Record]) -> list[bytes]:
    """Return the answers in these records."""
    rows = [record[0] for record in records]
    if statement.end is None:
        return rows
    if not statement.has_footer:
        return statement.end.completed(rows)
    footer = rows.pop()
    return [*statement.end.completed(rows), footer]


def _driver(connection: ConnectionPoolEntry) -> Driver:
    return connection.driver_connection  # type: ignore[return-value]  # of any driver


async def _explained(
    error: Exception, connection: ConnectionPoolEntry, *, again: bool
) -> DatabaseUnavailable:
    """Translate a driver error for the caller. Raises MembersRefused."""
    driver = _driver(connection)
    if isinstance(error, asyncpg.RaiseError):
        if error.message not in MEMBER_REASONS:
            raise error
        number = int(error.detail) if error.detail else None
        raise MembersRefused(error.column_name or "", error.message or "", number)
    if isinstance(error, asyncpg.LockNotAvailableError):
        return LockTimedOut(str(error))
    if isinstance(error, asyncpg.DeadlockDetectedError):
        return _SendAgain(str(error))
    if isinstance(error, _REFUSED) or citus.cannot_reach_worker(error):
        return DatabaseUnavailable(str(error))
    if isinstance(error, citus.REFUSALS):
        if citus.cannot_plan(error) and connection.info["plans once"]:
            driver.terminate()  # the next connection sees that the tables are distributed now
        elif not citus.has_moved(error):
            raise error
        return _SendAgain(str(error))
    if isinstance(error, TimeoutError):
        await _cancel(driver)
        return DatabaseUnavailable("no answer in time")
    if isinstance(error, asyncpg.InterfaceError) and not driver.is_closed():
        raise error  # the driver is used wrongly
    driver.terminate()
    unavailable = _SendAgain if again or _was_not_applied(error) else OutcomeUnknown
    return unavailable(str(error) or type(error).__name__)


async def _prepare(driver: Driver, info: dict[Any, Any], statement: Statement) -> "Prepared":
    name = f"statement_{next(info['numbers'])}" if info["direct"] else ""
    prepared = info[statement] = await driver.prepare(statement.sql, name=name)
    return prepared


def _was_not_applied(error: BaseException) -> bool:
    """Whether the driver never sent the statement, or PostgreSQL ended the session instead.

    PostgreSQL does not end a session between a commit and its answer.
    """
    return was_not_sent(error) or isinstance(error.__cause__, asyncpg.AdminShutdownError)


def was_not_sent(error: BaseException) -> bool:
    # After a session has ended, only the message tells that asyncpg sent nothing. When asyncpg has
    # sent something, it raises the same class.
    is_ended = isinstance(error, asyncpg.InternalClientError) and str(error).startswith(
        "cannot switch to state"
    )
    return is_ended or isinstance(error, asyncpg.InterfaceError)


async def _cancel(driver: Driver) -> None:
    """Wait until the server has cancelled the statement, or drop the connection."""
    try:
        await driver.execute("SELECT 1", timeout=CANCEL_SECONDS)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        driver.terminate()
