from datetime import datetime, timedelta
from uuid import UUID

import httpx
import pytest

from tests.tasks import FIELDS, assert_problem, listed, tasks_path


def test_a_created_task_is_returned_whole(api: httpx.Client, user: str) -> None:
    response = api.post(tasks_path(user), json={"title": "Buy milk", "description": "Two litres"})

    assert response.status_code == 201
    task = response.json()
    assert list(task) == FIELDS
    assert task["user_id"] == user
    assert task["title"] == "Buy milk"
    assert task["description"] == "Two litres"
    assert task["completed"] is False
    assert task["created_at"] == task["updated_at"]
    assert UUID(task["id"]).version == 7
    assert listed(api, user) == [task]


def test_times_have_an_offset(api: httpx.Client, user: str) -> None:
    task = api.post(tasks_path(user), json={"title": "Buy milk"}).json()

    assert datetime.fromisoformat(task["created_at"]).utcoffset() == timedelta(0)
    assert datetime.fromisoformat(task["updated_at"]).utcoffset() == timedelta(0)


def test_location_leads_to_the_task(api: httpx.Client, user: str) -> None:
    response = api.post(tasks_path(f"{user}/ä b%"), json={"title": "Buy milk"})

    assert api.get(response.headers["location"]).json() == response.json()


def test_a_title_is_trimmed(api: httpx.Client, user: str) -> None:
    response = api.post(tasks_path(user), json={"title": "\u3000 Buy milk\n"})

    assert response.json()["title"] == "Buy milk"


def test_a_description_may_be_absent_or_null_or_empty(api: httpx.Client, user: str) -> None:
    bodies: list[dict[str, str | None]] = [{}, {"description": None}, {"description": ""}]

    responses = [api.post(tasks_path(user), json={"title": "Buy milk", **body}) for body in bodies]

    assert [response.json()["description"] for response in responses] == [None, None, ""]


def test_read_only_fields_are_ignored(api: httpx.Client, user: str) -> None:
    sent = {
        "id": "mine",
        "user_id": "someone else",
        "title": "Buy milk",
        "updated_at": "yesterday",
    }

    response = api.post(tasks_path(user), json=sent)

    assert response.status_code == 201
    task = response.json()
    assert task["user_id"] == user
    assert task["updated_at"] == task["created_at"]


@pytest.mark.parametrize("length", [1, 500])
def test_a_title_may_have_1_to_500_characters_not_bytes(
    api: httpx.Client, user: str, length: int
) -> None:
    title = "😀" * length

    response = api.post(tasks_path(user), json={"title": title})

    assert response.status_code == 201
    assert response.json()["title"] == title


def test_a_title_is_measured_without_the_space_around_it(api: httpx.Client, user: str) -> None:
    response = api.post(tasks_path(user), json={"title": " " * 100 + "t" * 500})

    assert response.status_code == 201


def test_a_description_may_have_5000_characters(api: httpx.Client, user: str) -> None:
    response = api.post(tasks_path(user), json={"title": "Long", "description": "😀" * 5000})

    assert response.status_code == 201
    assert response.json()["description"] == "😀" * 5000


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({}, "title: is missing"),
        ({"title": None}, "title: must be a string"),
        ({"title": 7}, "title: must be a string"),
        ({"title": ["Buy milk"]}, "title: must be a string"),
        ({"title": ""}, "title: must have 1 to 500 characters"),
        ({"title": " \t\n"}, "title: must have 1 to 500 characters"),
        ({"title": "\u00a0\u2003\u3000"}, "title: must have 1 to 500 characters"),
        ({"title": "t" * 501}, "title: must have 1 to 500 characters"),
        ({"title": "a\0b"}, "title: must not contain the NUL character"),
        (
            {"title": "t", "description": "d" * 5001},
            "description: must have 0 to 5000 characters",
        ),
        ({"title": "t", "description": "\0"}, "description: must not contain the NUL character"),
        ({"title": "t", "description": 7}, "description: must be a string"),
    ],
)
def test_a_wrong_field_is_named(
    api: httpx.Client, user: str, body: dict[str, object], detail: str
) -> None:
    response = api.post(tasks_path(user), json=body)

    assert_problem(response, 422, detail)
    assert listed(api, user) == []


def test_every_wrong_field_is_named(api: httpx.Client, user: str) -> None:
    response = api.post(tasks_path(user), json={"title": "", "description": 7})

    assert_problem(
        response,
        422,
        "title: must have 1 to 500 characters; description: must be a string",
    )
    assert [error["loc"] for error in response.json()["errors"]] == [
        ["body", "title"],
        ["body", "description"],
    ]


def test_a_trailing_slash_is_allowed(api: httpx.Client, user: str) -> None:
    response = api.post(f"{tasks_path(user)}/", json={"title": "Buy milk"})

    assert response.status_code == 201
    assert listed(api, user) == [response.json()]
    assert "//" not in response.headers["location"]
