"""`POST /api/{user_id}/tasks/batch`: all operations are applied, or none."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from src.framework.condition import Condition
from src.framework.long_numbers import LongNumber
from src.framework.sql.engine import _pool, is_distributed, ping
from src.framework.sql.etag import etag
from src.framework.sql.exceptions import BatchRefused, KeyReused, MembersRefused
from src.framework.sql.statements import CLEARED_KEYS
from src.framework.web.conditions import condition
from src.schemas.batch import MAX_OPERATIONS
from src.schemas.task import TaskCreate
from src.schemas.task_listing import TaskListing
from src.services.batch_service import apply_batch
from src.services.task_service import create_task, list_tasks
from tests.conftest import execute
from tests.serving import Server, eventually
from tests.tasks import (
    CHANGES,
    FIELDS,
    Task,
    assert_problem,
    create,
    listed,
    task_after,
    task_path,
    tasks_path,
    updated_at,
)

Operation = dict[str, Any]

MILK: Operation = {"op": "create", "task": {"title": "Buy milk"}}
NOT_FOUND = "Task not found"
CHANGED = "The task has changed since you read it; get it again"
REUSED = "Idempotency-Key: was used for another request; send a new key"
DELETED = {"status": 200, "message": "Task deleted successfully"}
MAX_BYTES = 3 * 1024 * 1024
DAY = 24 * 60 * 60


def batch_path(user: str) -> str:
    return f"{tasks_path(user)}/batch"


def post(
    api: httpx.Client, user: str, *operations: object, key: str | None = None
) -> httpx.Response:
    headers = {} if key is None else {"Idempotency-Key": key}
    return api.post(batch_path(user), json={"operations": operations}, headers=headers)


def results(response: httpx.Response) -> list[dict[str, Any]]:
    assert response.status_code == 200, response.text
    assert list(response.json()) == ["results"]
    found: list[dict[str, Any]] = response.json()["results"]
    return found


def update(task: Task, etag: str | None = None, /, **changes: object) -> Operation:
    return {"op": "update", "id": task["id"], "task": changes} | if_match(etag)


def delete(task: Task, etag: str | None = None) -> Operation:
    return {"op": "delete", "id": task["id"]} | if_match(etag)


def if_match(etag: str | None) -> Operation:
    return {} if etag is None else {"if_match": etag}


def etag_of(api: httpx.Client, task: Task) -> str:
    etag: str = api.get(task_path(task)).headers["etag"]
    return etag


def errors(response: httpx.Response) -> list[tuple[list[Any], str]]:
    return [(error["loc"], error["type"]) for error in response.json()["errors"]]


# What each operation does


def test_a_batch_creates_updates_and_deletes_and_answers_in_order(
    api: httpx.Client, user: str
) -> None:
    first, second, third = (create(api, user, title=f"Task {number}") for number in range(3))

    answer = post(api, user, delete(third), MILK, update(first, completed=True), MILK)

    gone, new, done, newer = results(answer)
    assert gone == DELETED
    assert [new["status"], done["status"], newer["status"]] == [201, 200, 201]
    assert done["task"] == task_after(first, {"completed": True}, done["task"])
    assert updated_at(done["task"]) > updated_at(first)
    assert listed(api, user) == [done["task"], second, new["task"], newer["task"]]
    for result in (new, done, newer):
        assert list(result) == ["status", "etag", "task"]
        assert result["etag"] == etag_of(api, result["task"])


def test_a_batch_answers_like_the_endpoints(api: httpx.Client, user: str) -> None:
    one = api.post(tasks_path(user), json={"title": " Buy milk ", "tags": ["a"]})
    answer = post(api, user, {"op": "create", "task": {"title": " Buy milk ", "tags": ["a"]}})

    [result] = results(answer)
    made = {name: result["task"][name] for name in ("id", "created_at", "updated_at")}
    assert result["task"] == one.json() | made
    assert list(result["task"]) == FIELDS
    assert result["task"]["created_at"] == result["task"]["updated_at"]
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == one.headers["cache-control"]
    assert "etag" not in answer.headers


@pytest.mark.parametrize("changes", CHANGES)
def test_a_change_sets_only_the_fields_that_it_names(
    api: httpx.Client, user: str, changes: dict[str, object]
) -> None:
    task = create(api, user, description="Two litres", tags=["home"], due_date="2026-12-24")

    [result] = results(post(api, user, update(task, **changes)))

    assert result["task"] == task_after(task, changes, result["task"])
    assert listed(api, user) == [result["task"]]


@pytest.mark.parametrize("etag", [None, "*", "its own"])
def test_an_update_without_fields_changes_nothing(
    api: httpx.Client, user: str, etag: str | None
) -> None:
    task = create(api, user)
    own = etag_of(api, task)

    [result, _] = results(post(api, user, update(task, own if etag == "its own" else etag), MILK))

    assert result == {"status": 200, "etag": own, "task": task}
    assert listed(api, user)[0] == task


def test_every_field_can_be_set_and_cleared(api: httpx.Client, user: str) -> None:
    full = {
        "title": "Buy bread",
        "description": 'Rye "dark" \\ 😀',
        "completed": True,
        "priority": "URGENT",
        "due_date": "2026-12-24T00:00:00+01:00",
        "all_day": True,
        "tags": [" home", 'a"b\\{}', "NULL", "home"],
    }
    of_the_past = {"completed_at", "created_at"}
    assert full.keys() == TaskCreate.model_fields.keys() - {"further", *of_the_past}
    single = create(api, user, **full)
    task = create(api, user)

    [new, set_, _] = results(
        post(api, user, {"op": "create", "task": full}, update(task, **full), MILK)
    )
    cleared = {"description": None, "priority": None, "due_date": None, "tags": None}
    [unset] = results(post(api, user, update(task, **cleared)))

    for field in full:
        assert new["task"][field] == set_["task"][field] == single[field]
    assert unset["task"]["description"] is None
    assert (unset["task"]["priority"], unset["task"]["due_date"]) == ("medium", None)
    assert unset["task"]["tags"] == []


def test_read_only_and_unknown_members_of_an_operation_are_ignored(
    api: httpx.Client, user: str
) -> None:
    task, other = create(api, user), create(api, user)
    odd = {"id": other["id"], "user_id": "x", "updated_at": "2020-01-01T00:00:00Z"}

    made, changed = results(
        post(
            api,
            user,
            {"op": "create", "task": odd | {"title": "Buy milk"}, "id": other["id"], "if_match": 7},
            {"op": "update", "id": task["id"], "task": odd | task, "colour": "red"},
        )
    )

    assert made["task"]["id"] not in {task["id"], other["id"]}
    assert made["task"]["user_id"] == user
    assert changed["task"] == task | {"updated_at": changed["task"]["updated_at"]}
    assert listed(api, user) == [changed["task"], other, made["task"]]


def test_100_created_tasks_have_distinct_ids_in_their_order(api: httpx.Client, user: str) -> None:
    titles = [f"Task {number}" for number in range(100)]

    made = results(
        post(api, user, *({"op": "create", "task": {"title": title}} for title in titles))
    )

    tasks = [result["task"] for result in made]
    assert [task["title"] for task in tasks] == titles
    assert listed(api, user) == tasks
    assert sorted(tasks, key=lambda task: UUID(task["id"])) == tasks
    assert len({task["id"] for task in tasks}) == 100


def test_the_same_task_may_be_created_twice(api: httpx.Client, user: str) -> None:
    one, two = results(post(api, user, MILK, MILK))

    assert [task["title"] for task in listed(api, user)] == ["Buy milk", "Buy milk"]
    assert one["task"]["id"] != two["task"]["id"]


def test_updated_at_never_goes_back(api: httpx.Client, postgres: str, user: str) -> None:
    """The database's clock may be behind the clock that dated the row."""
    task = create(api, user)
    late = f"UPDATE tasks SET updated_at = '2999-01-01T00:00:00Z' WHERE id = '{task['id']}'"
    asyncio.run(execute(postgres, late))

    [result] = results(post(api, user, update(task, title="Buy bread")))

    assert result["task"]["updated_at"] == "2999-01-01T00:00:00.000000+00:00"


