"""Priority, due date, tags and completion: what a client may send, and what it reads back."""

from typing import Any, get_args

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from src.models.task import PRIORITIES
from src.schemas.task import Priority
from tests.tasks import Task, assert_problem, create, listed, task_path, tasks_path

UNSET: dict[str, object] = {"completed": False, "priority": "medium", "due_date": None, "tags": []}

# What a client sends for a field, and what the service answers.
READ: list[tuple[str, object, object]] = [
    ("completed", True, True),
    ("priority", "low", "low"),
    ("priority", "URGENT", "urgent"),
    ("priority", " High ", "high"),
    ("priority", "", "medium"),
    ("priority", None, "medium"),
    ("due_date", "2026-12-24", "2026-12-24T00:00:00.000000+00:00"),
    ("due_date", "2024-02-29", "2024-02-29T00:00:00.000000+00:00"),
    ("due_date", "2026-12-24T09:30", "2026-12-24T09:30:00.000000+00:00"),
    ("due_date", "2026-12-24T09:30:00", "2026-12-24T09:30:00.000000+00:00"),
    ("due_date", "2026-12-24T09:30:00Z", "2026-12-24T09:30:00.000000+00:00"),
    ("due_date", "2026-12-24t09:30:00z", "2026-12-24T09:30:00.000000+00:00"),
    ("due_date", "2026-12-24T00:30:00+01:00", "2026-12-23T23:30:00.000000+00:00"),
    ("due_date", "2026-12-24T09:30:00.123456789-08:00", "2026-12-24T17:30:00.123456+00:00"),
    ("due_date", "2026-12-24T09:30:00+0100", "2026-12-24T08:30:00.000000+00:00"),
    ("due_date", "2026-12-24T09:30:00.000-0330", "2026-12-24T13:00:00.000000+00:00"),
    ("due_date", "2026-12-24T09:30+0545", "2026-12-24T03:45:00.000000+00:00"),
    ("due_date", "2026-12-24 09:30:00+00", "2026-12-24T09:30:00.000000+00:00"),
    ("due_date", "2026-12-24 09:30:00.5-05", "2026-12-24T14:30:00.500000+00:00"),
    ("due_date", "0001-01-01T00:00:00.000001Z", "0001-01-01T00:00:00.000001+00:00"),
    ("due_date", "9999-12-31T23:59:59.999998Z", "9999-12-31T23:59:59.999998+00:00"),
    ("due_date", "", None),
    ("due_date", None, None),
    ("tags", ["home"], ["home"]),
    ("tags", ["b", "a"], ["b", "a"]),
    ("tags", [" home\t", "home", "Home"], ["home", "Home"]),
    ("tags", ["x" * 50], ["x" * 50]),
    ("tags", ["💡" * 50], ["💡" * 50]),
    ("tags", ['"{}\\', "NULL", "a b"], ['"{}\\', "NULL", "a b"]),
    ("tags", [str(number) for number in range(20)], [str(number) for number in range(20)]),
    ("tags", [], []),
    ("tags", None, []),
]
sent_and_read = pytest.mark.parametrize(("field", "sent", "read"), READ)

WRONG: list[tuple[str, object, str]] = [
    ("completed", "true", "must be true or false"),
    ("completed", None, "must be true or false"),
    ("priority", "purple", "must be 'low', 'medium', 'high' or 'urgent'"),
    ("priority", 2, "must be 'low', 'medium', 'high' or 'urgent'"),
    ("priority", {}, "must be 'low', 'medium', 'high' or 'urgent'"),
    ("priority", [], "must be 'low', 'medium', 'high' or 'urgent'"),
    *[
        (
            "due_date",
            value,
            "must be a day such as 2026-12-24 or a time such as 2026-12-24T09:30:00+01:00",
        )
        for value in [
            "soon",
            "2026-02-29",
            "2026-13-01",
            "0000-01-01",
            "10000-01-01",
            "9999-12-31T23:59:59.999999Z",
            "infinity",
            "20261224",
            "2026-W52-4",
            "2026-12-24T24:01",
            "2026-12-24T09:30:60Z",
            "2026-12-24T09:30+25:00",
            "2026-12-24T09:30+2500",
            "2026-12-24T09:30+1",
            "2026-12-24T09:30:00 +0100",
            "2026-12-24T09:30:00 01:00",
            "0001-01-01T00:30:00+01:00",
            "9999-12-31T23:59:59-01:00",
            "2026-12-24\n",
            "٢٠٢٦-12-24",
            1798070400,
            True,
            ["2026-12-24"],
        ]
    ],
    ("tags", 7, "must be a valid list"),
    ("tags", {"home": 1}, "must be a valid list"),
    ("tags", [str(number) for number in range(21)], "must have at most 20 tags"),
]
WRONG_TAGS = [("", "1 to 50"), (" ", "1 to 50"), ("x" * 51, "1 to 50"), ("a,b", "comma")]


