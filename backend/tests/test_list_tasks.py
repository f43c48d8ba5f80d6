import httpx

from tests.tasks import FIELDS, assert_problem, create, listed, tasks_path


def test_a_user_without_tasks_has_an_empty_list(api: httpx.Client, user: str) -> None:
    response = api.get(tasks_path(user))

    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.content == b"[]"


def test_a_list_has_the_users_tasks_oldest_first(api: httpx.Client, user: str) -> None:
    created = [create(api, user, title=f"Task {number}") for number in range(20)]

    assert listed(api, user) == created


def test_a_listed_task_has_every_field(api: httpx.Client, user: str) -> None:
    create(api, user)

    assert [list(task) for task in listed(api, user)] == [FIELDS]


def test_a_list_has_no_task_of_another_user(api: httpx.Client, user: str) -> None:
    mine = create(api, user)
    create(api, f"{user}-other")

    assert listed(api, user) == [mine]


def test_a_list_has_no_cap(api: httpx.Client, user: str) -> None:
    operations = [{"op": "create", "task": {"title": "Buy milk"}}] * 100
    for _ in range(11):
        answer = api.post(f"{tasks_path(user)}/batch", json={"operations": operations})
        assert answer.status_code == 200

    assert len(listed(api, user)) == 1100


def test_a_trailing_slash_makes_no_difference(api: httpx.Client, user: str) -> None:
    created = create(api, user)

    response = api.get(f"{tasks_path(user)}/")

    assert response.status_code == 200
    assert response.json() == [created]


def test_a_user_id_that_is_too_long_is_refused(api: httpx.Client) -> None:
    response = api.get(tasks_path("u" * 256))

    assert_problem(response, 422, "user_id: must have 1 to 255 characters")
