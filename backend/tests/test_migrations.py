"""At start-up, the service creates the tables, or upgrades the tables of an earlier version."""

import asyncio
import json
import multiprocessing
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from multiprocessing.synchronize import Barrier
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlmodel import SQLModel

from src import migrations
from src.framework.exceptions import CannotStart
from src.framework.sql.engine import Statement, create_engine, fetch
from src.migrations import HEAD, LOCK, VERSIONS, upgrade
from src.migrations.checks import VERSION_TABLE
from src.schemas.task import TaskCreate
from src.schemas.task_listing import TaskListing
from src.services import batch_service, task_service
from tests.citus import beside
from tests.conftest import execute
from tests.faults.load import connected
from tests.serving import BACKEND
from tests.test_feed import until_waiting

EARLIER = """
CREATE TABLE tasks (
    id UUID NOT NULL,
    user_id VARCHAR(255) NOT NULL,
    title VARCHAR(500) NOT NULL,
    description VARCHAR,
    completed BOOLEAN NOT NULL,
    created_at TIMESTAMP WITHOUT TIME ZONE NOT NULL,
    updated_at TIMESTAMP WITHOUT TIME ZONE NOT NULL,
    PRIMARY KEY (id)
);
CREATE INDEX ix_tasks_user_id ON tasks (user_id);
"""
EARLIER_COLUMNS = [
    "id",
    "user_id",
    "title",
    "description",
    "completed",
    "created_at",
    "updated_at",
]


async def upgraded(url: str) -> None:
    engine = create_engine(url, pool_size=1)
    try:
        await upgrade(engine, url)
    finally:
        await engine.dispose()


def differences(connection: Connection) -> list[Any]:
    options = {"compare_type": True, "compare_server_default": True, "version_table": VERSION_TABLE}
    context = MigrationContext.configure(connection, opts=options)
    return list(compare_metadata(context, SQLModel.metadata))


def key(connection: Connection) -> list[str]:
    return inspect(connection).get_pk_constraint("tasks")["constrained_columns"]


def indexes(connection: Connection) -> list[str | None]:
    return [index["name"] for index in inspect(connection).get_indexes("tasks")]


@pytest.mark.anyio
async def test_models_and_migrations_make_the_same_tables(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        assert await connection.run_sync(differences) == []
        assert await connection.run_sync(key) == ["user_id", "id"]
        assert await connection.run_sync(indexes) == ["tasks_in_order"]


def lengths(connection: Connection) -> dict[tuple[str, str], int | None]:
    return {
        (table, column["name"]): getattr(column["type"], "length", None)
        for table in SQLModel.metadata.tables
        for column in inspect(connection).get_columns(table)
    }


@pytest.mark.anyio
async def test_a_text_column_is_as_long_as_its_model_says(engine: AsyncEngine) -> None:
    """Alembic does not notice that only one of two columns has a length."""
    said = {
        (table.name, column.name): getattr(column.type, "length", None)
        for table in SQLModel.metadata.tables.values()
        for column in table.columns
    }
    async with engine.connect() as connection:
        assert await connection.run_sync(lengths) == said


def test_start_up_looks_for_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(VERSIONS.parent))

    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]


def earlier_rows(count: int) -> list[tuple[Any, ...]]:
    start = datetime(2025, 3, 30, 0, 59, 59, 123456)  # noqa: DTZ001 - as the earlier version had it
    return [
        (
            uuid4(),
            f"user-{number % 7}",
            f"Task {number} 😀",
            None if number % 3 else f"Description {number}",
            number % 2 == 0,
            start + timedelta(minutes=number),
            start + timedelta(minutes=number, seconds=number % 5),
        )
        for number in range(count)
    ]


def to_revision(connection: Connection, revision: str) -> None:
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(VERSIONS.parent))
    command.upgrade(config, revision)


