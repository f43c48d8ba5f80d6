"""The time when a task was completed, and the time when another program created the task."""

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from src.schemas.task import TaskCreate
from src.services import task_service
from tests.conftest import execute
from tests.tasks import Task, assert_problem, create, listed, task_path, tasks_path

OLD = "2020-02-29T12:00:00.000000+00:00"
LATER = "2020-03-01T08:30:00.000000+00:00"
AHEAD = (datetime.now(UTC) + timedelta(days=400)).isoformat()

Change = Callable[[httpx.Client, Task, bool], httpx.Response]


def in_a_batch(api: httpx.Client, task: Task, fields: dict[str, object]) -> httpx.Response:
    operation = {"op": "update", "id": task["id"], "task": fields}
    return api.post(
        f"{tasks_path(task['user_id'])}/batch", json={"operations": [operation]}
    ).raise_for_status()


def if_unchanged(api: httpx.Client, task: Task) -> dict[str, str]:
    return {"If-Match": api.get(task_path(task)).headers["etag"]}


WAYS: dict[str, Change] = {
    "PUT": lambda api, task, done: api.put(task_path(task), json={"completed": done}),
    "PATCH": lambda api, task, done: api.patch(
        task_path(task), json={"completed": done, "title": "Buy bread"}
    ),
    "PATCH with If-Match": lambda api, task, done: api.patch(
        task_path(task), json={"completed": done}, headers=if_unchanged(api, task)
    ),
    "status": lambda api, task, done: api.patch(
        task_path(task), json={"status": "done" if done else "open"}
    ),
    "completion": lambda api, task, done: api.patch(
        f"{task_path(task)}/complete", json={"completed": done}
    ),
    "toggle": lambda api, task, _: api.patch(f"{task_path(task)}/complete"),
    "toggle with If-Match": lambda api, task, _: api.patch(
        f"{task_path(task)}/complete", headers=if_unchanged(api, task)
    ),
    "batch": lambda api, task, done: in_a_batch(api, task, {"completed": done}),
}
ways = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


def now_of(api: httpx.Client, task: Task) -> Task:
    read: Task = api.get(task_path(task)).json()
    return read


@ways
def test_a_task_has_the_time_of_its_completion_until_the_task_is_open_again(
    api: httpx.Client, user: str, way: Change
) -> None:
    task = create(api, user)
    assert task["completed_at"] is None

    assert way(api, task, True).status_code == 200
    done = now_of(api, task)
    assert done["completed"]
    assert done["completed_at"] == done["updated_at"] > task["updated_at"]

    assert way(api, task, False).status_code == 200
    assert not now_of(api, task)["completed"]
    assert now_of(api, task)["completed_at"] is None


@pytest.mark.parametrize("way", [name for name in WAYS if "toggle" not in name])
def test_a_second_completion_keeps_the_time(api: httpx.Client, user: str, way: str) -> None:
    task = create(api, user, completed=True)

    WAYS[way](api, task, True)

    assert now_of(api, task)["completed_at"] == task["completed_at"]
    assert now_of(api, task)["updated_at"] > task["updated_at"]


def test_another_change_keeps_the_time(api: httpx.Client, user: str) -> None:
    task = create(api, user, completed=True)

    api.patch(task_path(task), json={"title": "Buy bread"})
    in_a_batch(api, task, {"description": "Rye"})

    assert now_of(api, task)["completed_at"] == task["completed_at"]


