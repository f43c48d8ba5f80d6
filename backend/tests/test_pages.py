"""The filters, orders and pages of a list."""

import asyncio
import json
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Coroutine, Iterator
from datetime import UTC, datetime
from itertools import chain, count
from typing import Any, get_args
from urllib.parse import parse_qsl, quote, urlsplit
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from src.framework.sql.engine import create_engine
from src.migrations import upgrade
from src.schemas.task import TaskCreate
from src.schemas.task_listing import Sort, TaskListing
from src.services import task_service
from tests.citus import beside
from tests.conftest import execute
from tests.serving import Server
from tests.tasks import Task, assert_problem, create, listed, task_path, tasks_path

SORTS = get_args(Sort)
every_sort = pytest.mark.parametrize("sort", SORTS)

thorough = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def get(api: httpx.Client, user: str, **query: object) -> httpx.Response:
    return api.get(tasks_path(user), params={name: str(value) for name, value in query.items()})


def found(api: httpx.Client, user: str, **query: object) -> list[str]:
    response = get(api, user, **query)
    assert response.status_code == 200, response.text
    return [task["title"] for task in response.json()]


def pages(api: httpx.Client, user: str, **query: object) -> Iterator[list[Task]]:
    """Yield each page of a list: follow the links in `Link` to the last page."""
    response = get(api, user, **query)
    while True:
        assert response.status_code == 200, response.text
        yield response.json()
        if "next" not in response.links:
            break
        response = api.get(response.links["next"]["url"])


def walked(api: httpx.Client, user: str, **query: object) -> list[Task]:
    return list(chain.from_iterable(pages(api, user, **query)))


def insert(url: str, user: str, number: int) -> None:
    """Insert tasks that differ only in their id."""
    asyncio.run(
        execute(
            url,
            "INSERT INTO tasks SELECT gen_random_uuid(), "
            f"'{user}', 'Buy milk', NULL, false, now(), now() FROM generate_series(1, {number})",
        )
    )


# Filters


def test_completed_filters_the_list(api: httpx.Client, user: str) -> None:
    create(api, user, title="open")
    api.patch(f"{task_path(create(api, user, title='done'))}/complete")

    assert found(api, user, completed="true") == ["done"]
    assert found(api, user, completed="false") == ["open"]
    assert found(api, user) == ["open", "done"]


def test_q_searches_title_and_description(api: httpx.Client, user: str) -> None:
    create(api, user, title="Buy MILK")
    create(api, user, title="Bake", description="eggs, milk\nand flour")
    create(api, user, title="Rest", description=None)

    assert found(api, user, q="milk") == ["Buy MILK", "Bake"]
    assert found(api, user, q="MILK\nAND") == ["Bake"]
    assert found(api, user, q="milky") == []
    assert found(api, user, q="") == ["Buy MILK", "Bake", "Rest"]


def test_filters_combine(api: httpx.Client, user: str) -> None:
    create(api, user, title="open milk")
    api.patch(f"{task_path(create(api, user, title='done milk'))}/complete")
    api.patch(f"{task_path(create(api, user, title='done'))}/complete")

    assert found(api, user, q="milk", completed="true") == ["done milk"]


@pytest.mark.parametrize(
    "plain", ["%", "_", "\\", "\\%", "\\\\", "%%", "__", "%_\\", "'", "*", "."]
)
def test_pattern_characters_in_q_are_plain_text(api: httpx.Client, user: str, plain: str) -> None:
    create(api, user, title="none of them")
    create(api, user, title=f"a{plain}b")
    create(api, user, title="other", description=f"{plain}")

    assert found(api, user, q=plain) == [f"a{plain}b", "other"]
    assert found(api, user, q=f"A{plain}B") == [f"a{plain}b"]


HARD = {
    "the last letter is missing": ("a", "a" * 499 + "b"),
    "the first letter is missing": ("a", "b" + "a" * 499),
    "one in the middle is missing": ("a", "a" * 250 + "b" + "a" * 249),
    "the end of a refrain is missing": ("ab", "ab" * 249 + "aa"),
    "letters of four bytes": ("💡", "💡" * 499 + "😀"),
}


