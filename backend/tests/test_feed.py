"""The feed loses nothing: the database numbers every change, in the order of commits."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeAlias
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from src.framework.sql.engine import create_engine
from src.migrations import upgrade
from src.schemas.changes import Position
from src.schemas.task import TaskCreate
from src.schemas.task_listing import TaskListing
from src.services import feed_service, task_service
from src.services.exceptions import ChangesGone
from src.services.feed_service import Changes
from tests.citus import ANEW
from tests.conftest import execute
from tests.faults.load import connected
from tests.serving import NO_TLS, Server, serving
from tests.tasks import Task, tasks_path

pytestmark = pytest.mark.anyio

Driver: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

INSERT = "INSERT INTO tasks VALUES ($1, $2, 'Buy milk', NULL, false, now(), now())"


def apply(tasks: dict[str, Task], changes: list[dict[str, Any]]) -> None:
    for change in changes:
        if "deleted" in change:
            tasks.pop(change["id"], None)
        else:
            tasks[change["id"]] = change


class Replica:
    """The tasks that a client keeps while it follows the feed."""

    def __init__(self, user: str, position: Position) -> None:
        self.user = user
        self.position = position
        self.tasks: dict[str, Task] = {}

    async def follow(self, engine: AsyncEngine, limit: int = 1000) -> None:
        """Read the feed to the end."""
        more = True
        while more:
            page = await feed_service.changes(engine, self.user, self.position, limit)
            apply(self.tasks, read(page))
            self.position, more = page.position, page.more


def read(page: Changes) -> list[dict[str, Any]]:
    changes: list[dict[str, Any]] = json.loads(b"".join(page.content.pieces()))["changes"]
    page.content.close()
    return changes


async def now(engine: AsyncEngine, user: str) -> Position:
    return (await feed_service.changes(engine, user, None, 1)).position


async def since(engine: AsyncEngine, user: str, position: Position) -> list[dict[str, Any]]:
    return read(await feed_service.changes(engine, user, position, 1000))


async def created(engine: AsyncEngine, user: str, title: str = "Buy milk") -> Task:
    task: Task = json.loads(await task_service.create_task(engine, user, TaskCreate(title=title)))
    return task


async def numbers(driver: Driver, user: str) -> list[int]:
    rows = await driver.fetch("SELECT seq FROM changes WHERE user_id = $1 ORDER BY seq", user)
    return [row["seq"] for row in rows]


# By hand


async def test_the_feed_has_changes_that_were_made_by_hand(
    engine: AsyncEngine, own_database: str, user: str
) -> None:
    position = await now(engine, user)
    one, other = uuid4(), uuid4()
    async with connected(own_database) as driver:
        await driver.execute(INSERT, one, user)
        await driver.execute(INSERT, other, user)
        await driver.execute("UPDATE tasks SET title = 'b' WHERE user_id = $1", user)
        await driver.execute("DELETE FROM tasks WHERE user_id = $1 AND id = $2", user, one)

    first, second = await since(engine, user, position)

    assert (first["id"], first["title"]) == (str(other), "b")
    assert second == {"id": str(one), "deleted": True}


async def test_a_rolled_back_transaction_leaves_no_gap_in_the_numbers(
    engine: AsyncEngine, own_database: str, user: str
) -> None:
    await created(engine, user)
    async with connected(own_database) as driver:
        transaction = driver.transaction()
        await transaction.start()
        await driver.execute(INSERT, uuid4(), user)
        await transaction.rollback()
        await created(engine, user)

        assert await numbers(driver, user) == [1, 2]


async def test_truncate_deletes_each_task(
    engine: AsyncEngine, own_database: str, user: str
) -> None:
    task = await created(engine, user)
    position = await now(engine, user)
    async with connected(own_database) as driver:
        await driver.execute("TRUNCATE tasks")

    assert await since(engine, user, position) == [{"id": task["id"], "deleted": True}]


async def test_the_first_owners_feed_has_a_task_that_gets_another_owner_as_deleted(
    engine: AsyncEngine, own_database: str, user: str, pytestconfig: pytest.Config
) -> None:
    if pytestconfig.getoption("citus"):
        pytest.skip("Citus lets nobody change the column that a table is distributed by")
    other = f"{user}-other"
    task = await created(engine, user)
    positions = [await now(engine, each) for each in (user, other)]
    async with connected(own_database) as driver:
        await driver.execute("UPDATE tasks SET user_id = $1", other)

    assert await since(engine, user, positions[0]) == [{"id": task["id"], "deleted": True}]
    [gained] = await since(engine, other, positions[1])
    assert gained["id"] == task["id"]


async def test_a_task_that_gets_another_id_is_deleted_and_created(
    engine: AsyncEngine, own_database: str, user: str
) -> None:
    task, other = await created(engine, user), uuid4()
    position = await now(engine, user)
    async with connected(own_database) as driver:
        await driver.execute("UPDATE tasks SET id = $1 WHERE user_id = $2", other, user)

    changes = await since(engine, user, position)
    assert {change["id"]: change.get("deleted", False) for change in changes} == {
        task["id"]: True,
        str(other): False,
    }


# The order of commits

WITHOUT_COUNTER = """
CREATE SEQUENCE numbers;
CREATE OR REPLACE FUNCTION log_changes() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO changes (user_id, seq, task_id)
    SELECT user_id, nextval('numbers'), id FROM changed;
    RETURN NULL;
