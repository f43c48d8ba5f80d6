import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import asyncpg
import httpx
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from src.database import create_engine
from src.embedded import embedded_server
from src.migrations import upgrade
from tests.serving import Server, serving


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The connection string of an embedded PostgreSQL for all the tests."""
    with embedded_server(tmp_path_factory.mktemp("data")) as url:
        yield url


@pytest.fixture
def empty_database(postgres: str) -> Iterator[str]:
    """The connection string of a database of the test's own."""
    name = f"test_{uuid4().hex}"
    asyncio.run(execute(postgres, f"CREATE DATABASE {name}"))
    yield postgres.replace("/postgres?", f"/{name}?")
    asyncio.run(execute(postgres, f"DROP DATABASE {name} WITH (FORCE)"))


async def execute(url: str, sql: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(sql)
    finally:
        await connection.close()


@pytest.fixture(scope="session")
def server(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One service for all the tests that have no need of their own."""
    with serving(tmp_path_factory.mktemp("server") / "log", DATABASE_URL=postgres) as server:
        yield server


@pytest.fixture(scope="session")
def api(server: Server) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


@pytest.fixture
async def engine(empty_database: str) -> AsyncIterator[AsyncEngine]:
    """The application's own engine, on a database of the test's own."""
    engine = create_engine(empty_database, pool_size=5)
    await upgrade(engine, empty_database)
    yield engine
    await engine.dispose()


@pytest.fixture
def user() -> str:
    """A user whom no other test knows: tests share a database and cannot meet."""
    return f"user-{uuid4().hex}"


@pytest.fixture(scope="session")
def chromium() -> Path:
    return tool("chromium", "chromium-browser", "google-chrome")


def tool(*names: str) -> Path:
    """Find a program, or skip the test where the machine has none; CI has them all."""
    for name in names:
        if found := shutil.which(name):
            return Path(found)
    if os.environ.get("CI"):
        pytest.fail(f"CI must have {names[0]}")
    pytest.skip(f"needs {names[0]}")