@pytest.mark.parametrize(("text", "q"), HARD.values(), ids=HARD)
def test_no_text_is_much_harder_to_find_than_another_text(
    api: httpx.Client, postgres: str, user: str, text: str, q: str
) -> None:
    description = f"repeat('{text}', {5000 // len(text)})"
    asyncio.run(
        execute(
            postgres,
            "INSERT INTO tasks SELECT gen_random_uuid(), "
            f"'{user}', '', {description}, false, now(), now() FROM generate_series(1, 100)",
        )
    )

    def seconds(q: str) -> float:
        began = time.perf_counter()
        assert found(api, user, q=q) == []
        return time.perf_counter() - began

    assert min(seconds(q) for _ in range(3)) < 10 * min(seconds("z") for _ in range(10))


LOCALES = {"C.UTF-8": ["ÄÖ", "äö"], "C": ["ÄÖ"]}


@pytest.mark.anyio
@pytest.mark.parametrize(("locale", "expected"), LOCALES.items())
async def test_q_ignores_case_as_the_databases_locale_does(
    direct: str, locale: str, expected: list[str]
) -> None:
    name = f"test_{uuid4().hex}"
    await execute(direct, f"CREATE DATABASE {name} TEMPLATE template0 LOCALE '{locale}'")
    url = beside(direct, name)
    engine = create_engine(url, pool_size=1)
    await upgrade(engine, url)
    for title in ["ÄÖ", "äö", "ao"]:
        await task_service.create_task(engine, "ada", TaskCreate(title=title))

    page = await task_service.list_tasks(engine, "ada", TaskListing(q="ÄÖ"))

    assert [task["title"] for task in json.loads(b"".join(page.rows.pieces()))] == expected
    await engine.dispose()
    await execute(direct, f"DROP DATABASE {name}")


ALPHABET = "aAbBäÄöÖßẞéÉİi\u0131\u03c3ΣςдД%_\\ \"'<>&=#+/;,.|*?\n\t\u00ad😀"


@pytest.fixture(scope="module")
def lower(postgres: str) -> Callable[[str], str]:
    """Lower-case text as the database's locale does, character by character."""

    async def ask() -> str:
        connection = await asyncpg.connect(postgres)
        try:
            small: str = await connection.fetchval("SELECT lower($1)", ALPHABET)
        finally:
            await connection.close()
        return small

    table = str.maketrans(dict(zip(ALPHABET, asyncio.run(ask()), strict=True)))
    return lambda text: text.translate(table)


@pytest.fixture(scope="module")
def shelf(api: httpx.Client) -> list[Task]:
    """A user's tasks with odd texts, some titles twice."""
    user = f"shelf-{uuid4().hex}/ü &?"
    tasks = []
    for turn in range(len(ALPHABET) - 2):
        title = f"x{ALPHABET[turn % 20 : turn % 20 + 3]}x"
        task = create(api, user, title=title, description=(None, ALPHABET[turn:])[turn % 2])
        body = {"completed": turn % 3 == 0}
        tasks.append(api.patch(f"{task_path(task)}/complete", json=body).json())
    return tasks


@thorough
@given(
    q=st.text(ALPHABET, max_size=3),
    asked=st.fixed_dictionaries(
        {"sort": st.sampled_from(SORTS)}, optional={"completed": st.sampled_from(["true", "false"])}
    ),
    limit=st.integers(5, 60),
)
def test_pages_have_the_same_tasks_as_a_filter_in_python(
    api: httpx.Client,
    shelf: list[Task],
    lower: Callable[[str], str],
    q: str,
    asked: dict[str, str],
    limit: int,
) -> None:
    wanted = {"true": [True], "false": [False]}.get(asked.get("completed", ""), [True, False])
    expected = [
        task
        for task in shelf
        if task["completed"] in wanted
        and any(lower(q.strip()) in lower(task[name] or "x") for name in ("title", "description"))
    ]

    user = shelf[0]["user_id"]
    tasks = get(api, user, q=q, **asked).json()

    assert sorted(tasks, key=id_of) == sorted(expected, key=id_of)
    assert walked(api, user, q=q, limit=limit, **asked) == tasks


