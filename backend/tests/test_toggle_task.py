from datetime import datetime

import httpx

from tests.tasks import assert_problem, create, listed, task_path, tasks_path, unknown_path


def test_a_toggle_completes_a_task_and_another_opens_it_again(api: httpx.Client, user: str) -> None:
    task = create(api, user)

    first = api.patch(f"{task_path(task)}/complete")
    second = api.patch(f"{task_path(task)}/complete")

    assert [first.status_code, second.status_code] == [200, 200]
    assert first.json() == task | {"completed": True, "updated_at": first.json()["updated_at"]}
    assert second.json() == task | {"updated_at": second.json()["updated_at"]}
    times = [task["updated_at"], first.json()["updated_at"], second.json()["updated_at"]]
    assert times == sorted(set(times), key=datetime.fromisoformat)
    assert listed(api, user) == [second.json()]


def test_a_json_content_type_with_no_body_is_fine(api: httpx.Client, user: str) -> None:
    task = create(api, user)

    response = api.patch(
        f"{task_path(task)}/complete", headers={"Content-Type": "application/json"}
    )

    assert response.status_code == 200
    assert response.json()["completed"] is True


def test_a_task_that_is_not_there_is_not_found(api: httpx.Client, user: str) -> None:
    assert_problem(api.patch(f"{unknown_path(user)}/complete"), 404, "Task not found")


def test_someone_elses_task_is_not_found_and_stays(api: httpx.Client, user: str) -> None:
    theirs = create(api, f"{user}-other")

    response = api.patch(f"{task_path(theirs | {'user_id': user})}/complete")

    assert_problem(response, 404, "Task not found")
    assert listed(api, f"{user}-other") == [theirs]


def test_an_id_that_is_no_uuid_is_refused(api: httpx.Client, user: str) -> None:
    assert_problem(api.patch(f"{tasks_path(user)}/7/complete"), 422)
