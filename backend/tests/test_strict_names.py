"""With `Prefer: handling=strict` (RFC 7240 §4.4), the service ignores no name."""

import httpx
import pytest

from tests.tasks import assert_problem, create, listed, task_path, tasks_path

STRICT = {"Prefer": "handling=strict"}
KNOWN = "title, description, completed, priority, tags, all_day, completed_at, due_date, created_at"


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("compleated=true", "compleated: is unknown; did you mean completed?"),
        ("lymit=1", "lymit: is unknown; did you mean limit?"),
        ("LYMIT=1", "LYMIT: is unknown; did you mean limit?"),
        ("limit=1&serach=milk&limit=2", "serach: is unknown"),
        ("=1", "query: is unknown"),
        ("%F0%9F%98%80=1&sort=title", "😀: is unknown"),
        ("a=1&b=2", "a: is unknown"),
    ],
)
def test_an_unknown_name_in_a_query_is_refused(
    api: httpx.Client, user: str, query: str, sentence: str
) -> None:
    path = f"{tasks_path(user)}?{query}"

    assert api.get(path).status_code == 200
    refused = api.get(path, headers=STRICT)

    assert_problem(refused, 422)
    assert refused.json()["detail"].startswith(sentence)


@pytest.mark.parametrize(
    ("body", "errors"),
    [
        ({"Duedat": "2026-12-24"}, {"Duedat": "; did you mean due_date?"}),
        (
            {"prio": "high", "tagz": 1},
            {"prio": "; did you mean priority?", "tagz": "; did you mean tags?"},
        ),
        ({"user": "bob"}, {"user": f"; known names are {KNOWN}"}),
        ({"x" * 5000: 1}, {"x" * 100: f"; known names are {KNOWN}"}),
        ({"further": {}, "id": 1}, dict.fromkeys(["further", "id"], f"; known names are {KNOWN}")),
    ],
)
def test_an_unknown_name_in_a_body_is_refused_and_nothing_is_written(
    api: httpx.Client, user: str, body: dict[str, object], errors: dict[str, str]
) -> None:
    refused = api.post(tasks_path(user), json={"title": "Buy milk"} | body, headers=STRICT)

    assert_problem(refused, 422)
    assert refused.json()["errors"] == [
        {"loc": ["body", name], "msg": f"is unknown{hint}", "type": "unknown_name"}
        for name, hint in errors.items()
    ]
    assert listed(api, user) == []


def test_a_batch_names_the_place_of_each_unknown_name(api: httpx.Client, user: str) -> None:
    task = create(api, user)
    operations = [
        {"op": "create", "task": {"title": "Buy milk", "titel": "Buy bread"}, "tasks": {}},
        {"op": "delete", "id": task["id"], "ifmatch": "*"},
    ]

    refused = api.post(f"{tasks_path(user)}/batch", json={"operations": operations}, headers=STRICT)

    assert_problem(
        refused,
        422,
        "operations.0.task.titel: is unknown; did you mean title?; "
        "operations.0.tasks: is unknown; did you mean task?; "
        "operations.1.ifmatch: is unknown; did you mean if_match?",
    )
    assert listed(api, user) == [task]


def test_a_request_that_takes_no_parameters_refuses_every_parameter(
    api: httpx.Client, user: str
) -> None:
    task = create(api, user)

    assert_problem(
        api.delete(task_path(task), params={"force": "1"}, headers=STRICT),
        422,
        "force: is unknown",
    )
    assert listed(api, user) == [task]


def test_probes_refuse_every_parameter(api: httpx.Client) -> None:
    for path in ["/health/live", "/health/ready"]:
        assert api.get(f"{path}?a=1").status_code == 200
        assert_problem(api.get(f"{path}?a=1", headers=STRICT), 422, "a: is unknown")


@pytest.mark.parametrize("prefer", ["handling=strict", 'return=minimal, Handling="Strict";a=1'])
def test_the_answer_to_known_names_says_that_the_service_checked_the_names(
    api: httpx.Client, user: str, prefer: str
) -> None:
    headers = {"Prefer": prefer}

    body = {"title": "Buy milk", "dueDate": "2026-12-24"}
    created = api.post(tasks_path(user), json=body, headers=headers)
    found = api.get(tasks_path(user), params={"limit": 1, "search": "milk"}, headers=headers)
    toggled = api.patch(f"{task_path(created.json())}/complete", headers=headers)

    assert [each.status_code for each in (created, found, toggled)] == [201, 200, 200]
    for answer in (created, found, toggled):
        assert answer.headers["Preference-Applied"] == "handling=strict"


@pytest.mark.parametrize("prefer", ["handling=lenient", "handling", "strict", ""])
def test_without_the_preference_unknown_names_are_ignored_and_members_kept(
    api: httpx.Client, user: str, prefer: str
) -> None:
    body = {"title": "Buy milk", "duedat": "2026-12-24"}

    answer = api.post(f"{tasks_path(user)}?a=1", json=body, headers={"Prefer": prefer})

    assert answer.status_code == 201
    assert answer.json()["duedat"] == "2026-12-24"
    assert "Preference-Applied" not in answer.headers


def test_the_answer_tells_the_first_20_of_many_unknown_names(api: httpx.Client, user: str) -> None:
    body = {"title": "Buy milk"} | {f"name {number}": 1 for number in range(9000)}

    refused = api.post(tasks_path(user), json=body, headers=STRICT)

    assert len(refused.json()["errors"]) == 20


@pytest.mark.parametrize(
    ("content", "status"), [(b"", 422), (b"{", 422), (b"null", 422), (b"[]", 422)]
)
def test_the_preference_changes_no_refusal_of_an_unreadable_body(
    api: httpx.Client, user: str, content: bytes, status: int
) -> None:
    headers = {"Content-Type": "application/json"}

    lenient, strict = (
        api.post(tasks_path(user), content=content, headers=headers | added)
        for added in ({}, STRICT)
    )

    assert strict.status_code == status
    assert strict.json() == lenient.json()