def id_of(task: Task) -> str:
    text: str = task["id"]
    return text


# Orders


@every_sort
def test_a_list_has_the_order_that_the_client_asks_for(
    api: httpx.Client, user: str, sort: str
) -> None:
    tasks = [create(api, user, title=title) for title in ["b", "a", "c", "a", "b"]]
    api.put(task_path(tasks[2]), json={"description": "last"})
    name, descends = sort.removeprefix("-"), sort.startswith("-")

    got = get(api, user, sort=sort).json()

    ascending = sorted(listed(api, user), key=lambda task: (task[name], task["id"]))
    assert got == (ascending[::-1] if descends else ascending)


@every_sort
@pytest.mark.parametrize("limit", [1, 2, 3, 5, 6])
def test_tasks_with_the_same_title_and_times_are_paged_by_their_ids(
    api: httpx.Client, postgres: str, user: str, sort: str, limit: int
) -> None:
    insert(postgres, user, 6)
    in_order = sorted(listed(api, user), key=id_of, reverse=sort.startswith("-"))

    assert walked(api, user, sort=sort, limit=limit) == in_order


# Limits


def test_a_page_has_at_most_limit_tasks_and_the_last_page_has_no_link(
    api: httpx.Client, user: str
) -> None:
    tasks = [create(api, user) for _ in range(7)]

    assert list(pages(api, user, limit=3)) == [tasks[:3], tasks[3:6], tasks[6:]]


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 5])
def test_a_page_of_large_tasks_has_a_link(api: httpx.Client, user: str, limit: int) -> None:
    """A list is sent in pieces. Any piece may begin with the task that the link is made from."""
    for number in range(6):
        create(api, user, title=f"Task {number}", description="💡" * 5000)

    found = [task["title"] for page in pages(api, user, limit=limit) for task in page]

    assert found == [f"Task {number}" for number in range(6)]


def test_a_full_page_may_be_the_last(api: httpx.Client, user: str) -> None:
    tasks = [create(api, user) for _ in range(6)]

    assert list(pages(api, user, limit=3)) == [tasks[:3], tasks[3:]]
    assert list(pages(api, user, limit=6)) == [tasks]
    assert list(pages(api, f"{user}-other", limit=6)) == [[]]


def test_a_list_without_a_limit_has_all_tasks_and_no_link(
    api: httpx.Client, postgres: str, user: str
) -> None:
    insert(postgres, user, 2001)

    response = get(api, user)

    assert len(response.json()) == 2001
    assert "link" not in response.headers
    assert [len(page) for page in pages(api, user, limit=1000)] == [1000, 1000, 1]
    assert walked(api, user, limit=1000, sort="-title") == get(api, user, sort="-title").json()


@pytest.mark.parametrize(
    "limit", ["0", "1001", "-1", "+1", "1.0", "1e2", "", " 1", "٣", "9" * 5000]
)
def test_an_invalid_limit_is_refused(api: httpx.Client, user: str, limit: str) -> None:
    assert_problem(get(api, user, limit=limit), 422, "limit: must be a whole number from 1 to 1000")


@pytest.mark.parametrize(
    ("query", "status", "detail"),
    [
        ("completed=maybe", 422, "completed: must be true or false"),
        ("completed=", 422, "completed: must be true or false"),
        (f"q={'q' * 501}", 422, "q: must have 0 to 500 characters"),
        ("q=%00", 422, "q: must not contain the NUL character"),
        ("q=%FF", 400, "The query must be percent-encoded UTF-8"),
        ("q=%ED%A0%80", 400, "The query must be percent-encoded UTF-8"),
        ("cursor=", 422, "cursor: must be taken from a Link"),
    ],
)
def test_an_invalid_parameter_is_named(
    api: httpx.Client, user: str, query: str, status: int, detail: str
) -> None:
    assert_problem(api.get(f"{tasks_path(user)}?{query}"), status, detail)