# All or nothing


def test_a_missing_task_refuses_the_batch(api: httpx.Client, user: str) -> None:
    task = create(api, user)
    nowhere = {"id": str(uuid4())}

    for failing in (update(nowhere, completed=True), update(nowhere), delete(nowhere)):
        answer = post(api, user, MILK, update(task, completed=True), failing)

        assert_problem(answer, 404, f"operations.2: {NOT_FOUND}")
        assert errors(answer) == [(["body", "operations", 2], "not_found")]
        assert listed(api, user) == [task]


def test_another_users_task_is_missing_and_stays(api: httpx.Client, user: str) -> None:
    mine = create(api, user)
    theirs = create(api, f"{user}-other")
    theirs_etag = etag_of(api, theirs)

    for failing in (
        update(theirs, title="Stolen"),
        delete(theirs),
        update(theirs, theirs_etag, title="Stolen"),
        delete(theirs, "*"),
        update(theirs, '"another"'),
    ):
        answer = post(api, user, delete(mine), failing)

        assert_problem(answer, 404, f"operations.1: {NOT_FOUND}")
        assert listed(api, user) == [mine]
        assert listed(api, f"{user}-other") == [theirs]


def test_a_changed_task_refuses_the_batch(api: httpx.Client, user: str) -> None:
    task, other = create(api, user), create(api, user)
    before = etag_of(api, task)
    changed = api.patch(task_path(task), json={"completed": True}).json()

    for failing in (
        update(task, before, title="Lost"),
        update(task, before),
        delete(task, before),
        delete(task, f'"another", {before}'),
    ):
        answer = post(api, user, MILK, delete(other), failing)

        assert_problem(answer, 412, f"operations.2: {CHANGED}")
        assert errors(answer) == [(["body", "operations", 2], "changed")]
        assert listed(api, user) == [changed, other]


@pytest.mark.parametrize("form", ["{}", "W/{}", '"another", {}', " , {} ,", "*"])
def test_a_batch_changes_a_task_with_the_expected_etag(
    api: httpx.Client, user: str, form: str
) -> None:
    task, other = create(api, user), create(api, user)
    etags = [form.format(etag_of(api, each)) for each in (task, other)]

    done, gone = results(
        post(api, user, update(task, etags[0], title="New"), delete(other, etags[1]))
    )

    assert done["task"]["title"] == "New"
    assert gone == DELETED
    assert listed(api, user) == [done["task"]]


