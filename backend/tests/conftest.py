import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import asyncpg
import httpx
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from src.database.embedded import embedded_server
from src.database.engine import create_engine
from src.migrations import upgrade
from tests.pgbouncer import BUILT, pgbouncer
from tests.serving import SETTINGS, Server, serving
from tests.tokens import SECRET, TokenOfThePath


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--pooler", type=Path, help="a PgBouncer to run the tests through")
    parser.addoption("--postgres", help="the connection string of a PostgreSQL that runs already")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("pooler"):
        SETTINGS["DATABASE_POOL_SIZE"] = "40"


# The six endpoints' grid runs on a service that asks for tokens as well.
IN_BOTH_MODES = {
    "create_task",
    "delete_task",
    "get_task",
    "list_tasks",
    "patch_task",
    "toggle_task",
    "update_task",
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    marks = metafunc.definition.iter_markers("parametrize")
    chosen = "server" in [mark.args[0] for mark in marks] or hasattr(metafunc.module, "server")
    if "server" in metafunc.fixturenames and not chosen:
        name = metafunc.module.__name__.removeprefix("tests.test_")
        modes = ["open", "jwt"] if name in IN_BOTH_MODES else ["open"]
        metafunc.parametrize("server", modes, indirect=True, scope="session")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def direct(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The connection string of a PostgreSQL, for tests that are about it."""
    if running := pytestconfig.getoption("postgres"):
        yield running
    else:
        with embedded_server(tmp_path_factory.mktemp("data")) as url:
            yield url


@pytest.fixture(scope="session")
def postgres(
    direct: str, pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The connection string for all other tests: the same, or that of the --pooler before it."""
    program: Path | None = pytestconfig.getoption("pooler")
    if program is None:
        yield direct
    else:
        with pgbouncer(program, direct, tmp_path_factory.mktemp("pooler")) as url:
            yield url


@pytest.fixture
def empty_database(postgres: str) -> Iterator[str]:
    """The connection string of a database of the test's own."""
    with database(postgres) as url:
        yield url


@pytest.fixture
def direct_database(direct: str) -> Iterator[str]:
    with database(direct) as url:
        yield url


@contextmanager
def database(postgres: str) -> Iterator[str]:
    name = f"test_{uuid4().hex}"
    asyncio.run(execute(postgres, f"CREATE DATABASE {name}"))
    yield postgres.replace("/postgres?", f"/{name}?")
    asyncio.run(execute(postgres, f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture(params=["pgbouncer", "pgbouncer-1.24"])
def pooler(request: pytest.FixtureRequest, direct: str, tmp_path: Path) -> Iterator[str]:
    """The connection string of a pooler without prepared statements, and of one with them."""
    if request.param == "pgbouncer":
        program, prepared_statements = tool("pgbouncer"), 0
    else:
        program, prepared_statements = tool(os.environ.get("PGBOUNCER_1_24", str(BUILT))), 1000
    folder = tmp_path / "pooler"
    folder.mkdir()
    with pgbouncer(program, direct, folder, prepared_statements=prepared_statements) as url:
        yield url


async def execute(url: str, sql: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(sql)
    finally:
        await connection.close()


@pytest.fixture(scope="session")
def server(
    request: pytest.FixtureRequest, postgres: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """One service for all the tests that have no need of their own, with tokens and without."""
    log = tmp_path_factory.mktemp("server") / "log"
    secret = SECRET if request.param == "jwt" else ""
    with serving(log, DATABASE_URL=postgres, AUTH_MODE=request.param, AUTH_SECRET=secret) as server:
        server.auth = TokenOfThePath() if secret else None
        yield server


@pytest.fixture(scope="session")
def api(server: Server) -> Iterator[httpx.Client]:
    """A client that sends, where tokens are asked for, one of the user in each path."""
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
