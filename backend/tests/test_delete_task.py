import httpx

from tests.tasks import assert_problem, create, listed, task_path, tasks_path, unknown_path


def test_a_deleted_task_is_gone(api: httpx.Client, user: str) -> None:
    task, other = create(api, user), create(api, user)

    response = api.delete(task_path(task))

    assert response.status_code == 200
    assert response.json() == {"message": "Task deleted successfully"}
    assert_problem(api.get(task_path(task)), 404, "Task not found")
    assert listed(api, user) == [other]


def test_a_task_is_deleted_once(api: httpx.Client, user: str) -> None:
    task = create(api, user)
    api.delete(task_path(task))

    assert_problem(api.delete(task_path(task)), 404, "Task not found")


def test_a_missing_task_is_404(api: httpx.Client, user: str) -> None:
    assert_problem(api.delete(unknown_path(user)), 404, "Task not found")


def test_another_users_task_is_404_and_stays(api: httpx.Client, user: str) -> None:
    theirs = create(api, f"{user}-other")

    response = api.delete(task_path(theirs | {"user_id": user}))

    assert_problem(response, 404, "Task not found")
    assert listed(api, f"{user}-other") == [theirs]


def test_an_id_that_is_not_a_uuid_is_refused(api: httpx.Client, user: str) -> None:
    assert_problem(api.delete(f"{tasks_path(user)}/7"), 422)
