"""`GET /api/{user_id}/tasks/changes`: all changes since a token, with no change left out."""

from base64 import urlsafe_b64encode
from typing import Any
from uuid import uuid4

import httpx
import pytest

from src.schemas.changes import read_position
from tests.tasks import (
    Task,
    assert_problem,
    create,
    task_path,
    tasks_path,
)

Answer = dict[str, Any]


def changes_path(user: str) -> str:
    return f"{tasks_path(user)}/changes"


def changes(api: httpx.Client, user: str, since: str | None = None, **asked: object) -> Answer:
    parameters = asked | ({"since": since} if since else {})
    response = api.get(changes_path(user), params=parameters)  # type: ignore[arg-type]  # str and int
    assert response.status_code == 200, response.text
    answer: Answer = response.json()
    assert list(answer) == ["changes", "next", "more"]
    return answer


def token(api: httpx.Client, user: str) -> str:
    now: str = changes(api, user)["next"]
    return now


def deleted(task: Task) -> Answer:
    return {"id": task["id"], "deleted": True}


def test_a_request_without_a_token_gets_a_token_for_later_changes(
    api: httpx.Client, user: str
) -> None:
    create(api, user)

    now = changes(api, user)

    assert now["changes"] == []
    assert now["more"] is False
    assert changes(api, user, now["next"]) == now


def test_the_feed_has_each_changed_task_once_in_the_order_of_last_changes(
    api: httpx.Client, user: str
) -> None:
    kept = create(api, user)
    since = token(api, user)
    first, second, third = (create(api, user, title=title) for title in "abc")
    updated = api.patch(task_path(first), json={"title": "z"}).json()
    toggled = api.patch(f"{task_path(kept)}/complete").json()
    api.delete(task_path(second))

    answer = changes(api, user, since)

    assert answer["changes"] == [third, updated, toggled, deleted(second)]
    assert answer["more"] is False
    assert changes(api, user, answer["next"])["changes"] == []


def test_the_feed_and_the_path_of_a_task_answer_the_same_json_of_the_task(
    api: httpx.Client, user: str
) -> None:
    since = token(api, user)
    task = create(api, user, priority="high", due_date="2026-12-24", tags=["home"])

    response = api.get(changes_path(user), params={"since": since})

    assert api.get(task_path(task)).text in response.text


def test_a_request_that_changes_no_task_adds_no_change(api: httpx.Client, user: str) -> None:
    task = create(api, user)
    since = token(api, user)

    api.get(task_path(task))
    api.put(task_path(task), json={})
    api.delete(f"{tasks_path(user)}/{uuid4()}")
    api.put(task_path(task), json={"title": "Other"}, headers={"If-Match": '"another"'})

    assert changes(api, user, since)["next"] == since


def test_a_create_that_is_repeated_with_its_key_is_one_change(api: httpx.Client, user: str) -> None:
    since = token(api, user)
    for _ in range(3):
        api.post(tasks_path(user), json={"title": "a"}, headers={"Idempotency-Key": "k"})

    [change] = changes(api, user, since)["changes"]

    assert change["title"] == "a"


def test_the_feed_has_no_changes_of_other_users(api: httpx.Client, user: str) -> None:
    since = token(api, user)
    other = create(api, f"{user}-other")
    task = create(api, user)
    api.patch(task_path(other), json={"title": "b"})

    assert changes(api, user, since)["changes"] == [task]


def followed(api: httpx.Client, user: str, since: str, limit: int) -> list[Answer]:
    """Follow the feed by its links."""
    pages = []
    response = api.get(changes_path(user), params={"since": since, "limit": limit})
    while True:
        page = response.json()
        pages.append(page)
        link = response.links.get("next")
        assert (link is not None) is page["more"]
        if link is None:
            return pages
        response = api.get(link["url"])


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 1000])
def test_pages_have_each_changed_task_once(api: httpx.Client, user: str, limit: int) -> None:
    since = token(api, user)
    tasks = [create(api, user, title=f"{number}") for number in range(7)]
    again = [api.patch(task_path(task), json={"title": "b"}).json() for task in tasks[:3]]

    pages = followed(api, user, since, limit)

    assert [change for page in pages for change in page["changes"]] == tasks[3:] + again
    assert all(0 < len(page["changes"]) <= limit for page in pages)