@pytest.mark.parametrize("sort", ["", "-", "--title", "title,id", "description"])
def test_an_invalid_order_is_refused(api: httpx.Client, user: str, sort: str) -> None:
    orders = f"{', '.join(map(repr, SORTS[:-1]))} or {SORTS[-1]!r}"
    assert_problem(get(api, user, sort=sort), 422, f"sort: must be {orders}")


def test_every_wrong_parameter_is_named_at_once(api: httpx.Client, user: str) -> None:
    response = get(api, user, completed="x", q="\0", sort="x", limit="x", cursor="x")

    assert_problem(response, 422)
    names = [error["loc"] for error in response.json()["errors"]]
    assert names == [["query", name] for name in ["sort", "limit", "cursor", "completed", "q"]]


def test_head_refuses_a_wrong_parameter_too(api: httpx.Client, user: str) -> None:
    assert api.head(f"{tasks_path(user)}?limit=0").status_code == 422


# Links

ODD = ['a&b=c #%"<>é', 'x>; rel="first", <y', "%2541", "a+b c", "limit=1&cursor=x", "a\r\nb", "😀"]


@pytest.mark.parametrize("text", ODD)
def test_a_link_keeps_any_filters(api: httpx.Client, user: str, text: str) -> None:
    owner = f"{user}/{text}"
    tasks = [create(api, owner, title=f"x{text}x", description="d") for _ in range(5)]
    create(api, owner, title="other")
    asked = {"completed": "false", "q": text, "sort": "-title", "limit": "2"}

    first = get(api, owner, **asked)

    link = urlsplit(first.links["next"]["url"])
    assert first.headers["link"] == f'<{link.path}?{link.query}>; rel="next"'
    assert link.path == tasks_path(owner)
    assert dict(parse_qsl(link.query, keep_blank_values=True)).items() > asked.items()
    assert link.query.count("cursor=") == 1
    assert walked(api, owner, **asked) == tasks[::-1]


def test_a_link_continues_from_a_link(api: httpx.Client, user: str) -> None:
    """The new link has a new cursor, and keeps unknown parameters."""
    for _ in range(3):
        create(api, user)
    first = api.get(f"{tasks_path(user)}?limit=1&colour=&q=&limit=1").links["next"]["url"]

    second = api.get(first).links["next"]["url"]

    names = [name for name, _ in parse_qsl(urlsplit(second).query, keep_blank_values=True)]
    assert names == ["limit", "colour", "q", "limit", "cursor"]
    assert "next" not in api.get(second).links


def test_head_has_the_link_too(api: httpx.Client, user: str) -> None:
    create(api, user)
    create(api, user)
    path = f"{tasks_path(user)}?limit=1"

    assert api.head(path).headers["link"] == api.get(path).headers["link"]


# Cursors


def cursor(*values: object) -> str:
    return urlsafe_b64encode(json.dumps(values).encode()).decode().rstrip("=")


SOME_ID = "019aa3c5-5d3e-7c1f-9d0a-6b1f2c3d4e5f"
NOW = "2026-11-21T09:30:00.123456+00:00"

