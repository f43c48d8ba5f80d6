"""Many clients share few connections through PgBouncer in transaction mode, as at Neon."""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random, random
from typing import Any, TypeAlias
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest

from tests.conftest import database, execute, tool
from tests.pgbouncer import SERVER_CONNECTIONS, host, pgbouncer
from tests.serving import Server, serving
from tests.tasks import (
    FIELDS,
    Task,
    task_after,
    task_path,
    tasks_path,
)

Answer: TypeAlias = tuple[int, Any]
Ask: TypeAlias = Callable[..., Awaitable[Answer]]

CLIENTS = 40
KINDS = ["create", "list", "get", "update", "toggle", "delete", "get another's"]
ADD_COLUMN = "ALTER TABLE tasks ADD COLUMN colour text DEFAULT 'red'"
CHANGE_TYPE = "ALTER TABLE tasks ALTER COLUMN title TYPE varchar(600)"


@pytest.fixture
def pooled_database(pooler: str) -> Iterator[str]:
    with database(pooler) as url:
        yield url


async def ask(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    method: str,
    path: str,
    body: object = None,
) -> Answer:
    """Make a request without httpx, which would take most of a test's time."""
    content = b"" if body is None else json.dumps(body).encode()
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    writer.write(head.encode() + content)
    answer = await reader.readuntil(b"\r\n\r\n")
    [length] = re.findall(rb"\r\ncontent-length: (\d+)", answer)
    return int(answer.split()[1]), json.loads(await reader.readexactly(int(length)))


async def mixed_requests(ask: Ask, times: int, foreign: Task, chance: Random) -> None:
    """Make requests of every kind as a new user, and check every answer."""
    user = f"user-{uuid4().hex}"
    tasks: list[Task] = []
    for number in range(times):
        kind = chance.choice(KINDS) if tasks else "create"
        task = chance.choice(tasks or [foreign])
        title = f"{number} of {user}"
        match kind:
            case "create":
                status, created = await ask("POST", tasks_path(user), {"title": title})
                fields = {"user_id": user, "title": title, "description": None, "completed": False}
                assert status == 201
                assert list(created) == FIELDS
                assert created == created | fields
                tasks.append(created)
            case "list":
                assert await ask("GET", tasks_path(user)) == (200, tasks)
            case "get":
                assert await ask("GET", task_path(task)) == (200, task)
            case "update":
                changed = await ask("PUT", task_path(task), {"title": title})
                apply(task, {"title": title}, changed)
            case "toggle":
                changed = await ask("PATCH", f"{task_path(task)}/complete")
                apply(task, {"completed": not task["completed"]}, changed)
            case "delete":
                deleted = {"message": "Task deleted successfully"}
                assert await ask("DELETE", task_path(task)) == (200, deleted)
                tasks.remove(task)
            case "get another's":
                status, problem = await ask("GET", task_path(foreign | {"user_id": user}))
                assert (status, problem["detail"]) == (404, "Task not found")


def apply(task: Task, changes: Task, answer: Answer) -> None:
    status, now = answer
    assert status == 200
    assert now == task_after(task, changes, now)
    task.update(now)


async def mixed_clients(server: Server, times: int) -> None:
    """Run CLIENTS at once, each on its own connection, with this many requests."""
    port = urlsplit(server.url).port
    connections = [await asyncio.open_connection("127.0.0.1", port) for _ in range(CLIENTS)]
    _, foreign = await ask(*connections[0], "POST", tasks_path("someone"), {"title": "Foreign"})
    try:
        async with asyncio.TaskGroup() as clients:
            for connection in connections:
                asks = partial(ask, *connection)
                clients.create_task(mixed_requests(asks, times, foreign, Random(random())))
    finally:
        for _, writer in connections:
            writer.close()
            await writer.wait_closed()


async def server_connections(url: str) -> int:
    connection = await asyncpg.connect(url)
    count: int = await connection.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    )
    await connection.close()
    return count


def client_connections(url: str) -> int:
    name = urlsplit(url).path.removeprefix("/")
    return (Path(host(url)) / "log").read_text().count(f"login attempt: db={name} ")


@pytest.mark.anyio
async def test_a_pooler_mixes_up_named_statements(direct: str, tmp_path: Path) -> None:
    """The fault is that asyncpg gives the first statement of each process the same name."""
    name = "__asyncpg_stmt_1__"
    with pgbouncer(
        tool("pgbouncer"), direct, tmp_path, server_connections=2, prepared_statements=0
    ) as url:
        one, two, three = [await asyncpg.connect(url) for _ in range(3)]
        async with one.transaction(), two.transaction():
            ones = await one.prepare("SELECT 1", name=name)
            twos = await two.prepare("SELECT 2", name=name)

        async with three.transaction():
            assert await ones.fetchval() == await twos.fetchval()
        with pytest.raises(asyncpg.DuplicatePreparedStatementError):
            await three.prepare("SELECT 3", name=name)
        for connection in [one, two, three]:
            await connection.close()


def test_40_clients_on_4_server_connections_each_get_their_own_answers(
    pooled_database: str, tmp_path: Path, full: bool
) -> None:
    with serving(
        tmp_path / "log", DATABASE_URL=pooled_database, DATABASE_POOL_SIZE=str(CLIENTS)
    ) as server:
        asyncio.run(mixed_clients(server, times=(20_000 if full else 4000) // CLIENTS))

        assert asyncio.run(server_connections(pooled_database)) == SERVER_CONNECTIONS
        assert client_connections(pooled_database) > SERVER_CONNECTIONS


async def statement_of_all_columns(url: str, change: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        statement = await connection.prepare("SELECT * FROM tasks")
        await statement.fetch()
        await execute(url, change)
        await statement.fetch()
    finally:
        await connection.close()


async def requests_while(change: str, url: str, server: Server) -> None:
    await mixed_clients(server, times=20)
    requests = asyncio.ensure_future(mixed_clients(server, times=40))
    await execute(url, change)
    assert not requests.done()
    await requests


def keeps_answering(url: str, log: Path) -> None:
    with serving(log, DATABASE_URL=url, DATABASE_POOL_SIZE=str(CLIENTS)) as server:
        with pytest.raises(asyncpg.InvalidCachedStatementError):
            asyncio.run(statement_of_all_columns(url, "ALTER TABLE tasks ADD COLUMN size int"))
        for change in [ADD_COLUMN, CHANGE_TYPE]:
            asyncio.run(requests_while(change, url, server))
        assert "ERROR" not in server.log


def test_a_running_process_keeps_answering_while_columns_change(
    direct_database: str, tmp_path: Path
) -> None:
    keeps_answering(direct_database, tmp_path / "log")


def test_a_process_answers_through_a_pooler_while_columns_change(
    pooled_database: str, tmp_path: Path
) -> None:
    keeps_answering(pooled_database, tmp_path / "log")