def test_an_etag_of_a_result_can_be_sent_as_if_match(api: httpx.Client, user: str) -> None:
    [made] = results(post(api, user, MILK))
    [done] = results(post(api, user, update(made["task"], made["etag"], completed=True)))

    answer = post(api, user, delete(made["task"], made["etag"]))
    assert_problem(answer, 412, f"operations.0: {CHANGED}")
    assert results(post(api, user, delete(done["task"], done["etag"]))) == [DELETED]


def test_412_comes_before_404_and_each_failing_operation_is_named(
    api: httpx.Client, user: str
) -> None:
    task, other = create(api, user), create(api, user)
    nowhere = {"id": str(uuid4())}

    answer = post(
        api,
        user,
        delete(nowhere),
        update(task, '"old"'),
        MILK,
        delete(other),
        delete({"id": str(uuid4())}),
    )

    assert_problem(
        answer,
        412,
        f"operations.0: {NOT_FOUND}; operations.1: {CHANGED}; operations.4: {NOT_FOUND}",
    )
    assert errors(answer) == [
        (["body", "operations", 0], "not_found"),
        (["body", "operations", 1], "changed"),
        (["body", "operations", 4], "not_found"),
    ]
    assert listed(api, user) == [task, other]


# What the service refuses before a look into the database

ID = str(uuid4())


@pytest.mark.parametrize(
    ("operation", "detail"),
    [
        (7, "operations.1: must be a JSON object"),
        (None, "operations.1: must be a JSON object"),
        ({}, "operations.1.op: is missing"),
        ({"op": "toggle"}, "operations.1.op: must be 'create', 'update' or 'delete'"),
        ({"op": []}, "operations.1.op: must be 'create', 'update' or 'delete'"),
        ({"op": "Create", "task": {}}, "operations.1.op: must be 'create', 'update' or 'delete'"),
        ({"op": "create"}, "operations.1.task: is missing"),
        ({"op": "create", "task": 7}, "operations.1.task: must be a JSON object"),
        ({"op": "create", "task": None}, "operations.1.task: must be a JSON object"),
        ({"op": "create", "task": {}}, "operations.1.task.title: is missing"),
        (
            {"op": "create", "task": {"title": "t" * 501}},
            "operations.1.task.title: must have 1 to 500 characters",
        ),
        (
            {"op": "create", "task": {"title": "a\0b"}},
            "operations.1.task.title: must not contain the NUL character",
        ),
        (
            {"op": "create", "task": {"title": "Buy milk", "tags": ["x"] * 21}},
            "operations.1.task.tags: must have at most 20 tags",
        ),
        ({"op": "update", "id": ID}, "operations.1.task: is missing"),
        ({"op": "update", "task": {}}, "operations.1.id: is missing"),
        ({"op": "update", "id": "7", "task": {}}, "operations.1.id: must be a UUID"),
        ({"op": "update", "id": 7, "task": {}}, "operations.1.id: must be a UUID"),
        (
            {"op": "update", "id": ID, "task": {"title": None}},
            "operations.1.task.title: must be a string",
        ),
        (
            {"op": "update", "id": ID, "task": {"completed": 1}},
            "operations.1.task.completed: must be true or false",
        ),
        ({"op": "delete"}, "operations.1.id: is missing"),
        (
            {"op": "delete", "id": ID, "if_match": "5d41402a"},
            "operations.1.if_match: must be * or a list of ETags in quotes",
        ),
        (
            {"op": "delete", "id": ID, "if_match": ""},
            "operations.1.if_match: must be * or a list of ETags in quotes",
        ),
        (
            {"op": "delete", "id": ID, "if_match": '"\0"'},
            "operations.1.if_match: must be * or a list of ETags in quotes",
        ),
        (
            {"op": "delete", "id": ID, "if_match": '"a"' + "," * 998},
            "operations.1.if_match: must have at most 1000 characters",
        ),
        ({"op": "delete", "id": ID, "if_match": None}, "operations.1.if_match: must be a string"),
        (
            {"op": "delete", "id": ID, "if_match": ['"a"']},
            "operations.1.if_match: must be a string",
        ),
    ],
)
def test_an_invalid_operation_is_named_and_nothing_is_done(
    api: httpx.Client, user: str, operation: object, detail: str
) -> None:
    answer = post(api, user, MILK, operation, MILK)

    assert_problem(answer, 422, detail)
    assert [error["loc"][:3] for error in answer.json()["errors"]] == [["body", "operations", 1]]
    assert listed(api, user) == []


def test_all_invalid_operations_are_named_at_once(api: httpx.Client, user: str) -> None:
    answer = post(api, user, {"op": "delete", "id": "7"}, MILK, {"op": "create", "task": {}})

    assert_problem(
        answer, 422, "operations.0.id: must be a UUID; operations.2.task.title: is missing"
    )
    assert errors(answer) == [
        (["body", "operations", 0, "id"], "uuid_parsing"),
        (["body", "operations", 2, "task", "title"], "missing"),
    ]


def test_the_same_task_in_two_operations_is_refused(api: httpx.Client, user: str) -> None:
    task, other = create(api, user), create(api, user)
    shouted = {"id": task["id"].upper().replace("-", "")}

    for first, again in [
        (update(task, completed=True), delete(task)),
        (delete(task), delete(shouted)),
        (update(task), update(shouted, title="Twice")),
    ]:
        answer = post(api, user, MILK, first, delete(other), again)

        assert_problem(
            answer,
            422,
            "operations.3.id: is in operation 1 already; send one operation for each task",
        )
        assert errors(answer) == [(["body", "operations", 3, "id"], "repeated")]
        assert listed(api, user) == [task, other]