BAD = {
    "empty": "",
    "garbage": "garbage",
    "no base64": "!!!!",
    "one more character": cursor("created_at", NOW, SOME_ID) + "!",
    "one character less": cursor("created_at", NOW, SOME_ID)[:-1],
    "no ascii": "é",
    "surrogates": cursor("-title", "\ud800", SOME_ID),
    "nul": cursor("-title", "\0", SOME_ID),
    "no utf-8": urlsafe_b64encode(b'["-title","\xff","%s"]' % SOME_ID.encode()).decode(),
    "no json": urlsafe_b64encode(b"created_at").decode(),
    "deep": urlsafe_b64encode(b"[" * 15_000).decode(),
    "an object": urlsafe_b64encode(b'{"sort":"title"}').decode(),
    "too little": cursor("created_at", NOW),
    "too much": cursor("created_at", NOW, SOME_ID, SOME_ID),
    "null": cursor("created_at", None, SOME_ID),
    "a number for a time": cursor("created_at", 0, SOME_ID),
    "a list for a title": cursor("-title", ["a"], SOME_ID),
    "no id": cursor("created_at", NOW, "7"),
    "a number for an id": cursor("created_at", NOW, 7),
    "no time": cursor("created_at", "yesterday", SOME_ID),
    "beyond infinity": cursor("created_at", "+infinity", SOME_ID),
    "a time without a zone": cursor("created_at", "2026-11-21T09:30:00", SOME_ID),
    "a day": cursor("created_at", "2026-11-21", SOME_ID),
    "another zone": cursor("created_at", "2026-11-21T09:30:00+01:00", SOME_ID),
    "no such day": cursor("created_at", "2025-02-29T09:30:00+00:00", SOME_ID),
    "the year 0": cursor("created_at", "0000-01-01T00:00:00+00:00", SOME_ID),
    "before the first day": cursor("created_at", "4714-11-23T23:59:59+00:00 BC", SOME_ID),
    "after the last year": cursor("created_at", "294277-01-01T00:00:00+00:00", SOME_ID),
    "no order": cursor("id", NOW, SOME_ID),
    "another order": cursor("updated_at", NOW, SOME_ID),
    "the other way round": cursor("-created_at", NOW, SOME_ID),
    "of titles": cursor("title", "Buy milk", SOME_ID),
    "a title too long": cursor("-title", "t" * 501, SOME_ID),
    "huge": cursor("-title", "t" * 15_000, SOME_ID),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_an_invalid_cursor_is_refused(api: httpx.Client, user: str, bad: str) -> None:
    for sort in ["created_at", "-title"]:
        response = get(api, user, cursor=bad, sort=sort)
        assert_problem(response, 422)
        assert [error["loc"] for error in response.json()["errors"]] == [["query", "cursor"]]


def test_a_cursor_of_another_order_is_refused(api: httpx.Client, user: str) -> None:
    response = get(api, user, cursor=cursor("title", "Buy milk", SOME_ID))

    assert_problem(response, 422, "cursor: belongs to a list in another order")


def test_a_cursor_works_without_a_limit_and_with_another_limit(
    api: httpx.Client, user: str
) -> None:
    tasks = [create(api, user) for _ in range(5)]
    link = get(api, user, limit=1).links["next"]["url"]
    after = dict(parse_qsl(urlsplit(link).query))["cursor"]

    assert get(api, user, cursor=after).json() == tasks[1:]
    assert get(api, user, cursor=after, limit=2).json() == tasks[1:3]


def test_a_cursor_of_another_users_list_shows_no_task_of_the_other_user(
    api: httpx.Client, user: str
) -> None:
    create(api, f"{user}-other")
    mine = create(api, user)
    create(api, f"{user}-other")
    theirs = get(api, f"{user}-other", limit=1).links["next"]["url"]
    after = dict(parse_qsl(urlsplit(theirs).query))["cursor"]

    assert get(api, user, cursor=after).json() == [mine]


@thorough
@given(text=st.text(st.characters(codec="utf-8"), min_size=1))
def test_no_random_text_is_a_cursor(api: httpx.Client, user: str, text: str) -> None:
    assert_problem(get(api, user, cursor=text), 422)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(SORTS),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=2),
)


@thorough
@given(values=st.lists(json_values, max_size=4))
def test_no_random_json_is_a_cursor(api: httpx.Client, user: str, values: list[object]) -> None:
    assert_problem(get(api, user, cursor=cursor(*values)), 422)


@pytest.fixture(scope="module")
def titled(api: httpx.Client) -> list[Task]:
    """Tasks whose titles have the same order in every locale."""
    user = f"titled-{uuid4().hex}"
    return [create(api, user, title=title) for title in ["a", "ab", "b", "b", "ba", "c", "c"]]


times = st.datetimes(timezones=st.just(UTC))


