"""What a connection to PostgreSQL goes through, and who may have how many."""

import asyncio

import psutil
import pytest
from sqlalchemy import literal_column, select

from src.database import create_engine, fetch, query
from src.exceptions import DatabaseUnavailable

PID = query(select(literal_column("pg_backend_pid()")))
NEW, NEWER = [query(select(literal_column(str(n)).label("n"))) for n in (1, 2)]


@pytest.mark.anyio
async def test_a_backend_that_stalls_while_it_prepares_a_statement_prepares_the_next(
    direct_database: str,
) -> None:
    """It hears only afterwards that nobody waits any more, and keeps the statement's name."""
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