END $$
"""


async def heard_of_late_commit(engine: AsyncEngine, url: str, locks: str, user: str) -> list[str]:
    """Commit an earlier write after a later write; return the changes for a reader meanwhile."""
    await created(engine, user)
    replica = Replica(user, await now(engine, user))
    early, late = uuid4(), uuid4()
    async with connected(url) as one, connected(url) as other:
        transaction = one.transaction()
        await transaction.start()
        await one.execute(INSERT, early, user)
        second = asyncio.create_task(other.execute(INSERT, late, user))
        await until_waiting(url, locks, 1, done=second)
        await replica.follow(engine)
        await transaction.commit()
        await second
        await replica.follow(engine)
    return [{str(early): "early", str(late): "late"}[task] for task in replica.tasks]


async def test_the_feed_has_the_changes_of_a_late_commit(
    engine: AsyncEngine, own_database: str, locks: str, user: str
) -> None:
    assert await heard_of_late_commit(engine, own_database, locks, user) == ["early", "late"]


async def test_without_the_counter_a_late_commit_is_missed(
    engine: AsyncEngine, own_database: str, locks: str, user: str, pytestconfig: pytest.Config
) -> None:
    if pytestconfig.getoption("citus"):
        pytest.skip("the sequence would have to be on every server")
    await execute(own_database, WITHOUT_COUNTER)

    assert await heard_of_late_commit(engine, own_database, locks, user) == ["late"]


async def test_two_first_writes_of_a_user_at_once_are_both_in_the_feed(engine: AsyncEngine) -> None:
    for number in range(10):
        user = f"user-{number}"
        position = await now(engine, user)
        await asyncio.gather(created(engine, user), created(engine, user))

        assert len(await since(engine, user, position)) == 2


@pytest.mark.usefixtures("engine")
async def test_statements_over_several_users_do_not_deadlock(own_database: str, full: bool) -> None:
    users = [f"user-{number}" for number in range(10)]

    async def insert(turns: int) -> None:
        async with connected(own_database) as driver:
            for _ in range(turns):
                chosen = random.sample(users, k=random.randint(1, 10)) * 2
                await driver.execute(
                    "INSERT INTO tasks SELECT gen_random_uuid(), name, 't', NULL, false, now(), "
                    "now() FROM unnest($1::text[]) AS name",
                    chosen,
                )

    await asyncio.gather(*(insert(2000 if full else 60) for _ in range(8)))

    async with connected(own_database) as driver:
        for user in users:
            found = await numbers(driver, user)
            assert found == list(range(1, len(found) + 1))
            tasks = await driver.fetchval("SELECT count(*) FROM tasks WHERE user_id = $1", user)
            assert tasks == len(found) > 0


async def write_by_hand(url: str, user: str, turns: int) -> None:
    """Write in transactions, some of which stay open for a while, and some of which are undone."""
    async with connected(url) as driver:
        for turn in range(turns):
            transaction = driver.transaction()
            await transaction.start()
            row = uuid4()
            await driver.execute(INSERT, row, user)
            if turn % 10 == 0:
                await asyncio.sleep(0.003)
            if turn % 3 == 0:
                await driver.execute("DELETE FROM tasks WHERE user_id = $1 AND id = $2", user, row)
            await (transaction.rollback() if turn % 7 == 0 else transaction.commit())


async def write_over_http(server: Server, user: str, turns: int) -> None:
    async with httpx.AsyncClient(base_url=server.url, timeout=60, verify=NO_TLS) as api:
        for turn in range(turns):
            answer = await api.post(tasks_path(user), json={"title": f"Task {turn}"})
            assert answer.status_code == 201
            path = answer.headers["Location"]
            if turn % 2 == 0:
                assert (await api.patch(f"{path}/complete")).status_code == 200
            if turn % 3 == 0:
                assert (await api.delete(path)).status_code == 200


@pytest.fixture
def two_servers(own_database: str, tmp_path: Path) -> Iterator[list[Server]]:
    with (
        serving(tmp_path / "one", DATABASE_URL=own_database) as one,
        serving(tmp_path / "other", DATABASE_URL=own_database) as other,
    ):
        yield [one, other]


async def test_8_writers_through_two_servers_and_by_hand_are_followed_without_a_gap(
    two_servers: list[Server], engine: AsyncEngine, own_database: str, user: str, full: bool
) -> None:
    turns = 8500 if full else 60
    replicas = [Replica(user, await now(engine, user)) for _ in range(3)]
    writers = [write_over_http(server, user, turns) for server in two_servers * 2]
    writers += [write_by_hand(own_database, user, turns) for _ in range(4)]
    writing = asyncio.gather(*writers)

    async def follow(replica: Replica, limit: int) -> None:
        while not writing.done():
            await replica.follow(engine, limit)
            await asyncio.sleep(0.001 * limit)
        await replica.follow(engine, limit)

    followers = [
        follow(replica, limit) for replica, limit in zip(replicas, (3, 50, 1000), strict=True)
    ]
    await asyncio.gather(writing, *followers)

    async with connected(own_database) as driver:
        found = await numbers(driver, user)
    listed = json.loads(await listed_text(engine, user))
    assert found == list(range(1, len(found) + 1))
    over_http = sum(1 + (turn % 2 == 0) + (turn % 3 == 0) for turn in range(turns))
    by_hand = sum(1 + (turn % 3 == 0) for turn in range(turns) if turn % 7)
    assert len(found) == 4 * over_http + 4 * by_hand
    for replica in replicas:
        assert sorted(replica.tasks) == sorted(task["id"] for task in listed)
        assert all(replica.tasks[task["id"]] == task for task in listed)


async def test_a_client_that_syncs_page_by_page_while_others_write_has_every_task(
    two_servers: list[Server], own_database: str, user: str, full: bool
) -> None:
    tasks = 100_000 if full else 2000
    async with connected(own_database) as driver:
        await driver.execute(
            "INSERT INTO tasks SELECT gen_random_uuid(), $1, 'Task ' || n, NULL, false, now(), "
            "now() FROM generate_series(1, $2) AS n",
            user,
            tasks,
        )
    writing = asyncio.gather(*(write_over_http(server, user, 60) for server in two_servers))

    async with httpx.AsyncClient(base_url=two_servers[0].url, timeout=60, verify=NO_TLS) as api:
        token = (await api.get(f"{tasks_path(user)}/changes")).json()["next"]
        replica: dict[str, Task] = {}
        url = f"{tasks_path(user)}?limit=500&sort=-updated_at"
        while url:
            page = await api.get(url)
            replica |= {task["id"]: task for task in page.json()}
            url = page.links.get("next", {}).get("url", "")
        await writing
        more = True
        while more:
            answer = (await api.get(f"{tasks_path(user)}/changes?since={token}&limit=100")).json()
            apply(replica, answer["changes"])
            token, more = answer["next"], answer["more"]
        there = (await api.get(tasks_path(user))).json()

    assert sorted(replica.values(), key=lambda task: task["id"]) == sorted(
        there, key=lambda task: task["id"]
    )


async def listed_text(engine: AsyncEngine, user: str) -> bytes:
    page = await task_service.list_tasks(engine, user, TaskListing())
    text = b"".join(page.rows.pieces())
    page.rows.close()
    return text


# Which changes the feed keeps


async def aged(url: str, user: str, first: int, last: int) -> None:
    await execute(
        url,
        f"UPDATE changes SET at = '{datetime.now(UTC) - timedelta(days=31)}' "
        f"WHERE user_id = '{user}' AND seq BETWEEN {first} AND {last}",
    )


async def test_changes_of_a_month_ago_and_their_tokens_go_except_the_newest(
    engine: AsyncEngine, own_database: str, user: str
) -> None:
    positions = [await now(engine, user)]
    for _ in range(30):
        await created(engine, user)
        positions.append(await now(engine, user))
    await aged(own_database, user, 1, 25)

    async with connected(own_database) as driver:
        while 24 in await numbers(driver, user):
            await created(engine, user)
        found = await numbers(driver, user)

    assert found == list(range(25, found[-1] + 1))
    for position in positions[:26]:
        with pytest.raises(ChangesGone):
            await since(engine, user, position)
    assert len(await since(engine, user, positions[30])) == found[-1] - 30


async def test_the_newest_change_stays_at_any_age(
    engine: AsyncEngine, own_database: str, user: str
) -> None:
    for _ in range(3):
        await created(engine, user)
    await aged(own_database, user, 1, 3)
    position = await now(engine, user)

    # Writes of other users, and deletes of old changes, do not touch this position.
    for _ in range(300):
        await created(engine, f"{user}-other")

    assert position.seq == 3
    assert await since(engine, user, position) == []


async def test_an_old_change_stays_as_long_as_an_earlier_change_is_too_young_to_go(
    engine: AsyncEngine, own_database: str, user: str
) -> None:
    for _ in range(3):
        await created(engine, user)
    await aged(own_database, user, 2, 2)

    async with connected(own_database) as driver:
        for _ in range(300):
            await created(engine, user)

        assert await numbers(driver, user) == list(range(1, 304))


async def test_a_change_writes_to_no_index_of_tasks(
    engine: AsyncEngine, own_database: str, user: str
) -> None:
    """Updates of tasks and of the counter stay within their page (HOT)."""
    task = await created(engine, user)
    for _ in range(50):
        await task_service.toggle_task(engine, user, UUID(task["id"]))

    async with connected(own_database) as driver:
        await driver.execute("SELECT pg_stat_force_next_flush()")
        await engine.dispose()
        await asyncio.sleep(0)
        rows = await driver.fetch(
            "SELECT relname, n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables "
            "WHERE relname IN ('tasks', 'feeds')"
        )

    assert {row["relname"] for row in rows} == {"feeds", "tasks"}
    for row in rows:
        assert row["n_tup_upd"] == row["n_tup_hot_upd"] == 50


# Another database


@asynccontextmanager
async def copied(url: str) -> AsyncIterator[str]:
    """A copy of a database, as a branch or a restore makes a copy."""
    name = f"copy_{uuid4().hex}"
    original = url.partition("?")[0].rpartition("/")[2]
    server = url.replace(f"/{original}", "/postgres", 1)
    await execute(server, f"CREATE DATABASE {name} TEMPLATE {original}")
    try:
        yield url.replace(f"/{original}", f"/{name}", 1)
    finally:
        await execute(server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def is_one_server(pytestconfig: pytest.Config) -> None:
    if pytestconfig.getoption("citus") or pytestconfig.getoption("pooler"):
        pytest.skip("copies a database, which nobody else may use meanwhile")


async def test_in_a_restored_database_tokens_from_after_the_backup_are_gone(
    own_database: str,
    user: str,
    is_one_server: None,  # noqa: ARG001 - skips
) -> None:
    first = create_engine(own_database, pool_size=1)
    await created(first, user)
    known = await now(first, user)
    await first.dispose()
    async with copied(own_database) as restored:
        await created(first, user)
        later = await now(first, user)
        second = create_engine(restored, pool_size=1)
        with pytest.raises(ChangesGone):
            await since(second, user, later)
        await created(second, user)
        with pytest.raises(ChangesGone):  # this change has the number of `later`, and another time
            await since(second, user, later)
        assert len(await since(second, user, known)) == 1
        await second.dispose()
    await first.dispose()


async def test_all_clients_can_be_told_to_begin_anew(
    engine: AsyncEngine, own_database: str, user: str, locks: str
) -> None:
    """After tables move to or from Citus, all clients must begin anew.

    A client that followed the feed while the commands ran must begin anew, too. Here, a locked row
    of another user's log stops the commands halfway.
    """
    other = f"{user}-other"
    nothing_yet = await now(engine, user)
    await created(engine, user)
    await created(engine, other)
    one = await now(engine, user)
    async with connected(own_database) as holder, connected(own_database) as driver:
        async with holder.transaction():
            await holder.execute("SELECT FROM changes WHERE user_id = $1 FOR UPDATE", other)
            telling = asyncio.create_task(driver.execute(";".join(ANEW)))
            await until_waiting(own_database, locks, 1)
            writing = asyncio.create_task(created(engine, user))
            await until_waiting(own_database, locks, 2, done=writing)
            two = await now(engine, user)
        await asyncio.gather(telling, writing)

    for position in (one, two):
        with pytest.raises(ChangesGone):
            await since(engine, user, position)
    assert len(await since(engine, user, nothing_yet)) == 2
    assert await since(engine, user, await now(engine, user)) == []


async def until_waiting(
    url: str, locks: str, number: int, done: "asyncio.Task[Any] | None" = None
) -> None:
    """Wait until this many sessions wait for locks, or until the task `done` has ended."""
    async with connected(url) as driver, asyncio.timeout(10):
        while done is None or not done.done():
            waiting = f"SELECT count(*) FROM {locks} WHERE NOT granted"
            if await driver.fetchval(waiting) >= number:
                return
            await asyncio.sleep(0.02)


async def test_a_token_of_a_user_without_changes_is_gone_in_another_database(
    engine: AsyncEngine,
    postgres: str,
    user: str,
    is_one_server: None,  # noqa: ARG001 - skips
) -> None:
    nothing_yet = await now(engine, user)
    other = create_engine(postgres, pool_size=1)
    await upgrade(other, postgres)

    assert await since(engine, user, nothing_yet) == []
    with pytest.raises(ChangesGone):
        await since(other, user, nothing_yet)
    await other.dispose()
