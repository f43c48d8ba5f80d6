"""A due date is a day or a moment. A day ends when the day ends in the client's time zone."""

import json
import re
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from uuid import UUID
from zoneinfo import ZoneInfo

import httpx
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from src.schemas.task import TaskCreate
from src.schemas.task_listing import TaskListing
from src.services import task_service
from tests.conftest import execute
from tests.serving import BACKEND
from tests.tasks import Task, assert_problem, create, listed, task_path, tasks_path

MIDNIGHT = "2026-12-24T00:00:00.000000+00:00"
NOON = "2026-12-24T12:00:00.000000+00:00"
ANOTHER = "2026-12-25T00:00:00.000000+00:00"

# What a client sends, and what the service answers.
SENT: list[tuple[dict[str, object], tuple[str | None, bool]]] = [
    ({"due_date": "2026-12-24"}, (MIDNIGHT, True)),
    ({"due_date": "2026-12-24", "all_day": True}, (MIDNIGHT, True)),
    ({"due_date": "2026-12-24", "all_day": None}, (MIDNIGHT, True)),
    ({"due_date": "2026-12-24", "all_day": False}, (MIDNIGHT, False)),
    ({"due_date": MIDNIGHT}, (MIDNIGHT, False)),
    ({"due_date": MIDNIGHT, "all_day": True}, (MIDNIGHT, True)),
    ({"due_date": "2026-12-24T00:00:00.000Z", "all_day": True}, (MIDNIGHT, True)),
    ({"due_date": "2026-12-24T00:00", "allDay": True}, (MIDNIGHT, True)),
    ({"due_date": "2026-12-24T00:00:00+14:00", "all_day": True}, (MIDNIGHT, True)),
    ({"due_date": "2026-12-24T00:00:00-0500", "all_day": True}, (MIDNIGHT, True)),
    ({"due_date": "2026-12-24 00:00:00+05", "all_day": True}, (MIDNIGHT, True)),
    ({"due_date": "2026-12-24T00:00:00-05:00"}, ("2026-12-24T05:00:00.000000+00:00", False)),
    ({"due_date": NOON}, (NOON, False)),
    ({"due_date": NOON, "all_day": False}, (NOON, False)),
    ({"due_date": None, "all_day": True}, (None, False)),
    ({"due_date": "", "all_day": True}, (None, False)),
    ({"due_date": None}, (None, False)),
]
sent_and_answered = pytest.mark.parametrize(("sent", "answered"), SENT)


def due(task: Task) -> tuple[str | None, bool]:
    return task["due_date"], task["all_day"]


def apply(api: httpx.Client, user: str, *operations: dict[str, Any]) -> list[Task]:
    answer = api.post(f"{tasks_path(user)}/batch", json={"operations": operations})
    assert answer.status_code == 200, answer.text
    return [result["task"] for result in answer.json()["results"]]


@sent_and_answered
def test_a_new_task_is_due_on_a_day_or_at_a_moment(
    api: httpx.Client, user: str, sent: dict[str, object], answered: tuple[str | None, bool]
) -> None:
    task = create(api, user, **sent)
    [other] = apply(api, user, {"op": "create", "task": {"title": "Buy milk"} | sent})

    assert due(task) == due(other) == answered
    assert listed(api, user) == [task, other]
    assert api.get(task_path(task)).json() == task


@sent_and_answered
@pytest.mark.parametrize("method", ["PUT", "PATCH", "batch"])
@pytest.mark.parametrize("before", [NOON, "2026-12-25"])
def test_a_change_makes_a_task_due_on_a_day_or_at_a_moment(
    api: httpx.Client,
    user: str,
    before: str,
    method: str,
    sent: dict[str, object],
    answered: tuple[str | None, bool],
) -> None:
    task = create(api, user, due_date=before)

    assert due(changed(api, task, method, sent)) == answered


def changed(api: httpx.Client, task: Task, method: str, sent: dict[str, object]) -> Task:
    if method == "batch":
        [answer] = apply(api, task["user_id"], {"op": "update", "id": task["id"], "task": sent})
    else:
        answer = api.request(method, task_path(task), json=sent).json()
    assert api.get(task_path(task)).json() == answer
    return answer


