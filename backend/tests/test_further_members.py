"""Members that the service does not know are kept with their task, and answered as they came."""

import asyncio
import json
from collections.abc import Awaitable, Mapping
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from src.routers.problems import KEY_REUSED
from src.schemas.task import TaskCreate
from src.services import task_service
from src.services.batch_service import apply_batch
from tests.conftest import execute
from tests.tasks import (
    FIELDS,
    Task,
    assert_problem,
    create,
    listed,
    task_path,
    tasks_path,
    updated_at,
)

JSON = {"Content-Type": "application/json"}
WEEKLY = {"recurrence": {"every": "week"}}
TOO_MANY = "does not fit; a task may have at most 32 members beside its fields"
TOO_LONG = "does not fit; members beside a task's fields may have at most 16384 bytes in all"


def batch(api: httpx.Client, user: str, *operations: object, key: str = "") -> httpx.Response:
    headers = {"Idempotency-Key": key} if key else {}
    body = {"operations": operations}
    return api.post(f"{tasks_path(user)}/batch", json=body, headers=headers)


def further(task: Task) -> dict[str, Any]:
    return {name: value for name, value in task.items() if name not in FIELDS}


def changed(
    api: httpx.Client, task: Task, change: Mapping[str, object], way: str
) -> httpx.Response:
    """Change a task by PUT, by PATCH or in a batch."""
    if way == "batch":
        return batch(api, task["user_id"], {"op": "update", "id": task["id"], "task": change})
    return api.request(way, task_path(task), json=change)


def task_in(answer: httpx.Response) -> Task:
    assert answer.is_success, answer.text
    body: Any = answer.json()
    task: Task = body["results"][0]["task"] if "results" in body else body
    return task


def since_now(api: httpx.Client, user: str) -> str:
    token: str = api.get(f"{tasks_path(user)}/changes").json()["next"]
    return token


def test_every_answer_has_further_members_after_the_fields(api: httpx.Client, user: str) -> None:
    before = since_now(api, user)
    sent = {"recurrence": {"every": "week"}, "category": "home", "reminders": [15, 60]}
    created = create(api, user, **sent)

    assert further(created) == sent
    assert list(created)[: len(FIELDS)] == FIELDS
    answers = [
        api.get(task_path(created)).json(),
        *listed(api, user),
        *api.get(tasks_path(user), params={"limit": 1, "sort": "title"}).json(),
        *api.get(tasks_path(user), headers={"Prefer": "count=exact"}).json(),
        *api.get(f"{tasks_path(user)}/changes", params={"since": before}).json()["changes"],
    ]
    assert list(map(json.dumps, answers)) == [json.dumps(created)] * 5


def test_a_batch_keeps_and_answers_further_members(api: httpx.Client, user: str) -> None:
    task = create(api, user)

    results = batch(
        api,
        user,
        {"op": "create", "task": {"title": "Buy bread"} | WEEKLY},
        {"op": "update", "id": task["id"], "task": WEEKLY},
        key="key-1",
    ).json()["results"]

    assert [further(each["task"]) for each in results] == [WEEKLY, WEEKLY]
    assert [each["task"] for each in results] == sorted(
        listed(api, user), key=lambda it: it["title"]
    )
    for result in results:
        got = api.get(task_path(result["task"]))
        assert got.headers["etag"] == result["etag"]


@pytest.mark.parametrize("way", ["PUT", "PATCH", "batch"])
def test_absent_members_stay_and_null_removes_a_member(
    api: httpx.Client, user: str, way: str
) -> None:
    task = create(api, user, **WEEKLY, category="home")

    assert further(task_in(changed(api, task, {"title": "Other"}, way))) == WEEKLY | {
        "category": "home"
    }
    assert further(task_in(changed(api, task, {"category": None, "x": 1}, way))) == WEEKLY | {
        "x": 1
    }
    assert further(task_in(changed(api, task, {"recurrence": None, "x": None}, way))) == {}
    assert further(api.get(task_path(task)).json()) == {}
    assert further(task_in(changed(api, task, WEEKLY, way))) == WEEKLY


