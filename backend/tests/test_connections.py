"""Connections to PostgreSQL: failures while preparing, and each user's share."""

import asyncio
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from fcntl import F_DUPFD, fcntl
from types import SimpleNamespace
from typing import Any

import asyncpg
import psutil
import pytest
from sqlalchemy import literal_column, select
from sqlalchemy.ext.asyncio import AsyncEngine

from src.framework.server.process import allow_many_connections
from src.framework.sql import engine as engines
from src.framework.sql.engine import (
    POOL_WAIT_SECONDS,
    Driver,
    Statement,
    compiled,
    create_engine,
    fetch,
)
from src.framework.sql.exceptions import DatabaseUnavailable
from src.framework.sql.shares import Shares
from tests.faults.load import connected

PID = compiled(select(literal_column("pg_backend_pid()")))
NEW, NEWER = [compiled(select(literal_column(str(n)).label("n"))) for n in (1, 2)]


def test_the_service_sees_whether_a_connection_of_any_number_is_readable() -> None:
    """`select` takes no number above 1023."""
    allow_many_connections()
    ours, theirs = socket.socketpair()
    with ours, theirs, socket.socket(fileno=fcntl(ours, F_DUPFD, 1024)) as high:
        is_readable = vars(engines)["_is_readable"](high)
        assert not is_readable()
        theirs.send(b"x")
        assert is_readable()