@pytest.mark.parametrize("method", ["PUT", "PATCH", "batch"])
def test_a_due_date_that_is_sent_back_unchanged_stays_a_day_or_a_moment(
    api: httpx.Client, user: str, method: str
) -> None:
    day, moment = create(api, user, due_date="2026-12-24"), create(api, user, due_date=MIDNIGHT)
    for due_date in (MIDNIGHT, "2026-12-24T00:00:00Z", "2026-12-23T19:00:00-05:00"):
        for task in (day, moment):
            answer = changed(api, task, method, {"title": "Buy bread", "due_date": due_date})
            assert due(answer) == due(task)
    assert due(changed(api, day, method, {"title": "Buy oats"})) == (MIDNIGHT, True)
    assert due(changed(api, day, method, {"due_date": ANOTHER})) == (ANOTHER, False)
    assert due(changed(api, moment, method, {"due_date": "2026-12-24"})) == (MIDNIGHT, True)
    assert due(changed(api, moment, method, {"all_day": False})) == (MIDNIGHT, False)
    assert due(changed(api, moment, method, {"all_day": None})) == (MIDNIGHT, False)


@pytest.mark.parametrize(
    "sent",
    [
        {"all_day": True, "due_date": NOON},
        {"all_day": True, "due_date": "2026-12-24T00:00:01Z"},
        {"all_day": True, "due_date": "2026-12-24T00:00:00.000001Z"},
        {"all_day": "yes", "due_date": "2026-12-24"},
        {"all_day": 1},
        {"all_day": "", "due_date": "2026-12-24"},
    ],
)
def test_a_text_that_is_no_day_is_refused_as_a_day(
    api: httpx.Client, user: str, sent: dict[str, object]
) -> None:
    task = create(api, user, due_date="2026-12-24")
    path = tasks_path(user)
    update = {"operations": [{"op": "update", "id": task["id"], "task": sent}]}
    for answer in (
        api.post(path, json={"title": "Buy milk"} | sent),
        api.patch(task_path(task), json=sent),
        api.put(task_path(task), json=sent),
        api.post(f"{path}/batch", json=update),
    ):
        assert_problem(answer, 422)
        assert [error["loc"][-1] for error in answer.json()["errors"]] == ["all_day"]
    assert listed(api, user) == [task]


def test_an_update_of_all_day_alone_is_refused_and_must_name_the_day(
    api: httpx.Client, user: str
) -> None:
    task = create(api, user, due_date=NOON)
    answer = api.patch(task_path(task), json={"all_day": True})
    assert_problem(answer, 422)
    [error] = answer.json()["errors"]
    assert error["msg"] == "needs a due_date that is a day, or a time at midnight"


def test_a_repeated_batch_with_a_key_answers_the_same_days(api: httpx.Client, user: str) -> None:
    task = create(api, user, due_date="2026-12-24")
    body = {
        "operations": [
            {"op": "create", "task": {"title": "Buy milk", "due_date": "2026-12-24"}},
            {"op": "update", "id": task["id"], "task": {"due_date": MIDNIGHT}},
        ]
    }
    path, key = f"{tasks_path(user)}/batch", {"Idempotency-Key": '"one"'}
    first = api.post(path, json=body, headers=key)
    again = api.post(path, json=body, headers=key)

    assert again.content == first.content
    assert [due(each["task"]) for each in first.json()["results"]] == [(MIDNIGHT, True)] * 2


def test_a_key_tells_a_day_from_a_moment(api: httpx.Client, user: str) -> None:
    key = {"Idempotency-Key": '"one"'}
    task = {"title": "Buy milk", "due_date": "2026-12-24"}
    first = api.post(tasks_path(user), json=task, headers=key)

    assert api.post(tasks_path(user), json=task, headers=key).content == first.content
    moment = api.post(tasks_path(user), json=task | {"due_date": MIDNIGHT}, headers=key)
    assert_problem(moment, 422)


def test_a_key_stores_that_midnight_is_a_moment() -> None:
    due_date = datetime.fromisoformat(MIDNIGHT)

    said = task_service.said_of({"due_date": due_date})

    assert said == {"due_date": due_date, "all_day": False}


# Days in zones

DAYS = [
    ("UTC", "2026-12-24", 24),
    ("America/New_York", "2026-12-24", 24),
    ("America/New_York", "2026-03-08", 23),
    ("America/New_York", "2026-11-01", 25),
    ("Asia/Kolkata", "2026-12-24", 24),
    ("Asia/Kathmandu", "2026-12-24", 24),
    ("Pacific/Kiritimati", "2026-12-24", 24),
    ("Pacific/Pago_Pago", "2026-12-24", 24),
    ("Australia/Lord_Howe", "2026-04-05", 24.5),
    ("Africa/Cairo", "2026-04-24", 23),  # this day has no midnight
    ("America/Havana", "2026-11-01", 25),  # this day has two midnights
    ("America/Asuncion", "2023-03-26", 24),  # the clocks go back to the day before
    ("Pacific/Apia", "2011-12-29", 24),  # the zone left out the day after
]
"""Zones, and days with their lengths in hours."""