# The examples of RFC 7396, appendix A, whose target and patch are objects. Each example becomes a
# member.
MERGES: list[tuple[object, object, object]] = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    (["a", "b"], ["c", "d"], ["c", "d"]),
    ({"a": "b"}, ["c"], ["c"]),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ("text", {"a": {}}, {"a": {}}),
    (
        {"a": {"b": {"c": {"d": 1, "e": 2}}}},
        {"a": {"b": {"c": {"e": None}}}},
        {"a": {"b": {"c": {"d": 1}}}},
    ),
    ({"0": ["x"]}, {"0": {"0": "y"}}, {"0": {"0": "y"}}),
]


@pytest.mark.parametrize("way", ["PATCH", "batch"])
@pytest.mark.parametrize(("before", "change", "after"), MERGES)
def test_a_patch_merges_objects(
    api: httpx.Client, user: str, way: str, before: object, change: object, after: object
) -> None:
    task = create(api, user, it=before)

    assert further(task_in(changed(api, task, {"it": change}, way))) == {"it": after}
    assert further(listed(api, user)[0]) == {"it": after}


@pytest.mark.parametrize(("before", "change", "_after"), MERGES)
def test_a_put_replaces_the_members_that_it_sends(
    api: httpx.Client, user: str, before: object, change: object, _after: object
) -> None:
    task = create(api, user, it=before, other=before)

    assert further(task_in(changed(api, task, {"it": change}, "PUT"))) == {
        "it": change,
        "other": before,
    }


@pytest.mark.parametrize("way", ["PUT", "PATCH", "batch"])
def test_a_change_of_a_member_alone_is_a_change_of_the_task(
    api: httpx.Client, user: str, way: str
) -> None:
    task = create(api, user, **WEEKLY)
    etag = api.get(task_path(task)).headers["etag"]
    since = since_now(api, user)

    after = task_in(changed(api, task, {"recurrence": "daily"}, way))

    assert updated_at(after) > updated_at(task)
    now = api.get(task_path(task))
    assert now.headers["etag"] != etag
    assert api.get(task_path(task), headers={"If-None-Match": etag}).status_code == 200
    for stale in ({"recurrence": "x"}, {"title": "x"}):
        assert_problem(api.patch(task_path(task), json=stale, headers={"If-Match": etag}), 412)
    operation = {"op": "update", "id": task["id"], "if_match": etag, "task": WEEKLY}
    assert_problem(batch(api, user, operation), 412)
    fresh = {"If-Match": now.headers["etag"]}
    feed = api.get(f"{tasks_path(user)}/changes", params={"since": since}).json()["changes"]
    assert feed == [after]
    assert api.patch(task_path(task), json=WEEKLY, headers=fresh).status_code == 200
    assert_problem(api.delete(task_path(task), headers=fresh), 412)


@pytest.mark.parametrize("way", ["PUT", "PATCH", "batch"])
def test_a_change_of_a_member_to_the_same_value_moves_updated_at(
    api: httpx.Client, user: str, way: str
) -> None:
    task = create(api, user, **WEEKLY)

    same_field = task_in(changed(api, task, {"title": task["title"]}, way))
    same_member = task_in(changed(api, task, WEEKLY, way))
    absent = task_in(changed(api, task, {"other": None}, way))
    nothing = task_in(changed(api, task, {}, way))
    ignored = task_in(changed(api, task, {"id": "x", "createdAt": "x"}, way))

    assert updated_at(task) < updated_at(same_field) < updated_at(same_member) < updated_at(absent)
    assert nothing == ignored == absent
    assert absent == task | {"updated_at": absent["updated_at"]}