@pytest.mark.parametrize("number", [0, MAX_OPERATIONS + 1, 4_000])
def test_too_few_or_too_many_operations_are_refused(
    api: httpx.Client, user: str, number: int
) -> None:
    answer = post(api, user, *[{"op": "delete"}] * number)

    assert_problem(answer, 422, "operations: must have 1 to 100 operations")
    assert listed(api, user) == []


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"", "Send a JSON object as the body"),
        (b"[]", "Send a JSON object as the body"),
        (b"{}", "operations: is missing"),
        (b'{"operations": null}', "operations: must be a valid list"),
        (b'{"operations": {"0": {}}}', "operations: must be a valid list"),
        (b'{"operations": ' + b"[" * 20_000 + b"]" * 20_000 + b"}", None),
        (b'{"operations": [{"op": "create", "task": {"title": "\\ud800"}}]}', None),
        (b'{"operations": [{"op": "create", "task": {"title": "\\u0000"}}]}', None),
        (b'{"operations": [{"op": "create", "task": {"title": NaN}}]}', None),
        (b'{"operations": [{"op": "create", "task": {"title": "ok"}}', None),
        (b'{"operations": [{"op": "create", "task": {"title": "\xff"}}]}', None),
    ],
)
def test_a_body_that_is_no_batch_is_refused(
    api: httpx.Client, user: str, body: bytes, detail: str | None
) -> None:
    json_type = {"Content-Type": "application/json"}

    assert_problem(api.post(batch_path(user), content=body, headers=json_type), 422, detail)
    assert listed(api, user) == []


def test_another_media_type_is_refused(api: httpx.Client, user: str) -> None:
    for kind in ("text/plain", "application/merge-patch+json-seq"):
        answer = api.post(batch_path(user), content=b"{}", headers={"Content-Type": kind})
        assert_problem(answer, 415)


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
def test_another_method_is_405_and_the_answer_names_the_allowed_methods(
    api: httpx.Client, user: str, method: str
) -> None:
    answer = api.request(method, batch_path(user), json={"title": "Buy milk"})

    assert_problem(answer, 405)
    assert answer.headers["allow"] == "OPTIONS, POST"
    options = api.options(batch_path(user))
    assert (options.status_code, options.headers["allow"]) == (204, "OPTIONS, POST")


# Odd and large input


@pytest.mark.parametrize(
    "text",
    ["😀", "e\u0301", "\u202eabc", "\x01\x1b[31m", "\\u0000", "</script>", "a\u2028b", "''--"],
)
def test_text_comes_back_unchanged(api: httpx.Client, user: str, text: str) -> None:
    task = create(api, user)
    fields = {"title": text, "description": text, "tags": [text]}

    made, changed = results(
        post(api, user, {"op": "create", "task": fields}, update(task, **fields))
    )

    for result in (made, changed):
        assert {name: result["task"][name] for name in fields} == fields
        assert result["etag"] == etag_of(api, result["task"])
    assert listed(api, user) == [changed["task"], made["task"]]


def largest(letter: str, number: int) -> dict[str, Any]:
    return {
        "title": letter * 500,
        "description": letter * 5000,
        "tags": [letter * 46 + f"{number:02}{tag:02}" for tag in range(20)],
        "priority": "urgent",
        "due_date": "2026-12-24T09:30:00.123456+01:00",
        "completed": True,
    }


def as_json(*operations: Operation) -> bytes:
    return json.dumps({"operations": operations}, ensure_ascii=False).encode()


def sent_whole(api: httpx.Client, user: str, body: bytes | Iterator[bytes]) -> httpx.Response:
    headers = {"Content-Type": "application/json"}
    return api.post(batch_path(user), content=body, headers=headers, timeout=60)


def in_chunks(body: bytes) -> Iterator[bytes]:
    for start in range(0, len(body), 10_000):
        yield body[start : start + 10_000]


def test_100_of_the_largest_tasks_fit(api: httpx.Client, user: str) -> None:
    tasks = [largest("😀", number) for number in range(100)]

    made = results(sent_whole(api, user, as_json(*({"op": "create", "task": t} for t in tasks))))
    changes = [update(result["task"], result["etag"], **tasks[0]) for result in made]
    changed = results(sent_whole(api, user, in_chunks(as_json(*changes))))

    assert [result["task"]["tags"] for result in made] == [task["tags"] for task in tasks]
    assert [result["task"]["title"] for result in changed] == ["😀" * 500] * 100
    assert listed(api, user) == [result["task"] for result in changed]


@pytest.mark.parametrize("cut", [iter, None], ids=["in chunks", "whole"])
def test_a_body_of_3_mib_is_accepted_and_a_larger_body_is_413(
    api: httpx.Client, user: str, cut: Callable[..., Any] | None
) -> None:
    body = as_json(MILK)
    largest_body = body + b" " * (MAX_BYTES - len(body))

    too_large = largest_body + b" "
    accepted = sent_whole(api, user, in_chunks(largest_body) if cut else largest_body)
    refused = sent_whole(api, user, in_chunks(too_large) if cut else too_large)

    assert len(results(accepted)) == 1
    assert_problem(refused, 413, f"The body may have at most {MAX_BYTES} bytes")
    assert len(listed(api, user)) == 1