TICK = timedelta(microseconds=1)


def first_moment(zone: str, day: str) -> datetime:
    """Look at each quarter of an hour until the zone has this date."""
    moment = datetime.fromisoformat(f"{day}T00:00:00+00:00") - timedelta(hours=30)
    while moment.astimezone(ZoneInfo(zone)).date() < date.fromisoformat(day):
        moment += timedelta(minutes=15)
    return moment


def after(day: str, days: int = 1) -> str:
    return str(date.fromisoformat(day) + timedelta(days=days))


def titles(api: httpx.Client, user: str, **query: str) -> list[str]:
    answer = api.get(tasks_path(user), params=query)
    assert answer.status_code == 200, answer.text
    return [task["title"] for task in answer.json()]


@pytest.mark.parametrize(("zone", "day", "hours"), DAYS)
def test_a_day_lists_the_tasks_of_the_day_and_of_its_moments(
    api: httpx.Client, user: str, zone: str, day: str, hours: float
) -> None:
    begin, end = first_moment(zone, day), first_moment(zone, after(day))
    due_dates = {
        "the day before": after(day, -1),
        "before": str((begin - TICK).isoformat()),
        "first": begin.isoformat(),
        "the day": day,
        "last": (end - TICK).isoformat(),
        "after": end.isoformat(),
        "the day after": after(day),
    }
    for title, due_date in due_dates.items():
        create(api, user, title=title, due_date=due_date)
    create(api, user, title="never")

    on_the_day = titles(api, user, due_date_from=day, due_date_to=day, time_zone=zone)
    assert (end - begin) / timedelta(hours=1) == hours
    assert sorted(on_the_day) == ["first", "last", "the day"]
    from_the_first = {"due_date_from": begin.isoformat(), "time_zone": zone}
    assert {*titles(api, user, **from_the_first)} == {*due_dates} - {"the day before", "before"}
    to_the_first = {"due_date_to": begin.isoformat(), "time_zone": zone}
    assert {*titles(api, user, **to_the_first)} == {"the day before", "before", "first", "the day"}
    in_order = titles(api, user, sort="due_date", time_zone=zone)
    assert in_order == [*due_dates, "never"]
    assert titles(api, user, sort="-due_date", time_zone=zone)[:2] == ["the day after", "after"]


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "America/New_York"])
@pytest.mark.parametrize("sort", ["due_date", "-due_date"])
@pytest.mark.parametrize("limit", [1, 2, 5])
def test_pages_in_a_zone_have_each_task_once_and_in_order(
    api: httpx.Client, user: str, zone: str, sort: str, limit: int
) -> None:
    begin = first_moment(zone, "2026-12-24")
    hours = [timedelta(hours=number) for number in range(-15, 16, 3)]
    for due_date in (
        *((begin + each).isoformat() for each in hours),
        *["2026-12-23", "2026-12-24", "2026-12-25", "2026-12-24"],
        *[begin.isoformat()] * 2,
        *[None] * 3,
    ):
        create(api, user, due_date=due_date)
    parameters = {"sort": sort, "time_zone": zone}
    whole = api.get(tasks_path(user), params=parameters).json()

    pages: list[Task] = []
    url = str(api.get(tasks_path(user), params=parameters | {"limit": str(limit)}).url)
    while url:
        page = api.get(url)
        pages += page.json()
        assert len(page.json()) <= limit
        url = page.links.get("next", {}).get("url", "")

    def place(task: Task) -> tuple[datetime, UUID]:
        day = task["due_date"][:10]
        moment = datetime.fromisoformat(task["due_date"])
        return (first_moment(zone, day) if task["all_day"] else moment), UUID(task["id"])

    dated = [task for task in whole if task["due_date"]]
    assert dated == sorted(dated, key=place, reverse=sort.startswith("-"))
    assert pages == whole
    assert len(whole) == 20


def test_a_cursor_belongs_to_its_zone(api: httpx.Client, user: str) -> None:
    for day in ("2026-12-24", "2026-12-25"):
        create(api, user, due_date=day)
    page = api.get(
        tasks_path(user), params={"sort": "due_date", "limit": 1, "time_zone": "Asia/Kolkata"}
    )
    query = dict(parse_qsl(urlsplit(page.links["next"]["url"]).query))
    assert api.get(tasks_path(user), params=query).json()[0]["due_date"][:10] == "2026-12-25"
    for zone in ("UTC", "Asia/Kathmandu", ""):
        answer = api.get(tasks_path(user), params=query | {"time_zone": zone})
        assert_problem(answer, 422, "cursor: belongs to a list in another order")