@pytest.mark.parametrize("kind", ["create", "batch"])
def test_a_key_covers_further_members_and_a_repeat_gets_the_first_answer(
    api: httpx.Client, user: str, kind: str
) -> None:
    def send(key: str, task: Mapping[str, object]) -> httpx.Response:
        if kind == "batch":
            return batch(api, user, {"op": "create", "task": task}, key=key)
        return api.post(tasks_path(user), json=task, headers={"Idempotency-Key": key})

    sent = {"title": "Buy milk", "recurrence": {"every": "week", "until": None}, "x": 10**30}
    first = send("key-1", sent)
    api.patch(task_path(task_in(first)), json={"recurrence": None, "y": 1})

    assert further(task_in(first)) == {name: sent[name] for name in ("recurrence", "x")}
    assert send("key-1", sent).content == first.content
    for other in ({"title": "Buy milk"}, sent | {"x": 1}, sent | {"y": 1}):
        assert_problem(send("key-1", other), 422, f"Idempotency-Key: {KEY_REUSED}")
    assert len(listed(api, user)) == 1


def test_a_repeated_batch_answers_the_merged_members_of_the_first_answer(
    api: httpx.Client, user: str
) -> None:
    task, other = create(api, user, it={"a": 1}), create(api, user, gone=1)
    operations = [
        {"op": "update", "id": task["id"], "task": {"it": {"b": 2}, "x": 1}},
        {"op": "update", "id": other["id"], "task": {"gone": None}},
    ]

    first = batch(api, user, *operations, key="key-1")
    api.put(task_path(task), json={"it": 5, "x": None})
    api.put(task_path(other), json={"gone": 5})

    assert [further(each["task"]) for each in first.json()["results"]] == [
        {"it": {"a": 1, "b": 2}, "x": 1},
        {},
    ]
    assert batch(api, user, *operations, key="key-1").content == first.content


TAKEN = dict.fromkeys(FIELDS) | {
    "userId": "x",
    "createdAt": None,
    "updated-at": "x",
    "status": "open",
    "dueDate": None,
    "labels": None,
    "is_done": None,
    "deleted": True,  # in the feed
}


@pytest.mark.parametrize("way", ["POST", "PUT", "PATCH", "batch"])
def test_a_name_that_the_service_answers_or_understands_is_never_kept(
    api: httpx.Client, user: str, way: str
) -> None:
    values = TAKEN | {"title": "Buy milk", "completed": False}
    task = create(api, user) if way != "POST" else create(api, user, **values)
    if way != "POST":
        task = task_in(changed(api, task, values, way))

    assert list(task) == FIELDS
    assert task["id"] is not None
    assert api.get(task_path(task)).json() == task


@pytest.mark.parametrize(
    "name", ["further", "_id", "order", "__proto__", "q", "a.b", "ü", " ", "$"]
)
def test_any_other_name_is_kept(api: httpx.Client, user: str, name: str) -> None:
    task = create(api, user, **{name: 1})

    assert further(task) == {name: 1}
    assert further(api.patch(task_path(task), json={name: [2]}).json()) == {name: [2]}
    assert further(api.put(task_path(task), json={name: None}).json()) == {}


def text_of(api: httpx.Client, user: str, value: str) -> str:
    """Send a member as this JSON, and return the JSON that comes back."""
    body = f'{{"title": "x", "it": {value}}}'
    created = api.post(tasks_path(user), content=body, headers=JSON)
    assert created.status_code == 201, created.text
    assert api.get(created.headers["location"]).content == created.content
    return created.text.partition('"it": ')[2][:-1]


@pytest.mark.parametrize(
    "value",
    [
        "true",
        "0",
        "-1",
        "12345678901234567890123",
        "-" + "9" * 4301,
        "9" * (16 * 1024 - len('{"it": }')),
        '[{"a": "1' + "0" * 5000 + '"}, -1' + "0" * 5000 + ", 12345678901234567890, 0.5]",
        "0.1",
        "[1, -2.5, []]",
        '{"a": {}}',
        '""',
        r'"\u0001\u001f\"\\\b\f\n\r\t"',
        '"\u2028 \U0001f600 \x7f"',
        '["_at\\":\\"2026-01-01T00:00:00+00:00\\""]',
        '{"due_at": "2026-01-01T00:00:00+00:00"}',
    ],
)
def test_a_value_comes_back_unchanged(api: httpx.Client, user: str, value: str) -> None:
    assert text_of(api, user, value) == value


