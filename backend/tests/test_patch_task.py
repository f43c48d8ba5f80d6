"""Merge patches (RFC 7396), and PATCH itself (RFC 5789)."""

import json

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

MERGE_PATCH = "application/merge-patch+json"


def patch(
    api: httpx.Client, path: str, changes: object, content_type: str = MERGE_PATCH
) -> httpx.Response:
    return api.patch(path, content=json.dumps(changes), headers={"Content-Type": content_type})


@pytest.mark.parametrize("content_type", [MERGE_PATCH, "application/json"])
@pytest.mark.parametrize("changes", CHANGES)
def test_a_change_sets_only_the_fields_that_it_names(
    api: httpx.Client, user: str, changes: dict[str, object], content_type: str
) -> None:
    task = create(api, user, description="Two litres")

    response = patch(api, task_path(task), changes, content_type)

    assert response.status_code == 200
    patched = response.json()
    assert patched == task_after(task, changes, patched)
    assert updated_at(patched) > updated_at(task)
    assert listed(api, user) == [patched]


@pytest.mark.parametrize(
    "content_type",
    [f"{MERGE_PATCH}; charset=utf-8", "APPLICATION/MERGE-PATCH+JSON", "application/json ; a=b"],
)
def test_either_media_type_may_have_case_and_parameters(
    api: httpx.Client, user: str, content_type: str
) -> None:
    task = create(api, user)

    assert patch(api, task_path(task), {"completed": True}, content_type).status_code == 200


def test_null_clears_a_description(api: httpx.Client, user: str) -> None:
    task = create(api, user, description="Two litres")

    assert patch(api, task_path(task), {"description": None}).json()["description"] is None


def test_an_empty_patch_changes_nothing(api: httpx.Client, user: str) -> None:
    task = create(api, user)

    response = patch(api, task_path(task), {})

    assert response.status_code == 200
    assert response.json() == task


def test_a_repeated_patch_changes_nothing_more(api: httpx.Client, user: str) -> None:
    task = create(api, user)

    first, second = [patch(api, task_path(task), {"completed": True}).json() for _ in range(2)]

    assert second == first | {"updated_at": second["updated_at"]}


def test_a_title_is_trimmed(api: httpx.Client, user: str) -> None:
    task = create(api, user)

    assert patch(api, task_path(task), {"title": "\u3000Buy bread\n"}).json()["title"] == (
        "Buy bread"
    )


def test_read_only_fields_are_ignored(api: httpx.Client, user: str) -> None:
    task = create(api, user)

    response = patch(api, task_path(task), {"id": None, "user_id": "x", "updated_at": 0})

    assert response.status_code == 200
    assert response.json() == task


def test_a_client_may_send_a_task_back_unchanged(api: httpx.Client, user: str) -> None:
    task = create(api, user)

    response = patch(api, task_path(task), task)

    assert response.status_code == 200
    assert response.json() == task | {"updated_at": response.json()["updated_at"]}


def test_a_patch_touches_no_other_task(api: httpx.Client, user: str) -> None:
    task, other = create(api, user), create(api, user)

    patched = patch(api, task_path(task), {"title": "Buy bread"}).json()

    assert listed(api, user) == [patched, other]


@pytest.mark.parametrize("changes", [{}, {"title": "Buy bread"}])
def test_a_missing_task_is_404(api: httpx.Client, user: str, changes: dict[str, object]) -> None:
    assert_problem(patch(api, unknown_path(user), changes), 404, "Task not found")
    assert listed(api, user) == []


@pytest.mark.parametrize("changes", [{}, {"title": "Stolen"}, {"user_id": "thief"}])
def test_another_users_task_is_404_and_stays(
    api: httpx.Client, user: str, changes: dict[str, object]
) -> None:
    theirs = create(api, f"{user}-other")

    response = patch(api, task_path(theirs | {"user_id": user}), changes)

    assert_problem(response, 404, "Task not found")
    assert listed(api, f"{user}-other") == [theirs]


@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        ({"title": None}, "title: must be a string"),
        ({"title": ["Buy bread"]}, "title: must be a string"),
        ({"title": "\u3000"}, "title: must have 1 to 500 characters"),
        ({"title": "t" * 501}, "title: must have 1 to 500 characters"),
        ({"title": "a\0b"}, "title: must not contain the NUL character"),
        ({"completed": None}, "completed: must be true or false"),
        ({"completed": "true"}, "completed: must be true or false"),
        ({"completed": 1}, "completed: must be true or false"),
        ({"description": {"a": 1}}, "description: must be a string"),
        ({"description": "d" * 5001}, "description: must have 0 to 5000 characters"),
        ({"title": "good", "completed": 0}, "completed: must be true or false"),
    ],
)
def test_a_wrong_field_is_named_and_changes_nothing(
    api: httpx.Client, user: str, changes: dict[str, object], detail: str
) -> None:
    task = create(api, user)

    response = patch(api, task_path(task), changes)

    assert_problem(response, 422, detail)
    assert listed(api, user) == [task]


@pytest.mark.parametrize("body", ["null", "[]", '[{"op": "remove"}]', '"title"', "7", "", " ", "{"])
def test_a_patch_that_is_not_an_object_is_refused(api: httpx.Client, user: str, body: str) -> None:
    task = create(api, user)

    response = api.patch(task_path(task), content=body, headers={"Content-Type": MERGE_PATCH})

    assert_problem(response, 422)
    assert listed(api, user) == [task]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/json-patch+json"},
        {"Content-Type": "application/ld+json"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "nonsense"},
    ],
)
@pytest.mark.parametrize("end", ["", "/complete"])
def test_any_other_media_type_is_415_with_accept_patch(
    api: httpx.Client, user: str, headers: dict[str, str], end: str
) -> None:
    task = create(api, user)

    response = api.patch(task_path(task) + end, content=b'{"completed": true}', headers=headers)

    assert_problem(response, 415)
    assert response.headers["accept-patch"] == f"application/json, {MERGE_PATCH}"
    assert listed(api, user) == [task]


def test_only_patch_has_accept_patch(api: httpx.Client, user: str) -> None:
    response = api.put(task_path(create(api, user)), content=b"{}")

    assert_problem(response, 415)
    assert "accept-patch" not in response.headers


def test_an_id_that_is_not_a_uuid_is_refused(api: httpx.Client, user: str) -> None:
    assert_problem(patch(api, f"{tasks_path(user)}/7", {}), 422, "task_id: must be a UUID")