def test_thousands_of_wrong_tags_are_one_error(api: httpx.Client, user: str) -> None:
    body = b'{"operations": [{"op": "create", "task": {"title": "a", "tags": [%b]}}]}'

    answer = sent_whole(api, user, body % b",".join([b"1"] * 9_000))

    assert_problem(answer, 422, "operations.0.task.tags: must have at most 20 tags")


# Idempotency keys


def test_a_repeated_batch_gets_the_first_answer_and_changes_nothing(
    api: httpx.Client, user: str
) -> None:
    task, other = create(api, user), create(api, user)
    operations = [MILK, update(task, etag_of(api, task), completed=True), delete(other)]

    first = post(api, user, *operations, key="key")
    after = listed(api, user)
    again = [post(api, user, *operations, key=key) for key in ("key", '"key"')]

    new, done, gone = results(first)
    assert (new["status"], new["task"]["title"]) == (201, "Buy milk")
    assert (done["status"], done["task"]["id"]) == (200, task["id"])
    assert gone == DELETED
    for answer in again:
        assert answer.status_code == 200
        assert answer.content == first.content
    assert listed(api, user) == after


def test_the_first_answer_is_given_after_the_tasks_have_changed(
    api: httpx.Client, user: str
) -> None:
    task = create(api, user, title='😀 \\ " \u2028')
    first = post(api, user, MILK, update(task, description="\x01"), key="key")
    new, old = (result["task"] for result in results(first))

    api.delete(task_path(new))
    changed = api.patch(task_path(old), json={"title": "Other"}).json()

    assert (
        post(api, user, MILK, update(task, description="\x01"), key="key").content == first.content
    )
    assert listed(api, user) == [changed]


def test_a_batch_that_only_deletes_is_repeated(api: httpx.Client, user: str) -> None:
    task = create(api, user)

    answers = [post(api, user, delete(task), key="key") for _ in range(2)]

    assert [results(answer) for answer in answers] == [[DELETED]] * 2
    assert_problem(post(api, user, delete(task)), 404)


def test_a_key_matches_the_same_batch_in_other_json(api: httpx.Client, user: str) -> None:
    task = create(api, user)
    first = post(api, user, MILK, update(task, priority="high", title="Now"), key="key")

    again = post(
        api,
        user,
        {"task": {"tags": [], "title": " Buy milk\n", "id": 7}, "op": "create", "more": 1},
        {
            "task": {"title": "Now", "priority": " HIGH "},
            "id": task["id"].upper(),
            "op": "update",
        },
        key="key",
    )

    assert results(first)
    assert again.content == first.content


def test_the_same_key_with_another_batch_is_refused(api: httpx.Client, user: str) -> None:
    task = create(api, user)
    first = post(api, user, MILK, update(task, completed=True), key="key")
    after = listed(api, user)

    for other in (
        [MILK],
        [update(task, completed=True), MILK],
        [MILK, update(task, completed=False)],
        [MILK, update(task, "*", completed=True)],
        [MILK, update(task)],
        [MILK, delete(task)],
        [
            {"op": "create", "task": {"title": "Buy milk", "priority": "low"}},
            update(task, completed=True),
        ],
    ):
        answer = post(api, user, *other, key="key")
        assert_problem(answer, 422, REUSED)
        assert errors(answer) == [(["header", "Idempotency-Key"], "key_reused")]
        assert listed(api, user) == after
    assert post(api, user, MILK, update(task, completed=True), key="key").content == first.content


def test_a_key_is_for_a_create_or_a_batch(api: httpx.Client, user: str) -> None:
    headers = {"Idempotency-Key": "create"}
    single = api.post(tasks_path(user), json=MILK["task"], headers=headers)
    batch = post(api, user, MILK, key="batch")

    assert_problem(post(api, user, MILK, key="create"), 422, REUSED)
    other = api.post(tasks_path(user), json=MILK["task"], headers={"Idempotency-Key": "batch"})
    assert_problem(other, 422, REUSED)
    again = api.post(tasks_path(user), json=MILK["task"], headers=headers)
    assert again.content == single.content
    assert post(api, user, MILK, key="batch").content == batch.content
    assert len(listed(api, user)) == 2


def test_a_key_belongs_to_its_user(api: httpx.Client, user: str) -> None:
    mine = post(api, user, MILK, key="key")
    theirs = post(api, f"{user}-other", MILK, MILK, key="key")

    assert len(results(mine)) == 1
    assert len(results(theirs)) == 2


def test_a_refused_batch_keeps_no_key(api: httpx.Client, user: str) -> None:
    task = create(api, user)

    assert_problem(post(api, user, MILK, delete({"id": str(uuid4())}), key="key"), 404)
    assert_problem(post(api, user, MILK, delete(task, '"old"'), key="key"), 412)
    assert_problem(post(api, user, MILK, {"op": "create", "task": {}}, key="key"), 422)
    assert listed(api, user) == [task]

    assert results(post(api, user, delete(task), key="key")) == [DELETED]


def test_an_invalid_key_is_refused(api: httpx.Client, user: str) -> None:
    answer = post(api, user, MILK, key="a b")

    assert_problem(answer, 422, "Idempotency-Key: must have 1 to 255 visible ASCII characters")
    assert listed(api, user) == []


def age(url: str, user: str, seconds: int) -> None:
    sql = f"created_at = now() - interval '{seconds} seconds' WHERE user_id = '{user}'"
    asyncio.run(execute(url, f"UPDATE idempotency_keys SET {sql}"))


