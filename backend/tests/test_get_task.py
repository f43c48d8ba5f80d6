import httpx

from tests.tasks import assert_problem, create, task_path, tasks_path, unknown_path


def test_a_read_returns_the_task_that_the_create_returned(api: httpx.Client, user: str) -> None:
    task = create(api, user)

    response = api.get(task_path(task))

    assert response.status_code == 200
    assert response.json() == task


def test_a_missing_task_is_404(api: httpx.Client, user: str) -> None:
    assert_problem(api.get(unknown_path(user)), 404, "Task not found")


def test_another_users_task_is_404_in_the_same_words(api: httpx.Client, user: str) -> None:
    theirs = create(api, f"{user}-other")

    foreign = api.get(task_path(theirs | {"user_id": user}))
    missing = api.get(unknown_path(user))

    assert_problem(foreign, 404, "Task not found")
    assert foreign.content == missing.content


def test_an_id_that_is_not_a_uuid_is_refused(api: httpx.Client, user: str) -> None:
    response = api.get(f"{tasks_path(user)}/7")

    assert_problem(response, 422, "task_id: must be a UUID")
    assert response.json()["errors"][0]["loc"] == ["path", "task_id"]
