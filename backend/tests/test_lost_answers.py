"""The connection to PostgreSQL breaks after a statement ran and before its answer came."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from uuid import UUID

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from benchmarks.proxy import connect
from src.framework.sql.engine import (
    Run,
    Statement,
    _pool,
    create_engine,
    fetch_all,
    fetch_in_transaction,
)
from src.framework.sql.exceptions import DatabaseUnavailable
from src.schemas.task import TaskCreate
from src.schemas.task_listing import TaskListing
from src.services import batch_service, task_service
from tests.pgbouncer import host, port
from tests.tasks import Task

MILK = TaskCreate(title="Buy milk")

Operation: TypeAlias = Callable[[AsyncEngine, UUID], Awaitable[Any]]


@dataclass
class Line:
    """A way to PostgreSQL. When a test says so, the way breaks before the next answer arrives."""

    port: int = 0
    breaks: asyncio.Event = field(default_factory=asyncio.Event)


@asynccontextmanager
async def line_to(postgres: str) -> AsyncIterator[Line]:
    line = Line()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, questions = await connect(host(postgres), port(postgres))

        async def ask() -> None:
            while chunk := await reader.read(65536):
                questions.write(chunk)
            questions.close()

        async def answer() -> None:
            while chunk := await answers.read(65536):
                if line.breaks.is_set():
                    line.breaks.clear()
                    writer.transport.abort()
                writer.write(chunk)
            writer.close()

        await asyncio.gather(ask(), answer(), return_exceptions=True)

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    line.port = listener.sockets[0].getsockname()[1]
    try:
        yield line
    finally:
        listener.close()


@pytest.fixture
async def line(direct: str) -> AsyncIterator[Line]:
    async with line_to(direct) as line:
        yield line


@pytest.fixture
async def distant(engine: AsyncEngine, line: Line) -> AsyncIterator[AsyncEngine]:
    """An engine on the test's database, with one connection, over the line."""
    url = f"postgresql://postgres@127.0.0.1:{line.port}/{engine.url.database}?sslmode=disable"
    distant = create_engine(url, pool_size=1)
    yield distant
    await distant.dispose()


async def tasks_of(engine: AsyncEngine, *, counted: bool = False) -> list[Task]:
    page = await task_service.list_tasks(engine, "ada", TaskListing(), counted=counted)
    tasks: list[Task] = json.loads(b"".join(page.rows.pieces()))
    return tasks


async def create(engine: AsyncEngine, key: str | None = None) -> Task:
    task: Task = json.loads(await task_service.create_task(engine, "ada", MILK, key))
    return task


READS: dict[str, Operation] = {
    "get": lambda engine, task_id: task_service.get_task(engine, "ada", task_id),
    "list": lambda engine, _: tasks_of(engine),
    "list and count": lambda engine, _: tasks_of(engine, counted=True),
    "empty update": lambda engine, task_id: task_service.update_task(engine, "ada", task_id, {}),
}


@pytest.mark.anyio
@pytest.mark.parametrize("read", READS.values(), ids=READS)
async def test_a_statement_that_only_reads_is_sent_again(
    distant: AsyncEngine, line: Line, read: Operation
) -> None:
    task_id = UUID((await create(distant))["id"])
    expected = await read(distant, task_id)

    line.breaks.set()

    assert await read(distant, task_id) == expected
    assert not line.breaks.is_set()


@pytest.mark.anyio
@pytest.mark.parametrize("keys", [(None, None), ("one", "two")], ids=["plain", "with a key"])
async def test_a_create_is_sent_again_and_makes_one_task(
    engine: AsyncEngine, distant: AsyncEngine, line: Line, keys: tuple[str | None, str | None]
) -> None:
    first = await create(distant, keys[0])

    line.breaks.set()
    second = await create(distant, keys[1])

    assert not line.breaks.is_set()
    assert await tasks_of(engine) == [first, second]