def test_a_key_is_new_again_after_24_hours(api: httpx.Client, postgres: str, user: str) -> None:
    first = post(api, user, MILK, key="key")
    age(postgres, user, DAY - 60)
    assert post(api, user, MILK, key="key").content == first.content
    age(postgres, user, DAY)

    second = post(api, user, MILK, MILK, key="key")

    assert len(results(second)) == 2
    assert len(listed(api, user)) == 3
    assert post(api, user, MILK, MILK, key="key").content == second.content
    assert_problem(post(api, user, MILK, key="key"), 422, REUSED)


def test_a_batch_and_a_create_may_use_each_others_expired_keys(
    api: httpx.Client, postgres: str, user: str
) -> None:
    def single() -> httpx.Response:
        return api.post(tasks_path(user), json=MILK["task"], headers={"Idempotency-Key": "key"})

    assert single().status_code == 201
    age(postgres, user, DAY)
    batch = post(api, user, MILK, key="key")
    assert len(results(batch)) == 1
    assert_problem(single(), 422, REUSED)
    assert post(api, user, MILK, key="key").content == batch.content

    age(postgres, user, DAY)
    again = single()
    assert again.status_code == 201
    assert single().content == again.content
    assert_problem(post(api, user, MILK, key="key"), 422, REUSED)
    assert len(listed(api, user)) == 3


def test_a_refused_batch_does_not_change_its_expired_key(
    api: httpx.Client, postgres: str, user: str
) -> None:
    post(api, user, MILK, key="key")
    age(postgres, user, DAY)

    assert_problem(post(api, user, delete({"id": str(uuid4())}), key="key"), 404)
    assert len(results(post(api, user, MILK, key="key"))) == 1
    assert len(listed(api, user)) == 2


# The functions of the service, with an engine and without HTTP


@pytest.mark.anyio
async def test_a_batch_with_a_key_deletes_some_of_its_users_expired_keys_only(
    engine: AsyncEngine, own_database: str
) -> None:
    insert = (
        "INSERT INTO idempotency_keys SELECT '{}', 'key-' || n, 'of another', gen_random_uuid(), "
        "now() - interval '{} hours' FROM generate_series(1, {}) n"
    )
    driver = await asyncpg.connect(own_database)
    for name, hours, number in (("ada", 25, CLEARED_KEYS + 5), ("bob", 25, 3), ("eve", 23, 3)):
        await driver.execute(insert.format(name, hours, number))
    operation: Any = {"op": "delete", "id": uuid4()}

    async def kept() -> dict[str, int]:
        found = await driver.fetch("SELECT user_id, count(*) FROM idempotency_keys GROUP BY 1")
        return {row["user_id"]: row["count"] for row in found}

    with pytest.raises(BatchRefused):
        await apply_batch(engine, "ada", [operation], "one")
    assert (await kept())["ada"] == CLEARED_KEYS + 5
    for key, left in (("key-3", 5), ("another", 2)):
        await driver.execute(
            "INSERT INTO tasks (user_id, id, title, completed, created_at, updated_at) "
            "VALUES ('ada', $1, 'Buy milk', false, now(), now())",
            operation["id"],
        )
        assert await apply_batch(engine, "ada", [operation], key) == [None]
        assert await kept() == {"ada": left, "bob": 3, "eve": 3}
    assert await apply_batch(engine, "ada", [operation], "key-3") == [None]
    await driver.close()


@pytest.fixture
async def in_steps(engine: AsyncEngine) -> AsyncIterator[AsyncEngine]:
    """An engine that believes that its tables are distributed, and applies batches in steps."""
    await asyncio.gather(*(ping(engine) for _ in range(5)))  # a later connection would look again
    _pool(engine).is_distributed = True
    yield engine
    assert is_distributed(engine)


def conditions(operations: list[Any]) -> list[Condition | None]:
    return [condition(operation.get("if_match"), None) for operation in operations]


@pytest.mark.anyio
async def test_a_batch_in_steps_does_the_same_as_a_batch_in_one_statement(
    in_steps: AsyncEngine,
) -> None:
    made: list[Any] = [{"op": "create", "task": TaskCreate(title=f"Task {n}")} for n in range(4)]
    rows = await apply_batch(in_steps, "ada", made)
    ids = [UUID(json.loads(row or b"")["id"]) for row in rows]
    own, other = f'"{etag(rows[0] or b"")}"', '"another"'
    operations: list[Any] = [
        {"op": "update", "id": ids[0], "if_match": own, "task": {"completed": True}},
        {"op": "update", "id": ids[1], "task": {}},
        {"op": "delete", "id": ids[2], "if_match": "*"},
        {"op": "create", "task": TaskCreate(title="Last")},
    ]
    refused: list[Any] = [
        {"op": "create", "task": TaskCreate(title="None")},
        {"op": "delete", "id": ids[2]},
        {"op": "update", "id": ids[3], "if_match": other, "task": {"title": "Lost"}},
    ]

    answer = await apply_batch(in_steps, "ada", operations, "key", conditions(operations))
    again = await apply_batch(in_steps, "ada", operations, "key", conditions(operations))
    with pytest.raises(KeyReused):
        await apply_batch(in_steps, "ada", operations[3:], "key")
    for key in (None, "new"):
        with pytest.raises(BatchRefused) as problem:
            await apply_batch(in_steps, "ada", refused, key, conditions(refused))
        assert (problem.value.missing, problem.value.changed) == ([1], [2])

    assert again == answer
    assert json.loads(answer[0] or b"")["completed"] is True
    assert answer[1:3] == [rows[1], None]
    page = await list_tasks(in_steps, "ada", TaskListing())
    tasks = b"".join(page.rows.pieces())
    assert json.loads(tasks) == [
        json.loads(row or b"") for row in (answer[0], rows[1], rows[3], answer[3])
    ]