@pytest.mark.parametrize(
    "zone", ["Pacific/Kiritimati", "Asia/Kolkata", "UTC", "America/New_York", "Pacific/Pago_Pago"]
)
def test_a_day_is_overdue_after_its_end(api: httpx.Client, user: str, zone: str) -> None:
    today = datetime.now(ZoneInfo(zone)).date().isoformat()
    soon = (datetime.now(UTC) + timedelta(minutes=5)).isoformat()
    past = (datetime.now(UTC) - timedelta(minutes=5)).isoformat()
    for due_date in (after(today, -1), today, after(today), past, soon):
        create(api, user, title=due_date, due_date=due_date)
    create(api, user, title="done", due_date=after(today, -1), completed=True)

    assert titles(api, user, overdue="true", time_zone=zone) == [after(today, -1), past]
    others = titles(api, user, overdue="false", time_zone=zone)
    assert others == [today, after(today), soon, "done"]


ZONES = ["America/New_York", "Asia/Kolkata", "Pacific/Kiritimati"]


@pytest.mark.parametrize("zone", ZONES)
def test_the_recipe_for_what_is_due_today_is_one_request(
    api: httpx.Client, user: str, zone: str
) -> None:
    documents = ("README.md", "specs/004-task-fields/quickstart.md")
    texts = [(BACKEND.parent / name).read_text() for name in documents]
    [[query], again] = [re.findall(r'tasks\?(due_date_from=\$today.*)"', text) for text in texts]
    assert again == [query]
    now = datetime.now(ZoneInfo(zone))
    today = now.date().isoformat()
    for days in (-1, 0, 1):
        create(api, user, title=f"day {days}", due_date=after(today, days))
        create(api, user, title=f"moment {days}", due_date=(now + timedelta(days=days)).isoformat())

    asked = query.replace("$today", today).replace("$zone", zone)
    due_today = api.get(f"{tasks_path(user)}?{asked}").json()

    assert [task["title"] for task in due_today] == ["day 0", "moment 0"]


@pytest.mark.parametrize(
    "zone",
    [
        "Mars/Olympus",
        "america/new_york",
        "America/New York",
        "America",
        "EST5EDT4",
        "FOO3",
        "<+03>-3",
        "+05:30",
        "5",
        "../../../../etc/passwd",
        "UTC\0",
        "UTC\n",
        "x" * 64,
        "x" * 1000,
        "Zürich",
        "'; DROP TABLE tasks; --",
    ],
)
@pytest.mark.parametrize("query", [{}, {"sort": "due_date"}, {"overdue": "true"}])
def test_an_unknown_time_zone_is_refused(
    api: httpx.Client, user: str, zone: str, query: dict[str, str]
) -> None:
    answer = api.get(tasks_path(user), params=query | {"time_zone": zone})
    assert_problem(
        answer, 422, "time_zone: must be the name of a time zone, such as America/New_York"
    )


@pytest.mark.parametrize("zone", ["", "UTC", "Etc/UTC", "GMT", "Asia/Calcutta", "Etc/GMT+12"])
def test_every_name_of_the_iana_is_known(api: httpx.Client, user: str, zone: str) -> None:
    task = create(api, user, due_date="2026-12-24")
    day = {"due_date_from": "2026-12-24", "due_date_to": "2026-12-24", "time_zone": zone}
    assert api.get(tasks_path(user), params=day).json() == [task]


@pytest.mark.anyio
async def test_a_task_is_not_all_day_after_a_release_without_days_sets_a_moment(
    engine: AsyncEngine, own_database: str
) -> None:
    """The earlier release changes due dates without `all_day`, while both releases run."""
    made = [
        json.loads(await task_service.create_task(engine, "ada", TaskCreate(title=title, **day)))
        for title in ("moment", "none", "day", "title")
        for day in [{"due_date": "2026-12-24"}]
    ]
    assert [task["all_day"] for task in made] == [True] * 4
    for title, change in {
        "moment": f"due_date = '{NOON}'",
        "none": "due_date = NULL",
        "day": f"due_date = '{ANOTHER}'",
        "title": "completed = true",
    }.items():
        await execute(own_database, f"UPDATE tasks SET {change} WHERE title = '{title}'")

    page = await task_service.list_tasks(engine, "ada", TaskListing())
    tasks = json.loads(b"".join(page.rows.pieces()))

    assert [due(task) for task in tasks] == [
        (NOON, False),
        (None, False),
        (ANOTHER, True),
        (MIDNIGHT, True),
    ]