@pytest.mark.parametrize(
    "value",
    [
        *("1e22", "1E5", "1E-7", "1.7976931348623157e308", "5e-324", "1e-400", "1.10", "-0.0"),
        *("1.0", "12345678901234567890.5", "0." + "3" * 5000, "1" + "0" * 5000 + "e-5000"),
    ],
)
def test_a_fraction_keeps_the_value_that_a_double_has(
    api: httpx.Client, user: str, value: str
) -> None:
    assert float(text_of(api, user, value)) == float(value)


NESTED: list[Any] = [[[[[[[[]]]]]]]]
IN_LIST = {f"m{number}": number for number in range(32)}
ABOUT_16_KIB = "x" * (16 * 1024 - len('{"it": ""}'))

BEYOND = [
    ({"it": [NESTED]}, "it: must have at most 8 levels"),
    ({"it": {"a": [{"b": NESTED}]}}, "it: must have at most 8 levels"),
    ({" " * 65: 1}, f"{' ' * 65}: a member's name must have 1 to 64 characters"),
    ({"n" * 65: 1}, f"{'n' * 65}: a member's name must have 1 to 64 characters"),
    ({"n" * 500: 1}, f"{'n' * 100}: a member's name must have 1 to 64 characters"),
    ({"it": "a\0b"}, "it: must not contain the NUL character"),
    ({"it": [{"a\0b": 1}]}, "it: must not contain the NUL character"),
    ({"a\0b": 1}, "a\0b: must not contain the NUL character"),
    ({"\0further": "{}"}, "\0further: must not contain the NUL character"),
]


@pytest.mark.parametrize("way", ["POST", "PUT", "PATCH", "batch"])
@pytest.mark.parametrize(("members", "sentence"), BEYOND)
def test_a_member_beyond_a_limit_is_422_and_the_answer_names_the_member(
    api: httpx.Client, user: str, way: str, members: dict[str, object], sentence: str
) -> None:
    task = create(api, user)
    if way == "POST":
        refused = api.post(tasks_path(user), json={"title": "x"} | members)
    else:
        refused = changed(api, task, members, way)

    place = "operations.0.task." if way == "batch" else ""
    assert_problem(refused, 422, place + sentence)
    assert listed(api, user) == [task]


@pytest.mark.parametrize("way", ["POST", "PUT", "PATCH", "batch"])
@pytest.mark.parametrize(
    ("there", "members", "named", "sentence"),
    [
        (IN_LIST, {"one": 1}, "one", TOO_MANY),
        (IN_LIST, {"m0": [1], "one": 1, "m1": 5}, "one", TOO_MANY),
        ({}, {"it": ABOUT_16_KIB + "x"}, "it", TOO_LONG),
        ({"it": ABOUT_16_KIB}, {"a": 1}, "it", TOO_LONG),
        ({"a": "x" * 9000}, {"b": 1, "c": "y" * 9500}, "c", TOO_LONG),
        ({}, {"it": "é" * 8192}, "it", TOO_LONG),
        ({}, {"it": [1e308] * 55}, "it", TOO_LONG),
        ({}, {"a": "x" * 9000, "b": [1e308] * 40}, "b", TOO_LONG),
    ],
)
def test_too_many_or_too_long_members_are_422_and_the_answer_names_a_member(
    api: httpx.Client,
    user: str,
    way: str,
    there: dict[str, object],
    members: dict[str, object],
    named: str,
    sentence: str,
    names_members: bool,
) -> None:
    """If a task has too many members, the error names the member that the change adds."""
    task = create(api, user, **there)
    if way == "POST":
        refused = api.post(tasks_path(user), json={"title": "x"} | there | members)
    else:
        refused = changed(api, task, members, way)
        named = named if named in members else next(iter(members))

    place = "operations.0.task." if way == "batch" else ""
    where = f"{place}{named}" if names_members or way == "POST" else "body"
    assert_problem(refused, 422, f"{where}: {sentence}")
    assert listed(api, user) == [task]