@pytest.mark.anyio
async def test_requests_that_share_a_statement_set_and_clear_the_time(engine: AsyncEngine) -> None:
    users = [f"user {number}" for number in range(30)]
    made = await asyncio.gather(
        *(task_service.create_task(engine, user, TaskCreate(title="Buy milk")) for user in users)
    )
    ids = [UUID(json.loads(task)["id"]) for task in made]

    async def all_at_once(change: Callable[[int], Any]) -> list[Task]:
        rows = await asyncio.gather(*(change(number) for number in range(len(users))))
        return [json.loads(row) for row in rows]

    def toggle(number: int) -> Any:  # noqa: ANN401 - a coroutine
        return task_service.toggle_task(engine, users[number], ids[number])

    def change(number: int) -> Any:  # noqa: ANN401 - a coroutine
        kinds: list[Any] = [{"completed": True}, {"completed": False}, {"title": "Buy bread"}]
        return task_service.update_task(engine, users[number], ids[number], kinds[number % 3])

    def either(number: int) -> Any:  # noqa: ANN401 - a coroutine
        return toggle(number) if number % 2 else change(number)

    completed = await all_at_once(toggle)
    assert all(task["completed_at"] == task["updated_at"] for task in completed)
    changed = await all_at_once(change)
    mixed = await all_at_once(either)

    for before, after in [*zip(completed, changed, strict=True), *zip(changed, mixed, strict=True)]:
        was, now = before["completed"], after["completed"]
        expected = (before["completed_at"] if was else after["updated_at"]) if now else None
        assert after["completed_at"] == expected


# New tasks


@pytest.mark.parametrize("way", ["alone", "key", "batch"])
@pytest.mark.parametrize(
    ("sent", "completed", "times"),
    [
        ({"completed": True}, True, ("now", "now")),
        ({"created_at": OLD}, False, (OLD, None)),
        ({"completed": True, "created_at": OLD}, True, (OLD, "now")),
        ({"completed": True, "created_at": OLD, "completed_at": LATER}, True, (OLD, LATER)),
        ({"createdAt": OLD, "completedAt": LATER, "status": "done"}, True, (OLD, LATER)),
        ({"completed_at": LATER}, True, ("now", LATER)),
        ({"completed_at": "2020-03-01"}, True, ("now", "2020-03-01T00:00:00.000000+00:00")),
        ({"completed_at": "2020-03-01T09:30:00+01:00"}, True, ("now", LATER)),
        ({"completed": False, "completed_at": LATER}, False, ("now", None)),
        ({"completed_at": None, "created_at": None}, False, ("now", None)),
        ({"completed_at": "", "created_at": ""}, False, ("now", None)),
        ({"completed_at": "0001-01-01T00:00:00Z"}, False, ("now", None)),
        ({"created_at": "0001-01-01T00:00:00Z", "completed": True}, True, ("now", "now")),
        ({"created_at": AHEAD, "completed_at": AHEAD}, True, ("now", "now")),
    ],
)
def test_a_create_keeps_the_times_of_a_task_from_another_service(
    api: httpx.Client,
    user: str,
    way: str,
    sent: dict[str, object],
    completed: bool,
    times: tuple[str, str | None],
) -> None:
    body = {"title": "Buy milk"} | sent
    begun = datetime.now(UTC)

    if way == "batch":
        operations = [{"op": "create", "task": body}]
        answer = api.post(f"{tasks_path(user)}/batch", json={"operations": operations}).json()
        task = answer["results"][0]["task"]
    else:
        task = create(api, user, **body) if way == "alone" else twice(api, user, body)

    now = task["updated_at"]
    assert begun - timedelta(seconds=1) < datetime.fromisoformat(now) <= datetime.now(UTC)
    assert task["completed"] is completed
    expected = [now if time == "now" else time for time in times]
    assert [task["created_at"], task["completed_at"]] == expected
    assert listed(api, user) == [task]


def twice(api: httpx.Client, user: str, body: dict[str, object]) -> Task:
    """Send a create with a key twice."""
    headers = {"Idempotency-Key": '"once"'}
    first, second = (api.post(tasks_path(user), json=body, headers=headers) for _ in range(2))
    assert second.content == first.content
    task: Task = first.json()
    return task


def test_a_key_covers_the_times(api: httpx.Client, user: str) -> None:
    headers = {"Idempotency-Key": '"once"'}
    body = {"title": "Buy milk", "created_at": OLD}
    made = api.post(tasks_path(user), json=body, headers=headers)

    other = api.post(tasks_path(user), json=body | {"created_at": LATER}, headers=headers)

    assert made.status_code == 201
    assert_problem(other, 422)


