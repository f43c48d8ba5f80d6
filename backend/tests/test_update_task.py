import httpx
import pytest

from tests.tasks import (
    CHANGES,
    assert_problem,
    create,
    listed,
    task_after,
    task_path,
    tasks_path,
    unknown_path,
    updated_at,
)


@pytest.mark.parametrize("changes", CHANGES)
def test_a_change_sets_only_the_fields_that_it_names(
    api: httpx.Client, user: str, changes: dict[str, object]
) -> None:
    task = create(api, user, description="Two litres")

    response = api.put(task_path(task), json=changes)

    assert response.status_code == 200
    updated = response.json()
    assert updated == task_after(task, changes, updated)
    assert updated_at(updated) > updated_at(task)
    assert listed(api, user) == [updated]


def test_an_empty_update_changes_nothing(api: httpx.Client, user: str) -> None:
    task = create(api, user)

    response = api.put(task_path(task), json={})

    assert response.status_code == 200
    assert response.json() == task


def test_read_only_fields_are_ignored(api: httpx.Client, user: str) -> None:
    task = create(api, user)

    response = api.put(task_path(task), json={"id": "x", "user_id": "x", "updated_at": 0})

    assert response.status_code == 200
    assert response.json() == task


def test_a_client_may_send_a_task_back_unchanged(api: httpx.Client, user: str) -> None:
    task = create(api, user)

    response = api.put(task_path(task), json=task)

    assert response.status_code == 200
    assert response.json() == task | {"updated_at": response.json()["updated_at"]}


def test_an_update_touches_no_other_task(api: httpx.Client, user: str) -> None:
    task, other = create(api, user), create(api, user)

    updated = api.put(task_path(task), json={"title": "Buy bread"}).json()

    assert listed(api, user) == [updated, other]


@pytest.mark.parametrize("changes", [{}, {"title": "Buy bread"}])
def test_a_missing_task_is_404(api: httpx.Client, user: str, changes: dict[str, object]) -> None:
    assert_problem(api.put(unknown_path(user), json=changes), 404, "Task not found")


@pytest.mark.parametrize("changes", [{}, {"title": "Stolen"}])
def test_another_users_task_is_404_and_stays(
    api: httpx.Client, user: str, changes: dict[str, object]
) -> None:
    theirs = create(api, f"{user}-other")

    response = api.put(task_path(theirs | {"user_id": user}), json=changes)

    assert_problem(response, 404, "Task not found")
    assert listed(api, f"{user}-other") == [theirs]


@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        ({"title": None}, "title: must be a string"),
        ({"title": "\u3000"}, "title: must have 1 to 500 characters"),
        ({"title": "t" * 501}, "title: must have 1 to 500 characters"),
        ({"completed": None}, "completed: must be true or false"),
        ({"completed": "true"}, "completed: must be true or false"),
        ({"completed": 1}, "completed: must be true or false"),
        ({"description": "d" * 5001}, "description: must have 0 to 5000 characters"),
    ],
)
def test_a_wrong_field_is_named_and_changes_nothing(
    api: httpx.Client, user: str, changes: dict[str, object], detail: str
) -> None:
    task = create(api, user)

    response = api.put(task_path(task), json=changes)

    assert_problem(response, 422, detail)
    assert listed(api, user) == [task]


def test_an_id_that_is_not_a_uuid_is_refused(api: httpx.Client, user: str) -> None:
    assert_problem(api.put(f"{tasks_path(user)}/7", json={}), 422)