@pytest.mark.parametrize("way", ["PUT", "PATCH", "batch"])
def test_a_change_may_remove_many_members_but_not_any_number(
    api: httpx.Client, user: str, way: str
) -> None:
    task = create(api, user, kept=1, gone=1)
    nulls = dict.fromkeys(["gone", *(f"n{number}" for number in range(3000))])

    assert further(task_in(changed(api, task, nulls, way))) == {"kept": 1}

    nulls |= dict.fromkeys(f"n{number}" for number in range(7000))
    place = "operations.0.task." if way == "batch" else ""
    for change, named in [(nulls, "gone"), (nulls | {"kept": 2}, "kept")]:
        refused = changed(api, task, change, way)
        assert_problem(refused, 422, f"{place}{named}: {TOO_LONG}")


@pytest.mark.parametrize("way", ["PUT", "PATCH", "batch"])
def test_members_at_the_limits_are_kept_and_can_be_changed(
    api: httpx.Client, user: str, way: str
) -> None:
    most = IN_LIST | {"m31": NESTED}
    task = create(api, user, **most, gone=None)
    longest = create(api, user, it=ABOUT_16_KIB)

    assert further(task) == most
    swapped = {"m0": None, "n" * 64: 1}
    assert further(task_in(changed(api, task, swapped, way))) == {
        name: value for name, value in (most | swapped).items() if value is not None
    }
    swapped_text = {"it": ABOUT_16_KIB.replace("x", "y")}
    assert further(task_in(changed(api, longest, swapped_text, way))) == swapped_text
    assert further(task_in(changed(api, longest, {"it": None, "that": 1}, way))) == {"that": 1}


def test_a_condition_comes_before_a_limit(api: httpx.Client, user: str) -> None:
    task = create(api, user, **IN_LIST)

    for method in ("PUT", "PATCH"):
        refused = api.request(
            method, task_path(task), json={"one": 1}, headers={"If-Match": '"another"'}
        )
        assert_problem(refused, 412)
        missing = task_path(task | {"id": "019aa3c5-5d3e-7c1f-9d0a-6b1f2c3d4e5f"})
        assert_problem(api.request(method, missing, json={"one": 1}), 404)


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        ("1e400", "it: must not have a number too large for a double"),
        ("[-1e309]", "it: must not have a number too large for a double"),
        ("1" * 5000 + ".5", "it: must not have a number too large for a double"),
        ("1" * 16_385, f"it: {TOO_LONG}"),
        ('{"a": ["1", -' + "1" * 100_000 + "]}", f"it: {TOO_LONG}"),
    ],
)
def test_a_number_that_cannot_be_kept_is_422(
    api: httpx.Client, user: str, number: str, sentence: str
) -> None:
    body = f'{{"title": "x", "it": {number}}}'

    refused = api.post(tasks_path(user), content=body, headers=JSON)

    assert_problem(refused, 422, sentence)