# The columns and statements of the release before priorities, due dates and tags.
OLD_COLUMNS = "id, user_id, title, description, completed, created_at, updated_at"
OLD_CREATE = f"""
WITH row AS (
    INSERT INTO tasks ({OLD_COLUMNS}) VALUES ($1, $2, 'Buy milk', NULL, false, now(), now())
    ON CONFLICT (user_id, id) DO UPDATE SET id = tasks.id RETURNING {OLD_COLUMNS}
)
SELECT row_to_json(row) FROM row
"""
OLD_TOGGLE = f"""
WITH row AS (
    UPDATE tasks SET completed = NOT completed WHERE user_id = $2 AND id = $1
    RETURNING {OLD_COLUMNS}
)
SELECT row_to_json(row) FROM row
"""


@pytest.mark.anyio
async def test_new_fields_rewrite_no_row_and_let_an_older_release_go_on(
    empty_database: str,
) -> None:
    engine = create_engine(empty_database, pool_size=1)
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="READ COMMITTED")
        async with connection.begin():
            await connection.run_sync(to_revision, "0003_pages_and_keys")
    old = await asyncpg.connect(empty_database)
    before, during = uuid4(), uuid4()
    await old.execute("CREATE TABLE untouched AS SELECT pg_relation_filenode('tasks') AS file")
    await old.fetchval(OLD_CREATE, before, "ada")

    await upgrade(engine, empty_database)

    same = "SELECT file = pg_relation_filenode('tasks') FROM untouched"
    assert await old.fetchval(same)
    created = json.loads(await old.fetchval(OLD_CREATE, during, "ada"))
    toggled = json.loads(await old.fetchval(OLD_TOGGLE, before, "ada"))
    page = await task_service.list_tasks(engine, "ada", TaskListing())
    tasks = json.loads(b"".join(page.rows.pieces()))
    await old.close()
    await engine.dispose()
    assert set(created) == set(toggled) == set(OLD_COLUMNS.split(", "))
    assert [task["id"] for task in tasks] == [str(before), str(during)]
    assert [task["completed"] for task in tasks] == [True, False]
    for task in tasks:
        assert (task["priority"], task["due_date"], task["tags"]) == ("medium", None, [])


@pytest.mark.anyio
async def test_a_row_without_further_members_takes_no_more_bytes(own_database: str) -> None:
    """A row with a null in another column already has a bit for each column."""
    row = (
        "SELECT gen_random_uuid(), 'ada', 'x', NULL, false, now(), now(), 'low', NULL, '{}', false"
    )
    async with connected(own_database) as driver:
        await driver.execute("CREATE TABLE earlier (LIKE tasks); ALTER TABLE earlier DROP further")
        await driver.execute("CREATE TABLE without (LIKE earlier)")
        sizes = [
            await driver.fetchval(f"INSERT INTO {table} {row} RETURNING pg_column_size({table})")
            for table in ("tasks", "without")
        ]

    assert sizes[0] == sizes[1]


# The statement of the release before batches.
OLD_KEEP = """
INSERT INTO idempotency_keys (user_id, key, fingerprint, created_at, task_id)
VALUES ($1, $2, $3, now(), $4) ON CONFLICT (user_id, key) DO UPDATE SET
    fingerprint = CASE WHEN idempotency_keys.created_at < now() - interval '1 day'
        THEN excluded.fingerprint ELSE idempotency_keys.fingerprint END
RETURNING fingerprint, task_id
"""


