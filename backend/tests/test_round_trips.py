"""Exactly one network round trip for a warm request, direct and through a pooler."""

import asyncio
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from pathlib import Path
from threading import Thread
from urllib.parse import parse_qs, urlsplit

import asyncpg
import httpx
import pytest

from benchmarks.proxy import Link, proxy
from tests.conftest import tool
from tests.serving import eventually, free_port, serving
from tests.tasks import create, task_path, tasks_path, unknown_path


@contextmanager
def counted(host: str, port: int) -> Iterator[Link]:
    """Run the counting proxy beside the test."""
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever)
    thread.start()

    stack = AsyncExitStack()
    entering = stack.enter_async_context(proxy(host, port))
    link = asyncio.run_coroutine_threadsafe(entering, loop).result()
    try:
        yield link
    finally:
        asyncio.run_coroutine_threadsafe(stack.aclose(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


@pytest.fixture
def pgbouncer(postgres: str, tmp_path: Path) -> Iterator[int]:
    """The port of a PgBouncer in transaction mode that knows no prepared statements."""
    folder = parse_qs(urlsplit(postgres).query)["host"][0]
    port = free_port()
    program = tool("pgbouncer")
    config = tmp_path / "pgbouncer.ini"
    config.write_text(
        f"""
        [databases]
        alone = host={folder} user=postgres dbname=postgres pool_size=1
        * = host={folder} user=postgres
        [pgbouncer]
        listen_addr = 127.0.0.1
        listen_port = {port}
        unix_socket_dir =
        auth_type = any
        pool_mode = transaction
        default_pool_size = 4
        """.replace("        ", "")
    )
    for above in [tmp_path, *tmp_path.parents]:
        above.chmod(above.stat().st_mode | 0o055)
    process = subprocess.Popen(
        [program, "-q", config], user="pgserver" if os.geteuid() == 0 else None
    )
    assert eventually(lambda: _answers(port))
    yield port
    process.terminate()
    process.wait(timeout=10)


def _answers(port: int) -> bool:
    async def ask() -> None:
        connection = await asyncpg.connect(
            f"postgresql://postgres@127.0.0.1:{port}/postgres?sslmode=disable"
        )
        await connection.close()

    try:
        asyncio.run(ask())
    except (OSError, asyncpg.PostgresError):
        return False
    return True


def warm_requests(api: httpx.Client) -> Iterator[Callable[[], httpx.Response]]:
    """Every endpoint, in the ways that it can go, each with its statement prepared before."""
    for warm in (False, True):
        task, other = create(api, "ada"), create(api, "ada")
        requests = [
            partial(api.get, tasks_path("ada")),
            partial(api.post, tasks_path("ada"), json={"title": "Buy bread"}),
            partial(api.get, task_path(task)),
            partial(api.put, task_path(task), json={"title": "Buy bread"}),
            partial(api.put, task_path(task), json={"description": None, "completed": True}),
            partial(api.put, task_path(task), json={}),
            partial(api.patch, f"{task_path(task)}/complete"),
            partial(api.delete, task_path(other)),
            partial(api.get, unknown_path("ada")),
            partial(api.get, "/health/ready"),
        ]
        for request in requests:
            if warm:
                yield request
            else:
                request()


def count(link: Link, url: str, log: Path) -> list[int]:
    with (
        serving(log, DATABASE_URL=url, DATABASE_POOL_SIZE="1") as server,
        server.client() as api,
    ):
        round_trips = []
        for request in warm_requests(api):
            before = link.round_trips
            assert request().status_code < 500
            round_trips.append(link.round_trips - before)
        return round_trips


def test_a_warm_request_is_one_round_trip(postgres: str, tmp_path: Path) -> None:
    folder = parse_qs(urlsplit(postgres).query)["host"][0]
    with counted(folder, 5432) as link:
        url = f"postgresql://postgres@127.0.0.1:{link.port}/postgres?sslmode=disable"

        assert count(link, url, tmp_path / "log") == [1] * 10


def test_a_warm_request_is_one_round_trip_through_a_pooler(pgbouncer: int, tmp_path: Path) -> None:
    with counted("127.0.0.1", pgbouncer) as link:
        url = f"postgresql://postgres@127.0.0.1:{link.port}/postgres?sslmode=disable"

        assert count(link, url, tmp_path / "log") == [1] * 10


def test_a_pooler_gets_no_named_statements(pgbouncer: int, tmp_path: Path) -> None:
    """It would mix them up between its clients, as the first half of this test shows."""
    url = f"postgresql://postgres@127.0.0.1:{pgbouncer}/postgres?sslmode=disable"

    async def named() -> None:
        alone = url.replace("/postgres?", "/alone?")
        one, other = [await asyncpg.connect(alone) for _ in range(2)]
        try:
            statement = await one.prepare("SELECT 1", name="mine")
            await statement.fetchval()
            await other.prepare("SELECT 2", name="mine")
        finally:
            await other.close()
            await one.close()

    with pytest.raises(asyncpg.DuplicatePreparedStatementError):
        asyncio.run(named())
    with serving(tmp_path / "log", DATABASE_URL=url) as server:

        async def create_and_list() -> list[httpx.Response]:
            async with httpx.AsyncClient(base_url=server.url, timeout=30) as api:
                return await asyncio.gather(
                    *(
                        api.post(tasks_path(f"ada-{number % 7}"), json={"title": f"{number}"})
                        for number in range(200)
                    ),
                    *(api.get(tasks_path("nobody")) for _ in range(200)),
                )

        answers = asyncio.run(create_and_list())
    assert [answer.status_code for answer in answers] == [201] * 200 + [200] * 200
    for number, answer in enumerate(answers[:200]):
        assert answer.json()["title"] == f"{number}"
        assert answer.json()["user_id"] == f"ada-{number % 7}"
    assert [answer.json() for answer in answers[200:]] == [[]] * 200