def test_every_request_and_answer_keeps_a_whole_number_of_any_length(
    api: httpx.Client, user: str
) -> None:
    """Python reads such a number only with a hook."""

    def read(text: str) -> Any:  # noqa: ANN401 - JSON
        return json.loads(text, parse_int=str)

    def send(method: str, path: str, body: str, **headers: str) -> httpx.Response:
        answer = api.request(method, path, content=body, headers=JSON | headers)
        assert answer.is_success, answer.text
        return answer

    before = since_now(api, user)
    numbers = [str(n) * 5000 for n in range(1, 6)]
    path = send("POST", tasks_path(user), f'{{"title": "x", "it": {numbers[0]}}}').headers[
        "location"
    ]
    etag = api.get(path).headers["etag"]
    patched = send("PATCH", path, f'{{"it": {{"a": {numbers[1]}}}}}', **{"If-Match": etag})
    merged = send("PATCH", path, f'{{"it": {{"b": {numbers[2]}}}}}')
    replaced = send("PUT", path, f'{{"it": {{"c": {numbers[3]}}}}}')
    operations = [
        f'{{"op": "update", "id": "{path[-36:]}", "task": {{"more": -{numbers[4]}}}}}',
        f'{{"op": "create", "task": {{"title": "x", "it": {numbers[4]}}}}}',
    ]
    body = f'{{"operations": [{", ".join(operations)}]}}'
    key = {"Idempotency-Key": "key-1"}
    in_batch = send("POST", f"{tasks_path(user)}/batch", body, **key)

    assert read(patched.text)["it"] == {"a": numbers[1]}
    assert read(merged.text)["it"] == {"a": numbers[1], "b": numbers[2]}
    assert read(replaced.text)["it"] == {"c": numbers[3]}
    tasks = [each["task"] for each in read(in_batch.text)["results"]]
    assert further(tasks[0]) == {"it": {"c": numbers[3]}, "more": f"-{numbers[4]}"}
    assert further(tasks[1]) == {"it": numbers[4]}
    assert send("POST", f"{tasks_path(user)}/batch", body, **key).content == in_batch.content
    assert read(api.get(tasks_path(user)).text) == tasks
    first = api.get(tasks_path(user), params={"limit": 1})
    assert read(first.text) + read(api.get(first.links["next"]["url"]).text) == tasks
    changes = api.get(f"{tasks_path(user)}/changes", params={"since": before})
    assert read(changes.text)["changes"] == tasks


@pytest.mark.parametrize("number", ["1" * 5000, "-" + "1" * 100_000])
@pytest.mark.parametrize(
    ("field", "sentence"),
    [
        ("title", "title: must be a string"),
        ("description", "description: must be a string"),
        ("completed", "completed: must be true or false"),
        ("allDay", "all_day: must be true or false"),
        ("priority", "priority: must be 'low', 'medium', 'high' or 'urgent'"),
        ("tags", "tags: must be a valid list"),
        ("due_date", "due_date: must be a day such as 2026-12-24 or a time such as 2026-12-24"),
        ("isDone", "isDone: must be true, false, active or completed"),
    ],
)
def test_a_field_refuses_a_long_number_like_any_number(
    api: httpx.Client, user: str, number: str, field: str, sentence: str
) -> None:
    refused = api.post(
        tasks_path(user), content=f'{{"title": "x", "{field}": {number}}}', headers=JSON
    )

    assert_problem(refused, 422)
    assert refused.json()["detail"].startswith(sentence)


def test_a_member_without_a_name_is_422(api: httpx.Client, user: str) -> None:
    refused = api.post(tasks_path(user), json={"title": "x", "": 1})

    assert_problem(refused, 422, "body: a member's name must have 1 to 64 characters")
    assert refused.json()["errors"][0]["loc"] == ["body", ""]


def test_a_lone_surrogate_is_422(api: httpx.Client, user: str) -> None:
    long = "1" * 5000
    for text in (
        r'{"title": "x", "it": "\ud800"}',
        r'{"title": "x", "\udc00": 1}',
        rf'{{"title": "x", "it": "\ud800", "that": {long}}}',
        rf'{{"title": "x", "it": {long}, "\udc00": 1}}',
    ):
        refused = api.post(tasks_path(user), content=text, headers=JSON)
        assert_problem(refused, 422)
        assert refused.json()["detail"].startswith("body: must be valid JSON (")
    assert refused.json()["detail"].endswith("(a lone surrogate or too many levels)")


def test_times_keep_their_one_form_whatever_members_end_with(api: httpx.Client, user: str) -> None:
    """The end of a row's JSON tells whether its times need zeros: members cannot imitate it."""
    times = ',"created_at":"{0}.123456+00:00","updated_at":"{0}.123456+00:00"'
    text = times.format("2026-12-24T09:30:00")
    twelfths = "".join(f"{each:12}" for each in ".0a-.0a-.0").rstrip()
    for value in (
        text,
        [text],
        {"a": text},
        {"due_date": "2026-12-24T09:30:00+00:00"},
        *(twelfths + "x" * length for length in range(12)),
        {"updated_at": "2026-12-24T09:30:00.123456+00:00"},
    ):
        task = create(api, user, due_date="2026-12-24T09:30:00Z", it=value)
        got = api.get(task_path(task))

        assert got.json()["due_date"] == "2026-12-24T09:30:00.000000+00:00"
        assert got.json() == task
        kept = api.patch(
            task_path(task), json={"title": "y"}, headers={"If-Match": got.headers["etag"]}
        )
        assert kept.status_code == 200


