"""Input that PostgreSQL, UTF-8 or JSON cannot hold gets a clear 4xx; all other input is kept."""

from urllib.parse import quote

import httpx
import pytest

from tests.tasks import assert_problem, create, listed, task_path, tasks_path

JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    "user_id",
    [
        "ada@example.com",
        "Ada Lovelace",
        "😀" * 255,
        "7vLTcvzAbBJuT4iVLJYPYlUF6jEnTBbS",
        "a/b",
        "a//tasks/b/",
        "a%2Fb",
        "a%b",
        "100%",
        "?#&=+;",
        "ünï\u0308çødé",
        "\u200f\ufeff\u2028",
        "\t\n\x7f",
        " ",
        "'; DROP TABLE tasks; --",
        "NULL",
    ],
)
def test_a_user_id_may_be_any_text(api: httpx.Client, user: str, user_id: str) -> None:
    owner = (user + user_id)[-255:] if len(user_id) < 200 else user_id

    task = create(api, owner)

    assert task["user_id"] == owner
    assert task in listed(api, owner)
    assert api.get(task_path(task)).json() == task
    assert api.delete(task_path(task)).status_code == 200


def test_user_ids_that_look_alike_are_different_users(api: httpx.Client, user: str) -> None:
    for name in ["a/b", "a%2Fb", "a%2fb", "A/b", "a/b ", "e\u0301", "\u00e9"]:
        create(api, user + name, title=name)

    for name in ["a/b", "a%2Fb", "a%2fb", "A/b", "a/b ", "e\u0301", "\u00e9"]:
        assert [task["title"] for task in listed(api, user + name)] == [name.strip()]


def test_equivalent_escapes_name_the_same_user(api: httpx.Client, user: str) -> None:
    task = create(api, f"{user}/x")

    for escaped in [quote(user) + "%2Fx", quote(user) + "%2fx", quote(user) + "%2F%78"]:
        assert api.get(f"/api/{escaped}/tasks").json() == [task]


@pytest.mark.parametrize("escaped", ["%FF", "%ED%A0%80", "%C0%AF", "a%", "%zz", "%%32%46"])
def test_a_path_that_is_not_percent_encoded_utf_8_is_refused(
    api: httpx.Client, escaped: str
) -> None:
    response = api.get(httpx.URL(api.base_url, raw_path=f"/api/{escaped}/tasks".encode()))

    assert_problem(response, 400, "The path must be percent-encoded UTF-8")


def test_nul_in_a_path_is_refused(api: httpx.Client) -> None:
    response = api.get("/api/a%00b/tasks")

    assert_problem(response, 422, "user_id: must not contain the NUL character")


@pytest.mark.parametrize(
    "title", ["😀", "e\u0301", "\u202eabc", "\x01\x1b[31m", "\\u0000", "</script>", "a\u2028b", "﷽"]
)
def test_text_comes_back_unchanged(api: httpx.Client, user: str, title: str) -> None:
    task = create(api, user, title=title, description=title)

    assert (task["title"], task["description"]) == (title, title)
    assert listed(api, user) == [task]


@pytest.mark.parametrize(
    "body",
    [
        b'{"title": "\\u0000"}',
        b'{"title": "\\ud800"}',
        b'{"title": "ok", "description": "\\udfff"}',
        b'{"title": NaN}',
        b'{"title": "ok", "other": NaN}',
        b'{"title": "ok", "other": Infinity}',
        b'{"title": "ok", "other": -Infinity}',
        b'{"title": "ok"',
        b'{"title": "ok"}}',
        b'{"title": "ok",}',
        b"{'title': 'ok'}",
        b'{"title": "a\nb"}',
        b"\xff\xfe",
        b'{"title": "\xff"}',
        b'{"title": "\xed\xa0\x80"}',
        b'\xef\xbb\xbf\xef\xbb\xbf{"title": "ok"}',
        b"[" * 20_000,
        b"[" * 20_000 + b"]" * 20_000,
        b'{"title":' * 10_000,
        b'{"title": "ok", "other": ' + b"[" * 20_000 + b"]" * 20_000 + b"}",
        b'{"title": "ok", "other": ' + b"9" * 100_000 + b"}",
        b"",
        b" ",
        b"null",
        b"[]",
        b'"title"',
        b"7",
    ],
)
def test_a_body_that_is_not_a_json_object_is_refused(
    api: httpx.Client, user: str, body: bytes
) -> None:
    task = create(api, user)

    for response in [
        api.post(tasks_path(user), content=body, headers=JSON),
        api.put(task_path(task), content=body, headers=JSON),
    ]:
        assert_problem(response, 422)
    assert listed(api, user) == [task]


def test_the_last_of_repeated_json_members_counts(api: httpx.Client, user: str) -> None:
    body = b'{"title": "first", "title": "last"}'

    assert api.post(tasks_path(user), content=body, headers=JSON).json()["title"] == "last"


@pytest.mark.parametrize(
    "content_type",
    [
        "application/x-www-form-urlencoded",
        "text/plain",
        "multipart/form-data; boundary=x",
        "application/xml",
        "nonsense",
        "application/json-seq",
    ],
)
def test_a_body_without_a_json_content_type_is_415(
    api: httpx.Client, user: str, content_type: str
) -> None:
    response = api.post(
        tasks_path(user), content=b'{"title": "ok"}', headers={"Content-Type": content_type}
    )

    assert_problem(
        response, 415, "Send the body as JSON, with the header Content-Type: application/json"
    )


def test_the_first_of_two_content_types_counts(api: httpx.Client, user: str) -> None:
    types = [("Content-Type", "application/json"), ("Content-Type", "text/plain")]
    body = b'{"title": "ok"}'

    assert api.post(tasks_path(user), content=body, headers=types).status_code == 201
    assert api.post(tasks_path(user), content=body, headers=types[::-1]).status_code == 415


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "APPLICATION/JSON", "application/ld+json"]
)
def test_any_json_media_type_is_accepted(api: httpx.Client, user: str, content_type: str) -> None:
    response = api.post(
        tasks_path(user), content=b'{"title": "ok"}', headers={"Content-Type": content_type}
    )

    assert response.status_code == 201