@pytest.mark.anyio
async def test_keys_of_batches_let_an_older_release_go_on(empty_database: str) -> None:
    engine = create_engine(empty_database, pool_size=1)
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="READ COMMITTED")
        async with connection.begin():
            await connection.run_sync(to_revision, "0005_keys_by_owner")
    old = await asyncpg.connect(empty_database)
    before, during = uuid4(), uuid4()
    milk = TaskCreate(title="Buy milk")
    fingerprint = task_service.fingerprint(milk)

    async def keep(key: str, fingerprint: str, task_id: UUID) -> tuple[Any, ...]:
        [row] = await old.fetch(OLD_KEEP, "ada", key, fingerprint, task_id)
        return tuple(row)

    assert await keep("before", fingerprint, before) == (fingerprint, before)
    await old.execute("CREATE TABLE untouched AS SELECT pg_relation_filenode('idempotency_keys') f")

    await upgrade(engine, empty_database)

    same = "SELECT f = pg_relation_filenode('idempotency_keys') FROM untouched"
    assert await old.fetchval(same)
    assert await keep("before", "", during) == (fingerprint, before)
    assert await keep("during", "", during) == ("", during)
    [answer] = await batch_service.apply_batch(
        engine, "ada", [{"op": "create", "task": milk}], "batch"
    )
    of_a_batch = await keep("batch", "", during)
    created = await task_service.create_task(engine, "ada", milk, "before")
    await old.close()
    await engine.dispose()
    assert answer is not None
    assert of_a_batch[0] != ""
    assert of_a_batch[1] is None
    assert json.loads(created)["id"] == str(before)


@pytest.mark.anyio
async def test_the_upgrade_of_the_earlier_versions_table_keeps_every_row(
    empty_database: str,
) -> None:
    rows = earlier_rows(10_000)
    connection = await asyncpg.connect(empty_database)
    await connection.execute("SET timezone = 'America/New_York'")
    await connection.execute(EARLIER)
    await connection.copy_records_to_table("tasks", records=rows, columns=EARLIER_COLUMNS)
    name = await connection.fetchval("SELECT current_database()")
    await connection.execute(f"ALTER DATABASE {name} SET timezone = 'Asia/Tokyo'")

    await upgraded(empty_database)

    kept = await connection.fetch(f"SELECT {', '.join(EARLIER_COLUMNS)} FROM tasks")
    await connection.close()
    expected = [(*row[:5], row[5].replace(tzinfo=UTC), row[6].replace(tzinfo=UTC)) for row in rows]
    assert sorted(map(tuple, kept)) == sorted(expected)

    engine = create_engine(empty_database, pool_size=1)
    async with engine.connect() as upgraded_connection:
        assert await upgraded_connection.run_sync(differences) == []
        assert await upgraded_connection.run_sync(key) == ["user_id", "id"]
        assert await upgraded_connection.run_sync(indexes) == ["tasks_in_order"]
    mine = [row for row in rows if row[1] == "user-3"]
    page = await task_service.list_tasks(engine, "user-3", TaskListing())
    listed = json.loads(b"".join(page.rows.pieces()))
    await engine.dispose()
    assert [task["id"] for task in listed] == [str(row[0]) for row in mine]
    assert [datetime.fromisoformat(task["created_at"]) for task in listed] == [
        row[5].replace(tzinfo=UTC) for row in mine
    ]


@pytest.mark.anyio
async def test_a_migration_that_fails_leaves_the_earlier_table_whole(empty_database: str) -> None:
    await execute(empty_database, EARLIER)
    await execute(empty_database, "CREATE VIEW titles AS SELECT created_at FROM tasks")

    with pytest.raises(Exception, match="cannot alter type of a column used by a view"):
        await upgraded(empty_database)

    connection = await asyncpg.connect(empty_database)
    tables = await connection.fetch(
        "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1"
    )
    primary = await connection.fetchval(
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE conrelid = 'tasks'::regclass AND contype = 'p'"
    )
    await connection.close()
    assert [row["tablename"] for row in tables] == ["tasks"]
    assert primary == "PRIMARY KEY (id)"


@pytest.mark.anyio
async def test_a_newer_releases_tables_are_left_alone(empty_database: str) -> None:
    await upgraded(empty_database)
    await execute(empty_database, "UPDATE task_api_version SET version_num = '9999_newer'")

    await upgraded(empty_database)

    connection = await asyncpg.connect(empty_database)
    version = await connection.fetchval("SELECT version_num FROM task_api_version")
    await connection.close()
    assert version == "9999_newer"