def test_search_filters_and_order_ignore_further_members(api: httpx.Client, user: str) -> None:
    task = create(api, user, note="needle", overdue=True, category="needle")
    other = create(api, user, note="hay")

    assert api.get(tasks_path(user), params={"q": "needle"}).json() == []
    found = api.get(tasks_path(user), params={"category": "hay", "note": "hay"}).json()
    assert found == [task, other]
    assert_problem(api.get(tasks_path(user), params={"sort": "note"}), 422)


def test_a_completion_keeps_further_members_and_takes_no_new_member(
    api: httpx.Client, user: str
) -> None:
    task = create(api, user, **WEEKLY)
    path = f"{task_path(task)}/complete"

    assert further(api.patch(path).json()) == WEEKLY
    assert further(api.patch(path, json={"completed": True, "more": 1}).json()) == WEEKLY


@pytest.mark.anyio
@pytest.mark.parametrize(
    "text", ['{"title": "x", "a": 1}', '{"title": "x"}', "{}", "[1]", '"x"', "7"]
)
async def test_members_written_by_hand_repeat_no_name_in_an_answer_and_changes_go_on(
    engine: AsyncEngine, own_database: str, text: str
) -> None:
    task = json.loads(await task_service.create_task(engine, "ada", TaskCreate(title="Buy milk")))
    await execute(own_database, f"UPDATE tasks SET further = '{text}'")
    shown = {"a": 1} if '"a"' in text else {}

    got = await task_service.get_task(engine, "ada", UUID(task["id"]))
    edits: Any = {"further": '{"b": {"c": 1}}'}
    changed = await task_service.update_task(engine, "ada", UUID(task["id"]), edits)

    assert json.loads(got) == task | shown
    assert got.count(b'"title"') == changed.count(b'"title"') == 1
    assert further(json.loads(changed)) == shown | {"b": {"c": 1}}


@pytest.mark.anyio
async def test_many_patches_of_one_object_at_once_lose_no_member(engine: AsyncEngine) -> None:
    task = json.loads(await task_service.create_task(engine, "ada", TaskCreate(title="Buy milk")))
    task_id = UUID(task["id"])

    def patch(number: int) -> Awaitable[object]:
        edits: Any = {"further": f'{{"it": {{"k{number}": {number}}}}}'}
        if number % 4:
            return task_service.update_task(engine, "ada", task_id, edits)
        return apply_batch(engine, "ada", [{"op": "update", "id": task_id, "task": edits}])

    await asyncio.gather(*map(patch, range(60)))

    got = json.loads(await task_service.get_task(engine, "ada", task_id))
    assert got["it"] == {f"k{number}": number for number in range(60)}


def test_a_task_of_the_largest_size_fits_everywhere(api: httpx.Client, user: str) -> None:
    before = since_now(api, user)
    largest = {
        "title": "\U0001f600" * 500,
        "description": "\U0001f600" * 5000,
        "tags": [f"{n:02}" + "\U0001f600" * 48 for n in range(20)],
        "it": ABOUT_16_KIB,
    }
    task = create(api, user, **largest)
    patched = api.patch(task_path(task), json=largest)
    results = batch(api, user, *({"op": "create", "task": largest} for _ in range(30)))

    assert patched.status_code == 200
    assert further(patched.json()) == {"it": ABOUT_16_KIB}
    assert [each["task"]["it"] for each in results.json()["results"]] == [ABOUT_16_KIB] * 30
    assert [each["it"] for each in listed(api, user)] == [ABOUT_16_KIB] * 31
    page = api.get(f"{tasks_path(user)}/changes", params={"since": before}).json()
    assert [each["it"] for each in page["changes"]] == [ABOUT_16_KIB] * 31
