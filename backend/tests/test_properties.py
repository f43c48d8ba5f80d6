"""Any text is kept unchanged or refused. A batch does the same as its operations one by one."""

from typing import Any
from uuid import uuid4

import httpx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.tasks import Task, assert_problem, create, listed, task_path, tasks_path

thorough = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

whitespace = st.text(st.sampled_from(" \t\n\r\u00a0\u2003\u3000"), max_size=5)
storable = st.characters(exclude_characters="\0", codec="utf-8")
titles = st.builds(
    "{}{}{}".format, whitespace, st.text(storable, min_size=1, max_size=480), whitespace
).filter(str.strip)
descriptions = st.none() | st.text(storable, max_size=5000)
user_ids = st.text(storable, min_size=1, max_size=255).filter(lambda text: text not in {".", ".."})


@thorough
@given(title=titles, description=descriptions)
def test_text_is_kept(api: httpx.Client, user: str, title: str, description: str | None) -> None:
    task = create(api, user, title=title, description=description)

    assert task["title"] == title.strip()
    assert task["description"] == description
    assert api.get(task_path(task)).json() == task


@thorough
@given(title=titles, description=descriptions)
def test_an_update_keeps_text(
    api: httpx.Client, user: str, title: str, description: str | None
) -> None:
    task = create(api, user)

    updated = api.put(task_path(task), json={"title": title, "description": description}).json()

    assert updated["title"] == title.strip()
    assert updated["description"] == description
    assert api.get(task_path(task)).json() == updated


@thorough
@given(user_id=user_ids)
def test_tasks_are_found_by_their_owner(api: httpx.Client, user_id: str) -> None:
    task = create(api, user_id)

    assert task["user_id"] == user_id
    assert task in listed(api, user_id)
    assert api.delete(task_path(task)).status_code == 200


@thorough
@given(mine=user_ids, theirs=user_ids)
def test_tasks_are_not_found_by_other_users(
    api: httpx.Client, user: str, mine: str, theirs: str
) -> None:
    task = create(api, (user + mine)[:255])
    other = (f"other-{user}" + theirs)[:255]

    assert task not in listed(api, other)
    assert api.get(task_path(task | {"user_id": other})).status_code == 404


@thorough
@given(
    title=st.text()
    .filter(lambda text: not 1 <= len(text.strip()) <= 500 or "\0" in text)
    .filter(lambda text: not any(0xD800 <= ord(character) <= 0xDFFF for character in text))
)
def test_any_other_title_is_refused(api: httpx.Client, user: str, title: str) -> None:
    assert_problem(api.post(tasks_path(user), json={"title": title}), 422)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@thorough
@given(title=values, completed=values.filter(lambda value: not isinstance(value, bool)))
def test_any_other_type_is_refused(
    api: httpx.Client, user: str, title: object, completed: object
) -> None:
    task = create(api, user)

    assert_problem(api.post(tasks_path(user), json={"title": title}), 422)
    assert_problem(api.put(task_path(task), json={"title": title}), 422)
    assert_problem(api.put(task_path(task), json={"completed": completed}), 422)


OF_EACH_FIELD: dict[str, st.SearchStrategy[Any]] = {
    "title": titles,
    "description": descriptions,
    "completed": st.booleans(),
    "priority": st.sampled_from(["low", "URGENT", None, ""]),
    "tags": st.none() | st.lists(st.sampled_from(["a", " b", "a", "ü"]), max_size=4),
    "all_day": st.just(False),
    "due_date": st.sampled_from(["2026-12-24", "2026-12-24T09:30:00+01:00", None, ""]),
}
recurrences = st.sampled_from([None, 1, {"every": "week"}, {"every": None, "on": [1]}])
fields = st.fixed_dictionaries({}, optional=OF_EACH_FIELD | {"recurrence": recurrences})
conditions = st.sampled_from([None, None, "*", "its own", '"another"', '"another", its own'])
creations = st.builds(lambda title, rest: rest | {"title": title}, titles, fields)
new = st.tuples(st.just("create"), st.just(None), creations, st.none())
# The places of tasks in the result of `five`. No task exists for the last place.
PLACES = 6
changed = st.tuples(
    st.sampled_from(["update", "delete"]), st.integers(0, PLACES - 1), fields, conditions
)
operations_lists = st.lists(
    new | changed,
    min_size=1,
    max_size=8,
    unique_by=lambda each: id(each) if each[1] is None else each[1],
)


@settings(thorough, max_examples=30)
@given(operations=operations_lists)
def test_a_batch_does_the_same_as_its_operations_one_by_one(
    api: httpx.Client, user: str, operations: list[tuple[str, int | None, Any, str | None]]
) -> None:
    one_by_one, at_once = (f"{user}-{uuid4()}" for _ in range(2))
    singles = [
        sent_alone(api, tasks, each) for tasks in [five(api, one_by_one)] for each in operations
    ]
    tasks = five(api, at_once)

    answer = api.post(
        f"{tasks_path(at_once)}/batch",
        json={"operations": [in_batch(api, tasks, each) for each in operations]},
    )

    refused = {n: single.status_code for n, single in enumerate(singles) if single.is_error}
    if refused:
        assert_problem(answer, max(refused.values()))
        assert [error["loc"][2] for error in answer.json()["errors"]] == [*refused]
        assert listed(api, at_once) == tasks[:-1]
    else:
        results = answer.json()["results"]
        assert [each["status"] for each in results] == [each.status_code for each in singles]
        for result, single in zip(results, singles, strict=True):
            task = result.get("task", {"message": result.get("message")})
            assert lasting(task) == lasting(single.json())
        now = [listed(api, name) for name in (at_once, one_by_one)]
        assert [lasting(task) for task in now[0]] == [lasting(task) for task in now[1]]


def five(api: httpx.Client, user: str) -> list[Task]:
    """Create five tasks, and add a sixth task that does not exist."""
    tasks = [create(api, user, title=f"Task {n}", tags=["old"]) for n in range(PLACES - 1)]
    return [*tasks, tasks[0] | {"id": str(uuid4())}]


def if_match(api: httpx.Client, task: Task, condition: str | None) -> str | None:
    if condition is None:
        return None
    return condition.replace("its own", api.get(task_path(task)).headers.get("etag", '"none"'))


def sent_alone(
    api: httpx.Client, tasks: list[Task], operation: tuple[str, int | None, Any, str | None]
) -> httpx.Response:
    op, place, sent, condition = operation
    if place is None:
        return api.post(tasks_path(tasks[0]["user_id"]), json=sent)
    etag = if_match(api, tasks[place], condition)
    headers = {} if etag is None else {"If-Match": etag}
    if op == "delete":
        return api.delete(task_path(tasks[place]), headers=headers)
    return api.patch(task_path(tasks[place]), json=sent, headers=headers)


def in_batch(
    api: httpx.Client, tasks: list[Task], operation: tuple[str, int | None, Any, str | None]
) -> dict[str, Any]:
    op, place, sent, condition = operation
    if place is None:
        return {"op": op, "task": sent}
    etag = if_match(api, tasks[place], condition)
    body = {"op": op, "id": tasks[place]["id"]} | ({} if etag is None else {"if_match": etag})
    return body if op == "delete" else body | {"task": sent}


def lasting(answer: Task) -> Task:
    """Leave out the members that differ between two users, and say whether the task was changed."""
    own = {"id", "user_id", "completed_at", "created_at", "updated_at"}
    same = [answer.get(name) == answer.get("updated_at") for name in ("created_at", "completed_at")]
    return {name: value for name, value in answer.items() if name not in own} | {"same": same}