def test_a_repeated_batch_with_a_key_answers_the_same_times(api: httpx.Client, user: str) -> None:
    task, done = create(api, user), create(api, user, completed=True)
    operations = [
        {"op": "create", "task": {"title": "Buy milk", "completed": True, "created_at": AHEAD}},
        {"op": "create", "task": {"title": "Buy milk", "created_at": OLD, "completed_at": LATER}},
        {"op": "update", "id": task["id"], "task": {"completed": True}},
        {"op": "update", "id": done["id"], "task": {"completed": False}},
    ]
    headers = {"Idempotency-Key": '"once"'}

    first, second = (
        api.post(f"{tasks_path(user)}/batch", json={"operations": operations}, headers=headers)
        for _ in range(2)
    )

    assert first.status_code == 200
    assert second.content == first.content
    tasks = [result["task"] for result in first.json()["results"]]
    assert [task["completed_at"] for task in tasks] == [
        tasks[0]["updated_at"],
        LATER,
        tasks[2]["updated_at"],
        None,
    ]


@pytest.mark.parametrize("name", ["created_at", "completed_at", "completedAt"])
@pytest.mark.parametrize("time", ["yesterday", 1764460800000, True, {}, "2020-13-01"])
def test_a_value_that_is_no_time_is_refused(
    api: httpx.Client, user: str, name: str, time: object
) -> None:
    answer = api.post(tasks_path(user), json={"title": "Buy milk", name: time})

    assert_problem(answer, 422)
    assert "must be a day such as 2026-12-24 or a time" in answer.json()["detail"]
    assert listed(api, user) == []


@pytest.mark.parametrize("way", ["PUT", "PATCH", "batch"])
def test_a_change_keeps_both_times_and_further_members(
    api: httpx.Client, user: str, way: str
) -> None:
    """A client may send a whole task back."""
    task = create(api, user, created_at=OLD, completed_at=LATER)
    sent = task | {"created_at": LATER, "completed_at": "soon", "completedAt": 7}

    if way == "batch":
        in_a_batch(api, task, sent)
    else:
        assert api.request(way, task_path(task), json=sent).status_code == 200

    assert now_of(api, task) == task | {"updated_at": now_of(api, task)["updated_at"]}


def test_an_old_task_has_its_place_in_the_list(api: httpx.Client, user: str) -> None:
    new = create(api, user)
    old = create(api, user, created_at=OLD)

    assert listed(api, user) == [old, new]
    pages = api.get(tasks_path(user), params={"limit": 1})
    assert pages.json() == [old]
    assert api.get(f"{pages.url.join(pages.links['next']['url'])}").json() == [new]


# Lists


def titles(api: httpx.Client, user: str, **query: str) -> str:
    answer = api.get(tasks_path(user), params=query)
    assert answer.status_code == 200, answer.text
    return "".join(task["title"] for task in answer.json())


@pytest.fixture
def done(api: httpx.Client, user: str) -> None:
    create(api, user, title="o")
    for title, time in {
        "d": "2026-02-03T05:00:00Z",
        "a": "2026-02-01T23:59:59.999999Z",
        "c": "2026-02-03T00:00:00Z",
        "b": "2026-02-02T00:00:00Z",
    }.items():
        create(api, user, title=title, completed_at=time)