@pytest.mark.anyio
async def test_an_error_names_a_table_that_is_not_distributed_like_tasks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def left_behind(_engine: None, _statement: Statement) -> list[bytes]:
        return [b"changes"]

    monkeypatch.setattr(migrations, "fetch_all", left_behind)

    with pytest.raises(CannotStart, match="The table changes is not distributed like tasks, so"):
        await vars(migrations)["_check_triggers"](None)


@pytest.mark.anyio
async def test_facts_that_change_during_the_read_are_read_again(
    empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process may upgrade the tables, and PostgreSQL then finds no such index."""
    failed: list[Statement] = []

    async def fetch_late(engine: AsyncEngine, statement: Statement) -> bytes | None:
        if not failed:
            failed.append(statement)
            raise asyncpg.InternalServerError("cache lookup failed for attribute 1 of relation 9")
        return await fetch(engine, statement)

    monkeypatch.setattr(migrations, "fetch", fetch_late)
    await upgraded(empty_database)

    assert len(failed) == 1


@pytest.mark.anyio
async def test_another_programs_migrations_are_ignored(empty_database: str) -> None:
    await execute(empty_database, "CREATE TABLE alembic_version (version_num varchar(32))")
    await execute(empty_database, "INSERT INTO alembic_version VALUES ('ae1027a6acf5')")

    await upgraded(empty_database)

    await execute(empty_database, "SELECT id, user_id FROM tasks")


@pytest.mark.anyio
async def test_an_upgrade_may_take_longer_than_a_requests_statement(
    empty_database: str, locks: str
) -> None:
    other = await asyncpg.connect(empty_database)
    transaction = other.transaction()
    await transaction.start()
    await other.execute("SELECT pg_advisory_xact_lock($1)", LOCK)
    seconds = 1.0
    engine = create_engine(empty_database, pool_size=1, statement_seconds=seconds)

    waiting = asyncio.ensure_future(upgrade(engine, empty_database))
    await until_waiting(empty_database, locks, 1, done=waiting)
    done, _ = await asyncio.wait([waiting], timeout=1.5 * seconds)
    assert not done
    await transaction.rollback()
    await waiting

    await other.execute("SELECT id, user_id FROM tasks")
    await other.close()
    await engine.dispose()


UPGRADE = """
import asyncio, sys
from src.framework.sql.engine import create_engine
from src.migrations import upgrade

async def main():
    engine = create_engine(sys.argv[1], pool_size=1)
    await upgrade(engine, sys.argv[1])
    await engine.dispose()

asyncio.run(main())
"""
UPGRADE_AND_SAY = UPGRADE + 'print("alembic" in sys.modules)\n'


def test_alembic_is_imported_only_for_an_upgrade(empty_database: str) -> None:
    said = [
        subprocess.run(
            [sys.executable, "-c", UPGRADE_AND_SAY, empty_database],
            cwd=BACKEND,
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for _ in range(2)
    ]

    assert said == ["True\n", "False\n"]


def start_up(urls: list[str], together: Barrier) -> None:
    """Start on each of these databases at the same time as the other processes."""
    for url in urls:
        together.wait()
        asyncio.run(upgraded(url))


def test_8_processes_start_at_once_on_an_empty_database_again_and_again(
    postgres: str, full: bool
) -> None:
    names = [f"race_{uuid4().hex}" for _ in range(20 if full else 3)]
    for name in names:
        asyncio.run(execute(postgres, f"CREATE DATABASE {name}"))
    urls = [beside(postgres, name) for name in names]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    together = context.Barrier(8)

    processes = [context.Process(target=start_up, args=(urls, together)) for _ in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=120)

    assert [process.exitcode for process in processes] == [0] * 8
    for name, url in zip(names, urls, strict=True):
        asyncio.run(execute(url, "SELECT id, user_id FROM tasks"))
        asyncio.run(execute(postgres, f"DROP DATABASE {name} WITH (FORCE)"))