@thorough
@given(data=st.data())
def test_a_cursor_at_any_position_leads_to_the_tasks_after_it(
    api: httpx.Client, titled: list[Task], data: st.DataObject
) -> None:
    """The position may have no task, because its task was deleted."""
    name = data.draw(st.sampled_from(["title", "created_at"]))
    readers: dict[str, Callable[[str], Any]] = {
        "title": str,
        "created_at": datetime.fromisoformat,
    }
    of = readers[name]
    own = st.sampled_from([of(task[name]) for task in titled])
    value: Any = data.draw(own | {"title": st.text("abc", max_size=3), "created_at": times}[name])
    task_id = data.draw(st.sampled_from([task["id"] for task in titled]) | st.uuids().map(str))

    after = cursor(name, value.isoformat() if name == "created_at" else value, task_id)
    tasks = get(api, titled[0]["user_id"], sort=name, cursor=after).json()

    assert [id_of(task) for task in tasks] == [
        id_of(task)
        for task in sorted(titled, key=lambda task: (of(task[name]), UUID(task["id"])))
        if (of(task[name]), UUID(task["id"])) > (value, UUID(task_id))
    ]


# Times in their order. Python cannot represent most of these times.
TIMES = [
    "-infinity",
    "4714-11-24T00:00:00+00:00 BC",
    "0001-02-29T12:00:00.5+00:00 BC",
    "0001-01-01T00:00:00.000000+00:00",
    "0001-01-01T00:00:00.000001+00:00",
    "2026-11-21T09:30:00.123456+00:00",
    "9999-12-31T23:59:59.999999+00:00",
    "10000-01-01T00:00:00.000000+00:00",
    "294276-12-31T23:59:59.999999+00:00",
    "infinity",
]


@pytest.mark.parametrize("sort", [sort for sort in SORTS if "priority" not in sort])
@pytest.mark.parametrize("limit", [1, 3])
def test_pages_continue_from_any_time_that_postgresql_holds(
    api: httpx.Client, postgres: str, user: str, sort: str, limit: int
) -> None:
    rows = ", ".join(
        f"(gen_random_uuid(), '{user}', 'Task {n}', true, '{time}', '{time}', '{time}', '{time}')"
        for n, time in enumerate(TIMES)
        for _ in range(2)
    )
    columns = "id, user_id, title, completed, created_at, updated_at, due_date, completed_at"
    asyncio.run(execute(postgres, f"INSERT INTO tasks ({columns}) VALUES {rows}"))
    twice = [time for time in TIMES for _ in range(2)]

    tasks = walked(api, user, sort=sort, limit=limit)

    assert [task["created_at"] for task in tasks] == twice[:: -1 if sort.startswith("-") else 1]
    assert tasks == get(api, user, sort=sort).json()


def test_a_task_of_any_time_can_be_read_and_changed(
    api: httpx.Client, postgres: str, user: str
) -> None:
    tasks = [create(api, user, title=time) for time in TIMES]
    for title in TIMES:
        times = f"UPDATE tasks SET created_at = '{title}', updated_at = '{title}'"
        asyncio.run(execute(postgres, f"{times} WHERE user_id = '{user}' AND title = '{title}'"))

    for task in tasks:
        got = api.get(task_path(task))
        etag = {"If-Match": got.headers["etag"]}
        done = api.patch(task_path(task), json={"completed": True}, headers=etag)
        assert (done.status_code, done.json()["created_at"]) == (200, task["title"])


def test_a_repeated_key_of_any_time_gets_the_first_answer(
    api: httpx.Client, postgres: str, user: str
) -> None:
    for instant in TIMES[-3:]:
        task = {"title": instant}
        key = {"Idempotency-Key": uuid4().hex}
        first = api.post(tasks_path(user), json=task, headers=key).json()
        times = f"UPDATE idempotency_keys SET created_at = '{instant}' WHERE user_id = '{user}'"
        asyncio.run(execute(postgres, times))

        again = api.post(tasks_path(user), json=task, headers=key)

        assert (again.status_code, again.json()["id"]) == (201, first["id"])
        assert again.json()["created_at"] == instant


@pytest.fixture(scope="module")
def holds(postgres: str) -> Callable[[str], bool]:
    """Whether PostgreSQL can hold this time."""

    async def ask(text: str) -> bool:
        connection = await asyncpg.connect(postgres)
        try:
            await connection.fetchval("SELECT $1::text::timestamptz::text", text)
        except asyncpg.DatetimeFieldOverflowError:
            return False
        finally:
            await connection.close()
        return True

    return lambda text: asyncio.run(ask(text))