@pytest.mark.usefixtures("done")
@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, "odacb"),
        ({"completed_from": "2026-02-02"}, "dcb"),
        ({"completed_from": "2026-02-02T00:00:00.000001Z"}, "dc"),
        ({"completed_to": "2026-02-02"}, "ab"),
        ({"completed_to": "2026-02-02T00:00Z"}, "ab"),
        ({"completed_from": "2026-02-02", "completed_to": "2026-02-02"}, "b"),
        (
            {"completed_from": "2026-02-02", "completed_to": "2026-02-02"}
            | {"time_zone": "America/New_York"},
            "c",
        ),
        ({"completed_from": "", "completed_to": ""}, "odacb"),
        ({"completed_from": "2026-02-02", "completed": "false"}, ""),
        ({"completed_from": "2026-02-02", "due_date_to": "2027-01-01"}, ""),
        ({"completedAfter": "2026-02-03", "sort": "completed_at"}, "cd"),
        ({"completed_at[gte]": "2026-02-03", "sortBy": "completedAt"}, "cd"),
        ({"completed_before": "2026-02-01"}, "a"),
        ({"completedUntil": "2026-02-01"}, "a"),
        ({"sort": "completed_at"}, "abcdo"),
        ({"sort": "-completed_at"}, "dcbao"),
        ({"sort": "completed_at", "order": "desc"}, "dcbao"),
        ({"sort": "-completed_at", "time_zone": "America/New_York"}, "dcbao"),
    ],
)
def test_a_list_finds_and_orders_tasks_by_their_completion(
    api: httpx.Client, user: str, query: dict[str, str], expected: str
) -> None:
    assert titles(api, user, **query) == expected


@pytest.mark.parametrize("name", ["completed_from", "completed_to", "completedSince"])
def test_a_filter_that_is_no_time_is_refused(api: httpx.Client, user: str, name: str) -> None:
    assert_problem(api.get(tasks_path(user), params={name: "last week"}), 422)


# Other writers


@pytest.mark.anyio
async def test_an_update_of_completed_alone_sets_and_clears_the_time(
    engine: AsyncEngine, own_database: str
) -> None:
    """The earlier release writes `completed` alone, while both releases run."""
    made = [
        json.loads(await task_service.create_task(engine, "ada", TaskCreate(title=title, **done)))
        for title, done in {
            "open": {},
            "done": {"completed": True, "completed_at": OLD},
            "again": {"completed": True, "completed_at": OLD},
        }.items()
    ]
    changes = {"open": "NOT completed", "done": "NOT completed", "again": "true"}
    for title, value in changes.items():
        await execute(
            own_database,
            f"UPDATE tasks SET completed = {value}, updated_at = now() WHERE title = '{title}'",
        )
    opened, done, again = [
        json.loads(await task_service.get_task(engine, "ada", UUID(task["id"]))) for task in made
    ]

    assert opened["completed_at"] == opened["updated_at"]
    assert done["completed_at"] is None
    assert again["completed_at"] == OLD


@pytest.mark.anyio
async def test_a_completion_by_hand_sets_the_time(engine: AsyncEngine, own_database: str) -> None:
    made = json.loads(await task_service.create_task(engine, "ada", TaskCreate(title="Buy milk")))

    await execute(own_database, "UPDATE tasks SET completed = true")

    task = json.loads(await task_service.get_task(engine, "ada", UUID(made["id"])))
    assert task["completed_at"] > task["updated_at"] == made["updated_at"]


@pytest.mark.anyio
async def test_a_task_that_someone_inserts_as_completed_has_no_time(
    engine: AsyncEngine, own_database: str
) -> None:
    task_id = uuid4()
    await execute(
        own_database,
        "INSERT INTO tasks (id, user_id, title, completed, created_at, updated_at) "
        f"VALUES ('{task_id}', 'ada', 'Buy milk', true, now(), now())",
    )

    task = json.loads(await task_service.get_task(engine, "ada", task_id))

    assert task["completed"] is True
    assert task["completed_at"] is None


@pytest.mark.anyio
async def test_a_task_from_before_the_migration_has_no_time_until_completed_again(
    engine: AsyncEngine, own_database: str
) -> None:
    row = await task_service.create_task(engine, "ada", TaskCreate(title="Old", completed=True))
    await execute(own_database, "UPDATE tasks SET completed_at = NULL")
    task_id = UUID(json.loads(row)["id"])

    again = await task_service.update_task(
        engine, "ada", task_id, {"completed": True, "title": "Older"}
    )

    assert json.loads(again)["completed_at"] is None
    await task_service.toggle_task(engine, "ada", task_id)
    done = json.loads(await task_service.toggle_task(engine, "ada", task_id))
    assert done["completed_at"] == done["updated_at"]