def answered(api: httpx.Client, user: str, method: str, body: dict[str, object]) -> httpx.Response:
    """Send fields in a create, or in a change of a task that already has other values."""
    if method == "POST":
        return api.post(tasks_path(user), json={"title": "Buy milk"} | body)
    task = create(
        api, user, completed=False, priority="urgent", due_date="2030-01-01", tags=["old"]
    )
    return api.request(method, task_path(task), json=body)


def fields(task: Task) -> dict[str, Any]:
    return {name: task[name] for name in UNSET}


every_method = pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])


@every_method
@sent_and_read
def test_the_service_keeps_a_field_unchanged(
    api: httpx.Client, user: str, method: str, field: str, sent: object, read: object
) -> None:
    response = answered(api, user, method, {field: sent})

    assert response.is_success, response.text
    task = response.json()
    assert task[field] == read
    assert api.get(task_path(task)).json() == task
    assert listed(api, user) == [task]


@every_method
@pytest.mark.parametrize(("field", "sent", "message"), WRONG)
def test_a_wrong_value_is_refused(
    api: httpx.Client, user: str, method: str, field: str, sent: object, message: str
) -> None:
    response = answered(api, user, method, {field: sent})

    assert_problem(response, 422, f"{field}: {message}")
    assert response.json()["errors"][0]["loc"] == ["body", field]


@every_method
@pytest.mark.parametrize(("tag", "message"), WRONG_TAGS)
def test_a_wrong_tag_is_named_by_its_place(
    api: httpx.Client, user: str, method: str, tag: str, message: str
) -> None:
    response = answered(api, user, method, {"tags": ["home", tag]})

    assert_problem(response, 422)
    [error] = response.json()["errors"]
    assert error["loc"] == ["body", "tags", 1]
    assert message in error["msg"]


def test_a_task_without_these_fields_has_the_defaults(api: httpx.Client, user: str) -> None:
    assert fields(create(api, user)) == UNSET


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_fields_that_are_not_sent_stay(api: httpx.Client, user: str, method: str) -> None:
    task = create(api, user, completed=True, priority="low", due_date="2030-01-01", tags=["old"])

    changed = api.request(method, task_path(task), json={"title": "Buy bread"}).json()

    assert fields(changed) == fields(task)


def test_a_toggle_leaves_the_other_fields(api: httpx.Client, user: str) -> None:
    task = create(api, user, priority="low", due_date="2030-01-01", tags=["old"])

    toggled = api.patch(f"{task_path(task)}/complete").json()

    assert fields(toggled) == fields(task) | {"completed": True}


@pytest.mark.parametrize("zone", ["-12:00", "-08:00", "+00:00", "+05:30", "+14:00"])
def test_a_day_comes_back_unchanged(api: httpx.Client, user: str, zone: str) -> None:
    """The first ten characters of an answer are the day, wherever the client is."""
    task = create(api, user, due_date="2026-12-24")
    again = create(api, user, due_date=task["due_date"].replace("+00:00", "Z"))

    assert task["due_date"][:10] == again["due_date"][:10] == "2026-12-24"
    assert create(api, user, due_date=f"2026-12-24T00:00:00{zone}")["due_date"].endswith("+00:00")


@pytest.mark.parametrize(
    "other", [{}, {"priority": "low"}, {"tags": ["b", "a"]}, {"due_date": "2026-12-25"}]
)
def test_a_key_that_came_with_other_fields_is_refused(
    api: httpx.Client, user: str, other: dict[str, object]
) -> None:
    body = {"title": "Buy milk", "priority": "high", "tags": ["a", "b"], "due_date": "2026-12-24"}
    headers = {"Idempotency-Key": "milk"}
    first = api.post(tasks_path(user), json=body, headers=headers)
    same = api.post(
        tasks_path(user),
        json=body
        | {"priority": "HIGH", "tags": [" a", "b", "b"], "due_date": "2026-12-24T00:00Z"}
        | {"all_day": True},
        headers=headers,
    )

    refused = api.post(tasks_path(user), json={"title": "Buy milk"} | other, headers=headers)

    assert same.content == first.content
    assert_problem(refused, 422, "Idempotency-Key: was used for another request; send a new key")


def test_an_etag_covers_every_field(api: httpx.Client, user: str) -> None:
    task = create(api, user)
    before = api.get(task_path(task)).headers["etag"]
    api.patch(task_path(task), json={"tags": ["new"]})

    stale = api.patch(task_path(task), json={"priority": "low"}, headers={"If-Match": before})
    now = api.get(task_path(task)).headers["etag"]
    current = api.patch(task_path(task), json={"priority": "low"}, headers={"If-Match": now})

    assert (stale.status_code, current.status_code) == (412, 200)


TEXT = st.text(st.characters(exclude_characters="\0,", exclude_categories=["Cs"]))


@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(tags=st.lists(TEXT.filter(lambda tag: 0 < len(tag.strip()) <= 50), max_size=20))
def test_any_tags_are_trimmed_and_without_repeats(
    api: httpx.Client, user: str, tags: list[str]
) -> None:
    assert create(api, user, tags=tags)["tags"] == [*dict.fromkeys(tag.strip() for tag in tags)]


def test_schema_and_table_have_the_same_priorities() -> None:
    assert get_args(Priority) == PRIORITIES