@pytest.mark.anyio
async def test_a_slow_statement_is_logged_whole(
    postgres: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(engines, "SLOW_SECONDS", 0)
    engine = create_engine(postgres, pool_size=1)
    await fetch(engine, PID)
    await engine.dispose()

    sql = " ".join(PID.sql.split())
    assert re.fullmatch(
        rf"A slow statement took \d\.\d s for 1 requests: {re.escape(sql)}", caplog.messages[-1]
    )


@pytest.mark.anyio
async def test_a_connection_with_a_plan_that_citus_refuses_is_ended() -> None:
    """The tables became distributed after the connection began. The next connection sees this."""
    ended: list[str] = []
    driver = SimpleNamespace(terminate=lambda: ended.append("driver"))
    connection = SimpleNamespace(driver_connection=driver, info={"plans once": True})
    refused = asyncpg.FeatureNotSupportedError("could not create distributed plan")

    error = await vars(engines)["_explained"](refused, connection, again=False)

    assert isinstance(error, DatabaseUnavailable)
    assert ended == ["driver"]


@pytest.mark.anyio
async def test_after_a_stalled_prepare_the_next_statement_is_prepared(
    direct_database: str,
) -> None:
    """PostgreSQL learns too late that the client gave up, and keeps the statement's name."""
    seconds = 1.0
    engine = create_engine(direct_database, pool_size=1, statement_seconds=seconds)
    pid = await fetch(engine, PID)
    backend = psutil.Process(int("".join(filter(str.isdigit, str(pid)))))
    backend.suspend()
    stalled = asyncio.create_task(fetch(engine, NEW))
    await asyncio.sleep(seconds * 1.5)
    backend.resume()
    with pytest.raises(DatabaseUnavailable):
        await stalled

    assert await fetch(engine, PID) == pid
    assert await fetch(engine, NEWER) == b'{"n":2}'
    assert await fetch(engine, NEW) == b'{"n":1}'
    await engine.dispose()


@pytest.mark.anyio
async def test_a_connection_in_use_is_closed_if_the_engine_was_disposed_meanwhile(
    direct_database: str, four: AsyncEngine
) -> None:
    async with connected(direct_database) as driver:
        async with closed_gate(direct_database):
            passing = asyncio.create_task(fetch(four, PASS, user_id="ada"))
            await until_sessions(driver, AT_THE_GATE, 1)
            await four.dispose()
        assert await passing == b'"ada"'
        await until_sessions(driver, OTHERS, 0)


# Shares

PASS_SQL = "SELECT to_json(pg_advisory_xact_lock_shared(1)::text || $1::text)"
PASS = Statement(PASS_SQL, ("user_id",))
PASS_AFTER_LONG = Statement(PASS_SQL, ("user_id",), takes_long=True)
AT_THE_GATE = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"


OTHERS = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""


@asynccontextmanager
async def closed_gate(url: str) -> AsyncIterator[None]:
    """Let PASS statements wait until the block ends."""
    connection = await asyncpg.connect(url)
    await connection.execute("SELECT pg_advisory_lock(1)")
    try:
        yield
    finally:
        await connection.close()


@pytest.fixture
async def four(direct_database: str) -> AsyncIterator[AsyncEngine]:
    """An engine with four connections."""
    engine = create_engine(direct_database, pool_size=4)
    yield engine
    await engine.dispose()


async def until_sessions(driver: Driver, counted: str, number: int) -> None:
    async with asyncio.timeout(30):
        while await driver.fetchval(counted) != number:  # noqa: ASYNC110 - PostgreSQL has no event
            await asyncio.sleep(0.02)


async def taken(engine: AsyncEngine, url: str) -> int:
    """Wait until two connections wait at the gate and no other comes. Count all in use."""
    pool: Any = engine.pool
    async with connected(url) as driver:
        await until_sessions(driver, AT_THE_GATE, 2)
    await asyncio.sleep(0.5)  # only a wait can show that no other connection comes
    number: int = pool.checkedout()
    return number


def is_free(engine: AsyncEngine) -> bool:
    pool: Any = engine.pool
    return not (pool.checkedout() or pool.shares.taken or pool.shares.waiting)


@pytest.mark.anyio
async def test_a_user_has_at_most_half_of_the_connections(
    direct_database: str, four: AsyncEngine
) -> None:
    async with closed_gate(direct_database):
        all_of_ada = [asyncio.create_task(fetch(four, PASS, user_id="ada")) for _ in range(20)]
        assert await taken(four, direct_database) == 2
        assert await fetch(four, NEW, user_id="bob") == b'{"n":1}'
        assert await fetch(four, NEW) == b'{"n":1}'

    assert await asyncio.gather(*all_of_ada) == [b'"ada"'] * 20
    assert is_free(four)


@pytest.mark.anyio
async def test_slow_statements_share_half_of_the_connections(
    direct_database: str, four: AsyncEngine
) -> None:
    async with closed_gate(direct_database):
        searches = [
            asyncio.create_task(fetch(four, PASS_AFTER_LONG, user_id=f"user-{number}"))
            for number in range(20)
        ]
        assert await taken(four, direct_database) == 2
        assert await fetch(four, NEW, user_id="user-0") == b'{"n":1}'

    await asyncio.gather(*searches)
    assert is_free(four)


@pytest.mark.anyio
async def test_a_wait_for_a_share_times_out_like_a_wait_for_a_connection(
    direct_database: str, four: AsyncEngine
) -> None:
    async with closed_gate(direct_database):
        waiting = [asyncio.create_task(fetch(four, PASS, user_id="ada")) for _ in range(5)]
        done, pending = await asyncio.wait(waiting, timeout=POOL_WAIT_SECONDS + 1)

    assert [type(task.exception()) for task in done] == [DatabaseUnavailable] * 3
    assert await asyncio.gather(*pending) == [b'"ada"'] * 2
    assert is_free(four)


@pytest.mark.anyio
async def test_a_cancelled_wait_takes_no_share() -> None:
    shares = Shares(most=1, seconds=10)
    served = []

    async def wait(name: str) -> None:
        await shares.turn("ada")
        served.append(name)
        shares.give_back("ada")

    assert shares.take("ada")
    assert not shares.take("ada")
    async with asyncio.TaskGroup() as group:
        impatient, unlucky, _ = [
            group.create_task(wait(name)) for name in ("impatient", "unlucky", "patient")
        ]
        await asyncio.sleep(0)
        impatient.cancel()
        shares.give_back("ada")
        unlucky.cancel()  # in the turn of the event loop that gives `unlucky` a share

    assert served == ["patient"]
    assert not shares.taken
    assert not shares.waiting


@pytest.mark.anyio
async def test_a_refused_request_that_leaves_at_once_gives_no_share_back() -> None:
    shares = Shares(most=1, seconds=0)
    assert shares.take("ada")

    late = asyncio.create_task(shares.turn("ada"))
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_later(0, late.cancel)  # in the turn that refuses `late`

    with pytest.raises(asyncio.CancelledError):
        await late
    assert not shares.take("ada")