@pytest.mark.anyio
async def test_a_repeated_batch_in_steps_gets_the_further_members_of_the_first_answer(
    in_steps: AsyncEngine,
) -> None:
    long = "9" * 5000
    task = json.loads(await create_task(in_steps, "ada", TaskCreate(title="Once")))
    number = TaskCreate.model_validate({"title": "New", "it": LongNumber(long)})
    operations: list[Any] = [
        {"op": "update", "id": UUID(task["id"]), "task": {"further": f'{{"a": [-{long}, 0.5]}}'}},
        {"op": "create", "task": number},
    ]

    answer = await apply_batch(in_steps, "ada", operations, "key")

    assert await apply_batch(in_steps, "ada", operations, "key") == answer
    ends = [f'"a": [-{long}, 0.5]}}'.encode(), f'"it": {long}}}'.encode()]
    assert [row and row[-len(end) :] for row, end in zip(answer, ends, strict=True)] == ends


@pytest.mark.anyio
async def test_only_one_of_20_batches_in_steps_with_one_key_is_applied(
    in_steps: AsyncEngine,
) -> None:
    task = await create_task(in_steps, "ada", TaskCreate(title="Once"))
    operations: list[Any] = [
        {"op": "delete", "id": UUID(json.loads(task)["id"])},
        {"op": "create", "task": TaskCreate(title="New")},
    ]
    creates = operations[1:]

    for key, sent in (("one", operations), ("two", creates)):
        answers = await asyncio.gather(
            *(apply_batch(in_steps, "ada", sent, key) for _ in range(20))
        )
        assert len({*map(tuple, answers)}) == 1

    page = await list_tasks(in_steps, "ada", TaskListing())
    assert len(json.loads(b"".join(page.rows.pieces()))) == 2


# Concurrency


async def at_once(
    server: Server, url: str, locks: str, lock: str, requests: list[tuple[str, list[Operation]]]
) -> list[httpx.Response]:
    """Hold a lock, send batches with one key, and let go of the lock once a batch waits."""
    writer, watcher = await asyncpg.connect(url), await asyncpg.connect(url)
    transaction = writer.transaction()
    await transaction.start()
    await writer.execute(lock)
    async with server.async_client() as client:
        sent = [
            asyncio.create_task(
                client.post(
                    path, json={"operations": operations}, headers={"Idempotency-Key": "key"}
                )
            )
            for path, operations in requests
        ]
        await until_waiting(watcher, locks, sent[0])
        await transaction.rollback()
        answers = await asyncio.gather(*sent)
    await writer.close()
    await watcher.close()
    return answers


@pytest.mark.anyio
async def test_only_one_of_20_concurrent_batches_with_one_key_is_applied(
    server: Server, api: httpx.Client, direct: str, locks: str, user: str
) -> None:
    """When a later batch gets the locks, one of its tasks is changed and the other is deleted."""
    task, other = create(api, user), create(api, user)
    operations = [update(task, etag_of(api, task), completed=True), delete(other), MILK]
    lock = f"SELECT FROM tasks WHERE user_id = '{user}' AND id = '{task['id']}' FOR UPDATE"

    answers = await at_once(server, direct, locks, lock, [(batch_path(user), operations)] * 20)

    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    done, _, new = results(answers[0])
    assert listed(api, user) == [done["task"], new["task"]]


@pytest.mark.anyio
@pytest.mark.parametrize("expired", [False, True], ids=["new", "expired"])
async def test_20_concurrent_batches_of_creates_with_one_key_create_once(
    server: Server, api: httpx.Client, direct: str, locks: str, user: str, expired: bool
) -> None:
    if expired:
        post(api, user, MILK, key="key")
        await asyncio.to_thread(age, direct, user, DAY)
        lock = f"SELECT FROM idempotency_keys WHERE user_id = '{user}' FOR UPDATE"
    else:
        values = f"'{user}', 'key', 'of another', now()"
        columns = "user_id, key, fingerprint, created_at"
        lock = f"INSERT INTO idempotency_keys ({columns}) VALUES ({values})"
    before = listed(api, user)
    requests = [(batch_path(user), [MILK] * count) for count in [2, 3] * 10]

    answers = await at_once(server, direct, locks, lock, requests)

    made = [answer for answer in answers if answer.status_code == 200]
    refused = [answer for answer in answers if answer.status_code == 422]
    assert [len(made), len(refused)] == [10, 10]
    assert len({answer.content for answer in made}) == 1
    assert {answer.json()["detail"] for answer in refused} == {REUSED}
    created = [result["task"] for result in results(made[0])]
    assert listed(api, user) == [*before, *created]