@pytest.mark.parametrize("limit", ["0", "1001", "-1", "x", "1.5"])
def test_a_wrong_limit_is_422(api: httpx.Client, user: str, limit: str) -> None:
    response = api.get(changes_path(user), params={"limit": limit})

    assert_problem(response, 422, "limit: must be a whole number from 1 to 1000")


def encoded(text: str) -> str:
    return urlsafe_b64encode(text.encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "wrong",
    [
        "x",
        "ä",
        "====",
        "W10",
        encoded("[]"),
        encoded("[1]"),
        encoded("[1,2,3]"),
        encoded("[1.0,2]"),
        encoded('["1",2]'),
        encoded("[true,2]"),
        encoded("[-1,2]"),
        encoded("[1,-2]"),
        encoded("[1, 2]"),
        encoded(f"[{2**63},2]"),
        encoded(f"[1,{2**63}]"),
        encoded("[1,2]") + "=",
        encoded("[1,2]") + "\n",
        encoded("null"),
        encoded("[" * 5000),
    ],
)
def test_a_text_that_is_no_token_is_422(api: httpx.Client, user: str, wrong: str) -> None:
    response = api.get(changes_path(user), params={"since": wrong})

    assert_problem(response, 422, "since: must be the `next` of an earlier answer")
    assert [error["type"] for error in response.json()["errors"]] == ["token"]


def test_an_empty_token_counts_as_absent(api: httpx.Client, user: str) -> None:
    assert api.get(f"{changes_path(user)}?since=").json() == changes(api, user)


def assert_gone(response: httpx.Response, user: str) -> None:
    assert_problem(
        response,
        410,
        "The service no longer has the changes since this token; get a new token, then the list",
    )
    assert response.links["collection"]["url"] == tasks_path(user)


@pytest.mark.parametrize("position", ["[1,1]", "[0,1]", f"[{2**63 - 1},253402300799999999]"])
def test_an_unknown_token_is_410(api: httpx.Client, user: str, position: str) -> None:
    create(api, user)

    assert_gone(api.get(changes_path(user), params={"since": encoded(position)}), user)


def test_no_number_in_a_token_is_too_large(api: httpx.Client, user: str) -> None:
    epoch = read_position(token(api, user)).at  # of a feed without changes

    for number in (2**63 - 1, 2**63 - 2):
        position = encoded(f"[{number},{epoch}]")
        assert_gone(api.get(changes_path(user), params={"since": position}), user)


def test_a_410_leads_to_the_list_also_when_the_path_ends_with_a_slash(
    api: httpx.Client, user: str
) -> None:
    create(api, user)

    assert_gone(api.get(f"{changes_path(user)}/", params={"since": encoded("[1,1]")}), user)


def test_a_token_of_another_user_is_410(api: httpx.Client, user: str) -> None:
    other = f"{user}-other"
    create(api, other)
    create(api, user)

    assert_gone(api.get(changes_path(user), params={"since": token(api, other)}), user)


def test_an_answer_that_the_client_has_is_304(api: httpx.Client, user: str) -> None:
    create(api, user)
    since = token(api, user)
    first = api.get(changes_path(user), params={"since": since})
    condition = {"If-None-Match": first.headers["etag"]}

    same = api.get(changes_path(user), params={"since": since}, headers=condition)
    create(api, user)
    other = api.get(changes_path(user), params={"since": since}, headers=condition)

    assert same.status_code == 304
    assert same.content == b""
    assert other.status_code == 200


def test_another_method_is_405(api: httpx.Client, user: str) -> None:
    response = api.post(changes_path(user), json={})

    assert_problem(response, 405)
    assert response.headers["allow"] == "GET, HEAD, OPTIONS"


@pytest.mark.parametrize("title", ['"', "\\", "a\u2028b", "🥛", "\x7f", "null"])
def test_any_text_comes_through(api: httpx.Client, user: str, title: str) -> None:
    since = token(api, user)
    task = create(api, user, title=title)

    assert changes(api, user, since)["changes"] == [task]


def test_a_user_of_any_name_has_a_feed(api: httpx.Client, user: str) -> None:
    name = f"{user}/%ä\n'"
    since = token(api, name)
    task = create(api, name)

    assert changes(api, name, since)["changes"] == [task]
    assert_gone(api.get(changes_path(name), params={"since": encoded("[9,9]")}), name)


def test_a_feed_of_large_tasks_comes_through(api: httpx.Client, user: str) -> None:
    since = token(api, user)
    tasks = [create(api, user, description="ß" * 5000) for _ in range(120)]

    assert changes(api, user, since)["changes"] == tasks
