import asyncio
import gc
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from fcntl import LOCK_EX, flock
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import httpx
import psutil
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from src.framework.sql.embedded import embedded_server
from src.framework.sql.engine import create_engine
from src.migrations import upgrade
from tests.citus import beside, citus_database, distribute
from tests.pgbouncer import BUILT, pgbouncer
from tests.serving import DEFAULTS, PLAIN, SETTINGS, Server, serving
from tests.skips import told
from tests.tokens import SECRET, TokenOfThePath


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--pooler", type=Path, help="a PgBouncer to run the tests through")
    parser.addoption("--postgres", help="the connection string of a PostgreSQL that runs already")
    parser.addoption("--seed", type=int, help="draw generated cases as on another day: YYYYMMDD")
    parser.addoption(
        "--citus",
        help="the URL of a Citus cluster's coordinator, where tests distribute tables",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    if config.option.seed is None:  # workers get this value of the option
        config.option.seed = int(f"{datetime.now(UTC):%Y%m%d}")
    if config.option.basetemp is None:
        # Each run closes pytest's shared folder to other users. If root runs the tests, PostgreSQL
        # runs as another user, and would lose its data when another run begins.
        config.option.basetemp = tempfile.mkdtemp(prefix="task-api-", dir=folder_in_memory())
        config.add_cleanup(partial(shutil.rmtree, config.option.basetemp, ignore_errors=True))
    if config.getoption("pooler"):
        SETTINGS["DATABASE_POOL_SIZE"] = "40"


ROOM = 4 << 30
"""How many bytes of memory must be free for the files of a run. A run needs 1 GB."""


def folder_in_memory() -> Path | None:
    """Return a folder for the files of a run, if there is room and nobody named a folder.

    A database has hundreds of files. On a disk, PostgreSQL takes 75 ms and more to copy a database,
    in memory 15 ms.
    """
    folder = Path("/dev/shm")
    if "TMPDIR" in os.environ or not os.access(folder, os.W_OK):
        return None
    system = os.statvfs(folder)
    is_free = min(system.f_bavail * system.f_frsize, psutil.virtual_memory().available) >= ROOM
    return folder if is_free and not system.f_flag & os.ST_NOEXEC else None


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    gc.disable()  # to collect tests makes no garbage, and a search for garbage takes a second
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the slow tests to `make faults`, and begin with the files that take longest."""
    if not config.getoption("full", False):
        items[:] = [item for item in items if item.get_closest_marker("slow") is None]
    items.sort(key=lambda item: item.path.stem not in TAKE_LONGEST)
    if config.getoption("citus"):
        items[:] = [item for item in items if {"citus", "postgres"} & set(_fixtures(item))]
        for item in items:
            if why := NOT_ON_CITUS.get(item.name.partition("[")[0]):
                item.add_marker(pytest.mark.skip(reason=why))


def pytest_collection_finish(session: pytest.Session) -> None:
    # Hypothesis's own option for the seed would import Hypothesis, in 0.7 s, also for tests without
    # Hypothesis. If the variable CI is set, Hypothesis draws the same cases each day, except for
    # tests with a seed.
    if hypothesis := sys.modules.get("hypothesis"):
        for item in session.items:
            if hasattr(function := getattr(item, "function", None), "hypothesis"):
                hypothesis.seed(session.config.option.seed)(function)
    gc.freeze()  # otherwise each search for garbage looks at 6,000 tests


def pytest_runtest_setup(item: pytest.Item) -> None:
    random.seed(item.config.option.seed)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    skipped = [report.longrepr[2] for report in terminalreporter.stats.get("skipped", [])]
    seed = config.option.seed
    terminalreporter.section("what did not run, and with which cases")
    for line in [
        *told(skipped),
        f"Generated cases are of seed {seed}; --seed={seed} generates them again.",
    ]:
        terminalreporter.write_line(line)


def _fixtures(item: pytest.Item) -> list[str]:
    return getattr(item, "fixturenames", [])


TAKE_LONGEST = {
    "test_browser",
    "test_clients",
    "test_contract",
    "test_docs_page",
    "test_documents",
    "test_live_browser",
    "test_open_mode",
    "test_output",
    "test_run",
    "test_stop",
}
"""The files whose tests take longest. A long test that began last would run alone at the end."""

_PLANS = "the coordinator's plan does not show the indexes of the workers"
_EARLIER = "a table with the earlier key cannot be distributed before it is upgraded"

NOT_ON_CITUS = {
    "test_a_shared_plan_for_an_empty_table_does_not_read_all_of_a_large_table": (
        "nothing is shared there"
    ),
    "test_many_changes_of_one_task_are_few_transactions_and_all_are_in_the_feed": (
        "nothing is shared there"
    ),
    "test_a_change_writes_to_no_index_of_tasks": "the workers count these updates",
    "test_statements_over_several_users_do_not_deadlock": "several servers write theirs at once",
    "test_a_batch_without_a_key_is_applied_once_and_its_outcome_is_unknown": "there it is a "
    "transaction, which starts over",
    "test_a_batch_planned_for_an_empty_table_finds_its_tasks_by_their_ids": _PLANS,
    "test_a_list_finds_its_tasks_by_an_index_of_their_owner": _PLANS,
    "test_a_statement_finds_its_tasks_by_the_keys_index": _PLANS,
    "test_no_plan_for_empty_tables_reads_all_tasks_of_an_owner_for_each_row": _PLANS,
    "test_most_tests_use_a_service_without_settings": "there it gets its DATABASE_URL",
    "test_rows_of_the_earlier_version_have_etags_too": _EARLIER,
    "test_times_are_in_utc_whatever_the_databases_own_zone": "there it refuses to start",
    "test_tables_that_cannot_be_created_are_reported_in_one_sentence": _EARLIER,
}
"""The tests that cannot succeed with distributed tables, and the reasons."""

MAKES_ITS_TABLES = {"tests.test_migrations"}
"""The modules whose tests make their own tables. Other modules get distributed tables."""


@pytest.fixture
def seed(pytestconfig: pytest.Config) -> int:
    """The seed of generated cases: by default, each day has another seed."""
    return int(pytestconfig.option.seed)


@pytest.fixture
def full(pytestconfig: pytest.Config) -> bool:
    """Whether a test runs at full length."""
    return bool(pytestconfig.getoption("full", False))


# These tests run twice: on the fast path without tokens, and with tokens without the fast path.
IN_BOTH_MODES = {
    "batch",
    "create_task",
    "delete_task",
    "further_members",
    "get_task",
    "list_tasks",
    "odd_input",
    "patch_task",
    "spellings",
    "strict_names",
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
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session")
def direct(request: pytest.FixtureRequest, data_dir: Path) -> Iterator[str]:
    """The connection string of a PostgreSQL, without any pooler."""
    if cluster := request.config.getoption("citus"):
        with citus_database(cluster) as url:
            asyncio.run(distribute(url))
            yield url
    elif running := request.config.getoption("postgres"):
        yield running
    else:
        initialized: Callable[[Path], Path] = request.getfixturevalue("initialized")
        with embedded_server(initialized(data_dir)) as url:
            yield url


async def wait_for_no_disk(url: str) -> None:
    """Let PostgreSQL not wait for the disk: only a loss of power would lose data."""
    await execute(url, "ALTER SYSTEM SET fsync = off")
    await execute(url, "SELECT pg_reload_conf()")


@pytest.fixture(scope="session")
def initialized(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """Make a DATA_DIR in the state after a first start, by a copy.

    To copy takes 0.1 s. PostgreSQL's `initdb` takes 1 s, and waits for the disk. The processes of
    a run copy the same folder.
    """
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    first = folder / "first"
    with (folder / "lock").open("w") as lock:
        flock(lock, LOCK_EX)
        if not first.exists():
            with embedded_server(first) as url:
                asyncio.run(wait_for_no_disk(url))

    def copied_to(data_dir: Path) -> Path:
        data_dir.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-a", first / "postgres", data_dir], check=True)
        return data_dir

    return copied_to


@pytest.fixture(scope="session")
def postgres(
    direct: str, pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The connection string for most tests: PostgreSQL's own, or that of the --pooler."""
    program: Path | None = pytestconfig.getoption("pooler")
    if program is None:
        yield direct
    else:
        with pgbouncer(program, direct, tmp_path_factory.mktemp("pooler")) as url:
            yield url


@pytest.fixture
def empty_database(request: pytest.FixtureRequest, postgres: str) -> Iterator[str]:
    """The connection string of a database of the test's own, without tables."""
    cluster = request.config.getoption("citus")
    with citus_database(cluster) if cluster else database(postgres) as url:
        if cluster and request.module.__name__ not in MAKES_ITS_TABLES:
            asyncio.run(distribute(url))
        yield url


@pytest.fixture
def own_database(request: pytest.FixtureRequest, postgres: str) -> Iterator[str]:
    """The connection string of a database of the test's own, with tables."""
    if request.config.getoption("citus"):
        url = request.getfixturevalue("empty_database")
        asyncio.run(make_tables(url))
        yield url
    else:
        with database(postgres, request.getfixturevalue("template")) as url:
            yield url


@pytest.fixture(scope="session")
def template(direct: str) -> Iterator[str]:
    """The name of a database with tables, for copies. Nobody is connected to this database."""
    with database(direct) as url:
        asyncio.run(make_tables(url))
        yield name_of(url)


@pytest.fixture
def citus(pytestconfig: pytest.Config) -> str:
    """The connection string of a Citus cluster's coordinator."""
    cluster: str | None = pytestconfig.getoption("citus")
    if cluster is None:
        pytest.skip("needs --citus, the coordinator of a Citus cluster: no registry has one")
    return cluster


@pytest.fixture
def names_members(pytestconfig: pytest.Config) -> bool:
    """Whether an error names the wrong member. Citus passes on errors without the name."""
    return not pytestconfig.getoption("citus")


@pytest.fixture
def locks(pytestconfig: pytest.Config) -> str:
    """The view that shows who waits for a lock. Citus has a view of the locks of all servers."""
    return "citus_locks" if pytestconfig.getoption("citus") else "pg_locks"


@pytest.fixture
def direct_database(direct: str, template: str) -> Iterator[str]:
    """The connection string, without a pooler, of a database of the test's own, with tables."""
    with database(direct, template) as url:
        yield url


@contextmanager
def database(postgres: str, template: str = "template1") -> Iterator[str]:
    name = f"test_{uuid4().hex}"
    asyncio.run(execute(postgres, f"CREATE DATABASE {name} TEMPLATE {template}"))
    yield beside(postgres, name)
    asyncio.run(execute(postgres, f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture(params=["pgbouncer", "pgbouncer-1.24"])
def pooler(request: pytest.FixtureRequest, direct: str, tmp_path: Path) -> Iterator[str]:
    """The connection string of a pooler: first without prepared statements, then with them."""
    if request.param == "pgbouncer":
        program, prepared_statements = tool("pgbouncer"), 0
    else:
        program, prepared_statements = tool(os.environ.get("PGBOUNCER_1_24", str(BUILT))), 1000
    folder = tmp_path / "pooler"
    folder.mkdir()
    with pgbouncer(program, direct, folder, prepared_statements=prepared_statements) as url:
        yield url


def name_of(url: str) -> str:
    return urlsplit(url).path.removeprefix("/")


async def make_tables(url: str) -> None:
    engine = create_engine(url, pool_size=1)
    try:
        await upgrade(engine, url)
    finally:
        await engine.dispose()


async def execute(url: str, sql: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(sql)
    finally:
        await connection.close()


@pytest.fixture(scope="session")
def open_server(
    request: pytest.FixtureRequest,
    postgres: str,
    data_dir: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Server]:
    """A service without tokens. Its only settings are its port and folder."""
    if any(map(request.config.getoption, ("pooler", "citus", "postgres"))):
        settings = {"DATABASE_URL": postgres}
    else:
        settings = DEFAULTS | {"DATA_DIR": str(data_dir)}
    with serving(tmp_path_factory.mktemp("server") / "log", **settings) as server:
        yield server
        server.stop(signal.SIGINT)  # SIGINT does not drain


@pytest.fixture(scope="session")
def jwt_server(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service with tokens and without the fast path."""
    settings = {"DATABASE_URL": postgres, "AUTH_MODE": "jwt", "AUTH_SECRET": SECRET}
    with serving(tmp_path_factory.mktemp("server") / "log", PLAIN, **settings) as server:
        server.auth = TokenOfThePath()
        yield server
        server.stop(signal.SIGINT)


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest) -> Server:
    """One service for all tests that need no service of their own.

    The service is `open_server` or `jwt_server`. Both keep running, because the tests use both in
    turn.
    """
    server: Server = request.getfixturevalue(f"{request.param}_server")
    return server


@pytest.fixture(scope="session")
def api(server: Server) -> Iterator[httpx.Client]:
    """A client. If the service needs tokens, the client sends a token of the user in the path."""
    with server.client() as client:
        yield client


@pytest.fixture
async def engine(own_database: str) -> AsyncIterator[AsyncEngine]:
    """The application's own engine, on a database of the test's own."""
    engine = create_engine(own_database, pool_size=5)
    yield engine
    await engine.dispose()


@pytest.fixture
def user() -> str:
    """A user of this test only: tests share a database, but they share no user."""
    return f"user-{uuid4().hex}"


@pytest.fixture(scope="session")
def chromium() -> Path:
    return tool("chromium", "chromium-browser", "google-chrome")


def tool(*names: str) -> Path:
    """Find a program by one of its names. Skip the test if the machine has no such program."""
    for name in names:
        if found := shutil.which(name):
            return Path(found)
    pytest.skip(f"needs {names[0]}")


# The errors of npm, pip and uv for a registry that they cannot reach.
UNREACHABLE = re.compile(
    r"\bE(CONN[A-Z]+|NETUNREACH|HOSTUNREACH|NOTFOUND|AI_AGAIN|TIMEDOUT|RR_SOCKET_TIMEOUT|5\d\d)\b"
    r"|connection broken by|Max retries exceeded|Failed to fetch"
)
# Without these settings, npm waits for a minute before its last try, and asks the registry about
# packages that npm has already.
FEW_PAUSES = {
    "npm_config_fetch_retry_mintimeout": "500",
    "npm_config_fetch_retry_maxtimeout": "2000",
    "npm_config_audit": "false",
    "npm_config_fund": "false",
    "npm_config_prefer_offline": "true",
    "npm_config_update_notifier": "false",
}


def install(*command: str | Path, folder: Path) -> None:
    """Run npm, pip or uv in a folder. Skip the test if the program cannot reach its registry."""
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | FEW_PAUSES,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0 and UNREACHABLE.search(done.stdout):
        pytest.skip(f"needs the registry of {Path(command[0]).name}, which cannot be reached")
    assert done.returncode == 0, done.stdout
