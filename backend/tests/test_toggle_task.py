import asyncio
from datetime import datetime

import httpx
import pytest

from tests.serving import Server
from tests.tasks import (
    assert_problem,
    create,
    listed,
    task_after,
    task_path,
    tasks_path,
    unknown_path,
)


def test_a_toggle_completes_a_task_and_the_next_toggle_opens_the_task(
    api: httpx.Client, user: str
) -> None:
    task = create(api, user)

    first = api.patch(f"{task_path(task)}/complete")
    second = api.patch(f"{task_path(task)}/complete")

    assert [first.status_code, second.status_code] == [200, 200]
    assert first.json() == task_after(task, {"completed": True}, first.json())
    assert second.json() == task | {"updated_at": second.json()["updated_at"]}
    times = [task["updated_at"], first.json()["updated_at"], second.json()["updated_at"]]
    assert times == sorted(set(times), key=datetime.fromisoformat)
    assert listed(api, user) == [second.json()]


def test_a_json_content_type_without_a_body_toggles(api: httpx.Client, user: str) -> None:
    task = create(api, user)

    response = api.patch(
        f"{task_path(task)}/complete", headers={"Content-Type": "application/json"}
    )

    assert response.status_code == 200
    assert response.json()["completed"] is True


@pytest.mark.parametrize("completed", [True, False])
def test_completed_can_be_set_repeatedly(api: httpx.Client, user: str, completed: bool) -> None:
    task = create(api, user)
    body = {"completed": completed}

    answers = [api.patch(f"{task_path(task)}/complete", json=body) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert [answer.json()["completed"] for answer in answers] == [completed] * 3
    last = answers[-1].json()
    first = task_after(task, {"completed": completed}, answers[0].json())
    assert last == task_after(first, {"completed": completed}, last)
    assert listed(api, user) == [last]


def test_a_completed_task_can_be_set_to_open(api: httpx.Client, user: str) -> None:
    task = create(api, user)
    api.patch(f"{task_path(task)}/complete")

    response = api.patch(f"{task_path(task)}/complete", json={"completed": False})

    assert response.json()["completed"] is False


def test_a_merge_patch_sets_completed(api: httpx.Client, user: str) -> None:
    task = create(api, user)

    response = api.patch(
        f"{task_path(task)}/complete",
        content=b'{"completed": true}',
        headers={"Content-Type": "application/merge-patch+json"},
    )

    assert response.json()["completed"] is True


@pytest.mark.parametrize("content_type", ["application/json", "application/merge-patch+json"])
@pytest.mark.parametrize("body", ["", "null", "{}", " null\n", " { } "])
def test_a_body_without_content_toggles(
    api: httpx.Client, user: str, body: str, content_type: str
) -> None:
    """Some clients send null or an empty object if their caller wants no body."""
    path = f"{task_path(create(api, user))}/complete"
    headers = {"Content-Type": content_type}

    answers = [api.patch(path, content=body, headers=headers).json() for _ in range(2)]

    assert [answer["completed"] for answer in answers] == [True, False]


@pytest.mark.parametrize(
    "body",
    [
        {"finish": True},
        {"status": None},
        {"title": "Not here"},
        {"": None},
        {"data": {"completed": True}},
    ],
)
def test_a_body_without_completed_is_refused_and_changes_nothing(
    api: httpx.Client, user: str, body: dict[str, object]
) -> None:
    task = create(api, user)

    response = api.patch(f"{task_path(task)}/complete", json=body)

    message = 'is missing; send {"completed": true}, or send no body to toggle the task'
    assert_problem(response, 422, f"completed: {message}")
    assert response.json()["errors"] == [
        {"loc": ["body", "completed"], "msg": message, "type": "missing"}
    ]
    assert listed(api, user) == [task]


def test_unknown_members_beside_completed_are_ignored(api: httpx.Client, user: str) -> None:
    task = create(api, user)
    body = {"completed": True, "is_completed": False, "title": "Not here"}

    answer = api.patch(f"{task_path(task)}/complete", json=body).json()

    assert answer == task_after(task, {"completed": True}, answer)


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ([], "Send a JSON object as the body"),
        ("true", "Send a JSON object as the body"),
        (True, "Send a JSON object as the body"),
        ({"completed": None}, "completed: must be true or false"),
        ({"completed": "true"}, "completed: must be true or false"),
        ({"completed": 1}, "completed: must be true or false"),
    ],
)
def test_any_other_body_is_refused_and_changes_nothing(
    api: httpx.Client, user: str, body: object, detail: str
) -> None:
    task = create(api, user)

    response = api.patch(f"{task_path(task)}/complete", json=body)

    assert_problem(response, 422, detail)
    assert listed(api, user) == [task]


@pytest.mark.anyio
async def test_50_concurrent_sets_agree(server: Server, api: httpx.Client, user: str) -> None:
    path = f"{task_path(create(api, user))}/complete"

    async with server.async_client() as client:
        answers = await asyncio.gather(
            *(client.patch(path, json={"completed": True}) for _ in range(50))
        )

    assert {answer.status_code for answer in answers} == {200}
    assert {answer.json()["completed"] for answer in answers} == {True}


SET_OR_TOGGLED = pytest.mark.parametrize("body", [{}, {"completed": True}])


@SET_OR_TOGGLED
def test_a_missing_task_is_404(api: httpx.Client, user: str, body: dict[str, bool]) -> None:
    response = api.patch(f"{unknown_path(user)}/complete", json=body)

    assert_problem(response, 404, "Task not found")


@SET_OR_TOGGLED
def test_another_users_task_is_404_and_stays(
    api: httpx.Client, user: str, body: dict[str, bool]
) -> None:
    theirs = create(api, f"{user}-other")

    response = api.patch(f"{task_path(theirs | {'user_id': user})}/complete", json=body)

    assert_problem(response, 404, "Task not found")
    assert listed(api, f"{user}-other") == [theirs]


def test_an_id_that_is_not_a_uuid_is_refused(api: httpx.Client, user: str) -> None:
    assert_problem(api.patch(f"{tasks_path(user)}/7/complete"), 422)