@pytest.mark.anyio
async def test_a_batch_waits_for_a_change_and_sees_the_changed_task(
    server: Server, api: httpx.Client, direct: str, locks: str, user: str
) -> None:
    """The snapshot of the batch is older than the row that the batch changes."""
    task = create(api, user, description="Two litres")
    changed, gone, stale = (create(api, user) for _ in range(3))
    etag = etag_of(api, stale)
    writer = await asyncpg.connect(direct)
    transaction = writer.transaction()
    await transaction.start()
    own = f"WHERE user_id = '{user}' AND id ="
    await writer.execute(f"UPDATE tasks SET title = 'Changed' {own} '{task['id']}'")
    await writer.execute(f"UPDATE tasks SET title = 'Changed' {own} '{changed['id']}'")

    async with server.async_client() as client:

        def send(*operations: Operation) -> asyncio.Task[httpx.Response]:
            content = {"operations": operations}
            return asyncio.create_task(client.post(batch_path(user), json=content))

        waiting = send(update(task, completed=True), delete(changed), MILK)
        watcher = await asyncpg.connect(direct)
        await until_waiting(watcher, locks, waiting)
        await transaction.commit()
        done, deleted, _ = results(await waiting)

        transaction = writer.transaction()
        await transaction.start()
        await writer.execute(f"DELETE FROM tasks {own} '{gone['id']}'")
        await writer.execute(f"UPDATE tasks SET title = 'Changed' {own} '{stale['id']}'")
        refused = send(MILK, delete(gone), update(stale, etag, completed=True))
        await until_waiting(watcher, locks, refused)
        await transaction.commit()
        answer = await refused
    await writer.close()
    await watcher.close()

    assert done["task"]["title"] == "Changed"
    assert done["task"]["description"] == "Two litres"
    assert done["task"]["completed"] is True
    assert deleted == DELETED
    assert errors(answer) == [
        (["body", "operations", 1], "not_found"),
        (["body", "operations", 2], "changed"),
    ]
    titles = [each["title"] for each in listed(api, user)]
    assert titles == ["Changed", "Changed", "Buy milk"]
    assert listed(api, user)[0] == done["task"]


async def until_waiting(
    watcher: Any,  # noqa: ANN401 - has no types
    locks: str,
    request: asyncio.Task[Any],
    number: int = 1,
) -> None:
    """Wait until this many statements wait for a lock. The request must not end before that."""
    waiting = f"SELECT count(*) FROM {locks} WHERE NOT granted"
    while await watcher.fetchval(waiting) < number:
        assert not request.done()


@pytest.mark.anyio
async def test_a_batch_never_waits_for_another_users_task(
    server: Server, api: httpx.Client, direct: str, user: str
) -> None:
    mine, theirs = create(api, user), create(api, f"{user}-other")
    writer = await asyncpg.connect(direct)
    transaction = writer.transaction()
    await transaction.start()
    own = f"WHERE user_id = '{user}-other' AND id = '{theirs['id']}'"
    await writer.execute(f"UPDATE tasks SET title = 'Changed' {own}")

    async with server.async_client(timeout=5) as client:
        content = {"operations": [delete(mine), delete(theirs)]}
        answer = await client.post(batch_path(user), json=content)

    await transaction.rollback()
    await writer.close()
    assert errors(answer) == [(["body", "operations", 1], "not_found")]


@pytest.mark.anyio
async def test_a_client_that_hangs_up_leaves_its_batch_applied_whole_or_not_at_all(
    server: Server, api: httpx.Client, user: str
) -> None:
    async def hang_up(number: int) -> None:
        content = {"operations": [{"op": "create", "task": {"title": f"{number}"}}] * 10}
        timeout = 0.002 * (number % 10) + 0.001
        async with server.async_client() as client:
            with suppress(httpx.TimeoutException):
                await client.post(batch_path(user), json=content, timeout=timeout)

    await asyncio.gather(*(hang_up(number) for number in range(30)))

    def counts() -> set[int]:
        titles = [task["title"] for task in listed(api, user)]
        return {titles.count(title) for title in titles}

    post(api, user, *[{"op": "create", "task": {"title": "last"}}] * 10)
    assert eventually(lambda: counts() == {10})


def members_of(task: Task) -> dict[str, Any]:
    return {name: value for name, value in task.items() if name not in FIELDS}


@pytest.mark.anyio
async def test_tasks_that_are_written_in_steps_keep_the_same_further_members(
    in_steps: AsyncEngine,
) -> None:
    """A batch runs as on Citus, but on one server: in a transaction, and Python merges members."""
    engine = in_steps
    sent = {"it": {"a": 1, "b": None}, "n": 12345678901234567890123}
    task = TaskCreate.model_validate({"title": "x"} | sent)
    created = json.loads(await create_task(engine, "ada", task))
    edits: Any = {"further": '{"it": {"a": null, "c": 2}, "n": null}'}
    operations: list[Any] = [
        {"op": "create", "task": task},
        {"op": "update", "id": UUID(created["id"]), "task": edits},
    ]
    first, again = [await apply_batch(engine, "ada", operations, "key-1") for _ in range(2)]
    too_many: Any = {
        "op": "update",
        "id": UUID(created["id"]),
        "task": {"further": json.dumps({f"m{n}": n for n in range(32)})},
    }
    with pytest.raises(MembersRefused) as refused:
        await apply_batch(engine, "ada", [too_many])

    assert members_of(created) == sent
    assert [members_of(json.loads(row or b"")) for row in first] == [
        sent,
        {"it": {"b": None, "c": 2}},
    ]
    assert again == first
    assert refused.value.is_many
