"""A key stores only what the service cannot compute again, and a user has a limited number."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from src.framework.sql import rows
from src.framework.sql.exceptions import KeyReused, TooManyKeys
from src.framework.sql.statements import MOST_KEYS
from src.schemas.task import TaskCreate, TaskUpdate
from src.services import batch_service, task_service
from tests.conftest import execute
from tests.faults.load import connected
from tests.tasks import assert_problem, create, tasks_path

LARGE: dict[str, Any] = {
    "title": "t" * 500,
    "description": "".join(chr(0x4E00 + n * 7919 % 20_000) for n in range(5000)),
    "tags": [
        "".join(chr(0x4E00 + (tag * 31 + n * 97) % 20_000) for n in range(50)) for tag in range(20)
    ],
}
FULL = (
    "Idempotency-Key: you have sent 10,000 keys in 24 hours; "
    "wait, or send the request without a key"
)


def batch(api: httpx.Client, user: str, operations: list[Any], key: str) -> httpx.Response:
    headers = {"Idempotency-Key": key}
    path = f"{tasks_path(user)}/batch"
    return api.post(path, json={"operations": operations}, headers=headers, timeout=60)


def stored(url: str, user: str) -> list[int]:
    """Return how many bytes each key of a user takes."""

    async def sizes() -> list[int]:
        async with connected(url) as driver:
            found = await driver.fetch(
                "SELECT sum(pg_column_size(each.*)) FROM idempotency_keys AS each"
                " WHERE user_id = $1 GROUP BY key",
                user,
            )
        return [row[0] for row in found]

    return asyncio.run(sizes())


def test_a_batch_that_changes_nothing_keeps_no_key(
    api: httpx.Client, postgres: str, user: str
) -> None:
    tasks = [create(api, user, **LARGE) for _ in range(100)]
    operations = [{"op": "update", "id": task["id"], "task": {}} for task in tasks]

    answers = [batch(api, user, operations, "key") for _ in range(2)]

    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].content == answers[1].content
    assert stored(postgres, user) == []


def test_a_key_of_creates_and_whole_updates_keeps_their_ids_and_times_only(
    api: httpx.Client, postgres: str, user: str
) -> None:
    tasks = [create(api, user) for _ in range(50)]
    whole = LARGE | {"completed": True, "priority": "low", "due_date": "2026-02-03T04:05:06.7Z"}
    operations = [
        *({"op": "update", "id": task["id"], "task": whole} for task in tasks),
        *({"op": "create", "task": whole} for _ in range(50)),
    ]

    first = batch(api, user, operations, "key")
    for task in tasks:
        api.delete(f"{tasks_path(user)}/{task['id']}")

    assert first.status_code == 200
    assert batch(api, user, operations, "key").content == first.content
    [size] = stored(postgres, user)
    assert size < 100 * 300


def test_later_changes_of_the_tasks_do_not_change_the_repeated_first_answer(
    api: httpx.Client, user: str
) -> None:
    due = "2026-02-03T04:05:06.70+09:00"
    one, two, three = (create(api, user, due_date=due, tags=["a", "é"]) for _ in range(3))
    operations = [
        {"op": "update", "id": one["id"], "task": {"due_date": None, "tags": []}},
        {"op": "update", "id": two["id"], "task": {}},
        {"op": "create", "task": {"title": '\\ " \u2028 \x01 😀', "due_date": due}},
        {"op": "update", "id": three["id"], "task": {"due_date": "2026-12-24", "completed": True}},
    ]
    first = batch(api, user, operations, "key")
    for task in (one, two, three):
        api.patch(f"{tasks_path(user)}/{task['id']}", json={"title": "b", "tags": ["c"]})

    assert first.status_code == 200
    assert batch(api, user, operations, "key").content == first.content


@pytest.mark.anyio
async def test_a_key_of_the_release_before_repeats_its_whole_answer(
    engine: AsyncEngine, own_database: str, user: str
) -> None:
    """That release stored whole answers, under a fingerprint that this release knows."""
    operations: Any = [{"op": "create", "task": TaskCreate(title="Buy milk")}]
    made = json.loads(await task_service.create_task(engine, user, TaskCreate(title="Buy milk")))
    async with connected(own_database) as driver:
        await driver.execute(
            "INSERT INTO idempotency_keys (user_id, key, fingerprint, created_at, answer)"
            " VALUES ($1, 'key', $2, now(), $3::json)",
            user,
            batch_service.batch_fingerprint(operations),
            json.dumps([made]),
        )

    [again] = await batch_service.apply_batch(engine, user, operations, "key")

    assert json.loads(again or b"") == made


@pytest.mark.anyio
async def test_the_release_before_does_not_take_a_part_of_an_answer_for_the_whole(
    engine: AsyncEngine, own_database: str, user: str
) -> None:
    operations: Any = [{"op": "create", "task": TaskCreate(title="Buy milk")}]
    await batch_service.apply_batch(engine, user, operations, "key")

    async with connected(own_database) as driver:
        kept = await driver.fetchval("SELECT fingerprint FROM idempotency_keys")
    assert kept != batch_service.batch_fingerprint(operations)


# How many keys a user may have


@pytest.fixture(params=[False, True], ids=["at once", "in steps"])
def _both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "is_distributed", lambda _: request.param)


async def keep(url: str, user: str, number: int, age: timedelta = timedelta()) -> None:
    async with connected(url) as driver:
        await driver.execute(
            "INSERT INTO idempotency_keys (user_id, key, fingerprint, created_at)"
            " SELECT $1, format('kept-%s', n), 'x', $3 FROM generate_series(1, $2) AS n",
            user,
            number,
            datetime.now(UTC) - age,
        )


@pytest.mark.anyio
@pytest.mark.usefixtures("_both_ways")
async def test_beyond_10_000_keys_new_keys_are_refused_and_old_keys_repeat_answers(
    engine: AsyncEngine, own_database: str, user: str
) -> None:
    milk = TaskCreate(title="Buy milk")
    first = await task_service.create_task(engine, user, milk, "first")
    task_id = UUID(json.loads(first)["id"])
    create: Any = [{"op": "create", "task": milk}]
    change: Any = [{"op": "update", "id": task_id, "task": TaskUpdate(completed=True)}]
    [applied] = await batch_service.apply_batch(engine, user, change, "batch")
    await keep(own_database, user, MOST_KEYS - 3, timedelta(hours=1))
    last = await task_service.create_task(engine, user, milk, "last")

    with pytest.raises(TooManyKeys) as caught:
        await task_service.create_task(engine, user, milk, "new")
    assert 22.9 * 3600 < caught.value.seconds < 23.1 * 3600
    with pytest.raises(TooManyKeys):
        await batch_service.apply_batch(engine, user, create, "new")
    assert await task_service.create_task(engine, user, milk, "first") == first
    assert await task_service.create_task(engine, user, milk, "last") == last
    assert await batch_service.apply_batch(engine, user, change, "batch") == [applied]
    with pytest.raises(KeyReused):
        await task_service.create_task(engine, user, TaskCreate(title="Other"), "first")
    await task_service.create_task(engine, user, milk)
    await task_service.create_task(engine, f"{user}-other", milk, "new")

    await execute(
        own_database,
        "UPDATE idempotency_keys SET created_at = now() - interval '25 hours'"
        " WHERE key LIKE 'kept-%'",
    )
    await task_service.create_task(engine, user, milk, "new")
    async with connected(own_database) as driver:
        made = await driver.fetchval("SELECT count(*) FROM tasks WHERE user_id = $1", user)
    assert made == 4


def test_too_many_keys_are_429_with_retry_after(
    api: httpx.Client, postgres: str, user: str
) -> None:
    asyncio.run(keep(postgres, user, MOST_KEYS, timedelta(hours=23)))
    headers = {"Idempotency-Key": "new"}

    for answer in (
        api.post(tasks_path(user), json={"title": "Buy milk"}, headers=headers),
        batch(api, user, [{"op": "create", "task": {"title": "Buy milk"}}], "new"),
    ):
        assert_problem(answer, 429, FULL)
        assert 3000 < int(answer.headers["retry-after"]) <= 3600