years = st.sampled_from([0, 1, 4, 100, 4713, 4714, 4715, 9999, 10000, 294276, 294277])


@thorough
@given(
    year=years | st.integers(0, 999_999),
    month=st.integers(1, 12),
    day=st.integers(28, 31) | st.integers(1, 31),
    era=st.sampled_from(["", " BC"]),
)
def test_a_cursor_accepts_exactly_the_times_that_postgresql_holds(
    api: httpx.Client,
    user: str,
    holds: Callable[[str], bool],
    year: int,
    month: int,
    day: int,
    era: str,
) -> None:
    time = f"{year:04}-{month:02}-{day:02}T23:59:59.999999+00:00{era}"
    expected = 200 if holds(time) else 422

    assert get(api, user, cursor=cursor("created_at", time, SOME_ID)).status_code == expected


# Changes between pages


@every_sort
def test_pages_continue_after_a_deleted_task(api: httpx.Client, user: str, sort: str) -> None:
    for _ in range(6):
        create(api, user)
    in_order = get(api, user, sort=sort).json()
    link = get(api, user, sort=sort, limit=2).links["next"]["url"]

    for gone in in_order[:3]:
        api.delete(task_path(gone))

    assert api.get(link).json() == in_order[3:5]


def test_a_task_added_before_the_cursor_repeats_no_task_on_the_next_page(
    api: httpx.Client, user: str
) -> None:
    tasks = [create(api, user) for _ in range(4)]
    link = get(api, user, sort="-created_at", limit=2).links["next"]["url"]
    create(api, user)

    assert api.get(link).json() == [tasks[1], tasks[0]]


Writer = Callable[[httpx.AsyncClient, str, list[Task], int], Coroutine[None, None, None]]


async def come_and_go(api: httpx.AsyncClient, user: str, tasks: list[Task], number: int) -> None:
    """Create a task, and delete the oldest."""
    created = await api.post(tasks_path(user), json={"title": f"Task {number % 5}"})
    tasks.append(created.json())
    await api.delete(task_path(tasks.pop(0)))


OF_CHANGES = ("completed_at", "updated_at")
"""A change moves a task in these orders."""


async def change(api: httpx.AsyncClient, _: str, tasks: list[Task], number: int) -> None:
    await api.patch(f"{task_path(tasks[number % len(tasks)])}/complete")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("sort", "writers"),
    [
        *((sort, [come_and_go]) for sort in SORTS if sort.endswith(OF_CHANGES)),
        *((sort, [come_and_go, change]) for sort in SORTS if not sort.endswith(OF_CHANGES)),
    ],
)
async def test_pages_have_each_task_once_while_other_tasks_come_go_and_change(
    server: Server, user: str, sort: str, writers: list[Writer]
) -> None:
    async with server.async_client() as api:

        async def created(number: int) -> Task:
            answer = await api.post(tasks_path(user), json={"title": f"Task {number % 5}"})
            task: Task = answer.json()
            return task

        tasks = [await created(number) for number in range(40)]
        staying, going = tasks[::2], tasks[1::2]
        enough, written = asyncio.Event(), dict.fromkeys(writers, 0)

        concerned: dict[Writer, list[Task]] = {come_and_go: going, change: staying}

        async def write(writer: Writer) -> None:
            for number in count():
                await writer(api, user, concerned[writer], number)
                written[writer] = number
                if enough.is_set():
                    break

        async def walk() -> list[str]:
            ids: list[str] = []
            next_page: str | None = f"{tasks_path(user)}?sort={quote(sort)}&limit=6"
            while next_page is not None:
                answer = await api.get(next_page)
                assert answer.status_code == 200
                ids += [task["id"] for task in answer.json()]
                next_page = answer.links.get("next", {}).get("url")
            return ids

        async with asyncio.TaskGroup() as group:
            for writer in writers:
                group.create_task(write(writer))
            while min(written.values()) < 20:
                ids = await walk()
                assert len(ids) == len(set(ids))
                assert {task["id"] for task in staying} <= set(ids)
            enough.set()