@pytest.mark.anyio
async def test_creates_that_share_a_statement_are_sent_again_and_make_one_task_each(
    engine: AsyncEngine, distant: AsyncEngine, line: Line
) -> None:
    async def create_many() -> list[UUID]:
        users = [f"user-{number}" for number in range(20)]
        created = [task_service.create_task(distant, user, MILK) for user in users]
        return [UUID(json.loads(row)["id"]) for row in await asyncio.gather(*created)]

    first = await create_many()
    assert _pool(distant).writes.is_busy  # so the next creates share a statement at once

    line.breaks.set()
    second = await create_many()

    assert not line.breaks.is_set()
    stored = Statement("SELECT convert_to(id::text, 'UTF8') FROM tasks")
    ids = [UUID(row.decode()) for row in await fetch_all(engine, stored)]
    assert sorted(ids) == sorted(first + second)


@pytest.mark.anyio
async def test_a_batch_with_a_key_is_sent_again_and_applied_once(
    engine: AsyncEngine, distant: AsyncEngine, line: Line
) -> None:
    """A delete that is sent twice would find its task gone."""
    task = await create(distant)
    operations = batch(UUID(task["id"]))
    await batch_service.apply_batch(distant, "ada", [operations[0]], "warm")

    line.breaks.set()
    new, gone = await batch_service.apply_batch(distant, "ada", operations, "key")

    assert not line.breaks.is_set()
    assert gone is None
    assert [json.loads(new or b"")] == (await tasks_of(engine))[1:]
    assert await batch_service.apply_batch(engine, "ada", operations, "key") == [new, gone]


def batch(task_id: UUID) -> list[Any]:
    return [{"op": "create", "task": MILK}, {"op": "delete", "id": task_id}]


@pytest.mark.anyio
async def test_a_batch_without_a_key_is_applied_once_and_its_outcome_is_unknown(
    engine: AsyncEngine, distant: AsyncEngine, line: Line
) -> None:
    tasks = [await create(distant), await create(distant)]
    await batch_service.apply_batch(distant, "ada", batch(UUID(tasks[0]["id"])))

    line.breaks.set()
    with pytest.raises(DatabaseUnavailable):
        await batch_service.apply_batch(distant, "ada", batch(UUID(tasks[1]["id"])))

    assert len(await tasks_of(engine)) == 2


@pytest.mark.anyio
@pytest.mark.parametrize(("repeatable", "times"), [(True, 2), (False, 1)])
async def test_a_transaction_starts_over_only_if_that_does_no_harm(
    distant: AsyncEngine, line: Line, repeatable: bool, times: int
) -> None:
    task = await create(distant)
    values = {"user_id": "ada", "id": UUID(task["id"])}
    worked = 0

    async def toggle(run: Run) -> None:
        nonlocal worked
        worked += 1
        await run(task_service.toggle_statement(), **values)
        if worked == 1:
            line.breaks.set()

    work = fetch_in_transaction(distant, toggle, "ada", repeatable=repeatable)
    with nullcontext() if repeatable else pytest.raises(DatabaseUnavailable):
        await work

    assert worked == times
    assert [each["completed"] for each in await tasks_of(distant)] == [times == 1]


CHANGES: dict[str, tuple[Operation, list[str]]] = {
    "update": (
        lambda engine, task_id: task_service.update_task(
            engine, "ada", task_id, {"completed": True}
        ),
        ["completed", "completed"],
    ),
    "toggle": (
        lambda engine, task_id: task_service.toggle_task(engine, "ada", task_id),
        ["completed", "completed"],
    ),
    "delete": (
        lambda engine, task_id: task_service.delete_task(engine, "ada", task_id),
        [],
    ),
}


@pytest.mark.anyio
@pytest.mark.parametrize(("change", "outcome"), CHANGES.values(), ids=CHANGES)
async def test_any_other_change_is_made_once_and_its_outcome_is_unknown(
    engine: AsyncEngine, distant: AsyncEngine, line: Line, change: Operation, outcome: list[str]
) -> None:
    tasks = [await create(distant), await create(distant)]
    await change(distant, UUID(tasks[0]["id"]))

    line.breaks.set()
    with pytest.raises(DatabaseUnavailable):
        await change(distant, UUID(tasks[1]["id"]))

    states = ["completed" if task["completed"] else "open" for task in await tasks_of(engine)]
    assert states == outcome
