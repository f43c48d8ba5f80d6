"""A new column takes the README's recipe: the model, the schema, the listing, `make migration`."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import database
from tests.serving import BACKEND, COMMAND, serving
from tests.tasks import FIELDS, Task, assert_problem, create, listed, task_path, tasks_path

JSON = {"Content-Type": "application/json"}
NOON, LATER = "2026-11-21T12:00:00.000000+00:00", "2026-11-22T12:00:00.500000+00:00"

# For each file: a line of the file, and the new lines that follow this line. The new lines add a
# time, a text, a whole number, a truth value and a list, as the README says.
MORE = {
    "models/task.py": {
        "    description: str | None = Field(sa_type=Text)\n": """\
    due_at: datetime | None
    place: str | None = Field(max_length=50)
    minutes: int | None
    pinned: bool = Field(sa_column_kwargs={"server_default": "false"})
    links: list[str] = Field(sa_type=ARRAY(Text), sa_column_kwargs={"server_default": "{}"})
"""
    },
    "schemas/task.py": {
        "MAX_TAGS = 20\n": """
from src.schemas.fields import WholeNumber

Place = Annotated[str, Characters(1, 50)]
Minutes = Annotated[int, WholeNumber(0, 1000)]
Links = Annotated[list[Place], Field(max_length=3)]
""",
        "    description: Description | None = None\n": """\
    due_at: SentTime = None
    place: Place | None = None
    minutes: Minutes | None = None
    pinned: StrictBool = Field(default=False, json_schema_extra=without_default)
    links: Links = Field(default_factory=list)
""",
        "    description: Description | None\n": """\
    due_at: SentTime
    place: Place | None
    minutes: Minutes | None
    pinned: StrictBool
    links: Links
""",
        "    description: str | None\n": """\
    due_at: datetime | None
    place: str | None
    minutes: int | None
    pinned: bool
    links: list[str]
""",
    },
    "schemas/task_listing.py": {
        '    "-due_date",\n': "".join(
            f'    "{sign}{name}",\n'
            for name in ("due_at", "place", "minutes", "pinned")
            for sign in ("", "-")
        )
    },
}
# The README's lines for names that clients may have used already.
TAKEN_OVER = '''
    op.execute("""
        UPDATE tasks SET place = further ->> 'place', further = nullif(further - 'place', '{}')
        WHERE jsonb_typeof(further -> 'place') = 'string'
        AND length(further ->> 'place') BETWEEN 1 AND 50
    """)
'''
NEW = ["due_at", "place", "minutes", "pinned", "links"]


def copy_with_new_columns(folder: Path) -> dict[str, str]:
    """Edit a copy of `src`, and let `make migration` write the migration.

    Return the variables for a service that runs the copy.
    """
    shutil.copytree(BACKEND / "src", folder / "src")
    for name, lines in MORE.items():
        path = folder / "src" / name
        text = path.read_text()
        for line, more in lines.items():
            assert text.count(line) == 1, line
            text = text.replace(line, line + more)
        path.write_text(text)
    environment = {"PYTHONPATH": f"{folder}:{BACKEND}"}
    program = [sys.executable, "-P", "-m", "tests.make_migration", "new_columns"]
    subprocess.run(program, env=os.environ | environment, cwd=BACKEND, check=True)
    [migration] = (folder / "src/migrations/versions").glob("*_new_columns.py")
    migration.write_text(migration.read_text().rstrip() + TAKEN_OVER)
    return environment


@pytest.fixture(scope="module")
def api(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of the service with the new column, on a table that already had tasks."""
    folder = tmp_path_factory.mktemp("due")
    environment = copy_with_new_columns(folder)
    program, *arguments = COMMAND
    with database(postgres) as url:
        with serving(folder / "before", DATABASE_URL=url) as server, server.client() as client:
            create(client, "early")
            keyed(client, "early", {"title": "Buy milk", "description": None})
            keyed(client, "early", {"title": "Buy bread", "description": "Rye"}, "bread")
            for place in ("Berlin", {"city": "Berlin"}, "x" * 51):
                create(client, "kept", place=place, minutes=5, other={"a": 1})
        with (
            serving(
                folder / "log",
                (program, "-P", *arguments),  # Python must not import from the working folder
                DATABASE_URL=url,
                **environment,
            ) as server,
            server.client() as client,
        ):
            yield client


def test_a_further_member_that_fits_becomes_the_column_of_its_name(
    api: httpx.Client,
) -> None:
    """A member that does not fit stays in the table, and no answer has a name twice."""
    texts = [api.get(task_path(task)).text for task in listed(api, "kept")]
    tasks = listed(api, "kept")

    assert [task["place"] for task in tasks] == ["Berlin", None, None]
    assert [task["minutes"] for task in tasks] == [None] * 3
    assert [task["other"] for task in tasks] == [{"a": 1}] * 3
    assert [text.count('"place"') for text in texts] == [1, 1, 1]
    assert [text.count('"minutes"') for text in texts] == [1, 1, 1]
    moved = api.patch(task_path(tasks[1]), json={"place": "Rome", "other": {"b": 2}}).json()
    assert (moved["place"], moved["other"]) == ("Rome", {"a": 1, "b": 2})


def keyed(api: httpx.Client, user: str, body: dict[str, Any], key: str = "milk") -> httpx.Response:
    return api.post(tasks_path(user), json=body, headers={"Idempotency-Key": key})


def test_the_column_is_created_read_and_listed_in_its_place(api: httpx.Client, user: str) -> None:
    task = create(api, user, due_at=NOON)
    without = create(api, user)

    assert task["due_at"] == NOON
    assert without["due_at"] is None
    assert list(task) == [*FIELDS[:4], *NEW, *FIELDS[4:]]
    assert api.get(task_path(task)).json() == task
    assert listed(api, user) == [task, without]


def test_a_repeated_key_returns_the_column(api: httpx.Client, user: str) -> None:
    body = {"title": "Buy milk", "due_at": NOON}

    first, again = keyed(api, user, body), keyed(api, user, body)

    assert first.status_code == again.status_code == 201
    assert first.json()["due_at"] == NOON
    assert again.content == first.content
    assert listed(api, user) == [first.json()]


@pytest.mark.parametrize("other", [{"due_at": LATER}, {"due_at": None}, {}])
def test_the_same_key_with_another_value_is_refused(
    api: httpx.Client, user: str, other: dict[str, Any]
) -> None:
    first = keyed(api, user, {"title": "Buy milk", "due_at": NOON})

    response = keyed(api, user, {"title": "Buy milk"} | other)

    assert_problem(response, 422, "Idempotency-Key: was used for another request; send a new key")
    assert listed(api, user) == [first.json()]


def test_a_key_from_before_the_column_still_matches(api: httpx.Client) -> None:
    before = listed(api, "early")

    milk = keyed(api, "early", {"title": "Buy milk"})
    bread = keyed(
        api, "early", {"title": "Buy bread", "description": "Rye", "due_at": None}, "bread"
    )

    assert [milk.json(), bread.json()] == before[1:]
    assert listed(api, "early") == before


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_the_column_is_changed_cleared_and_kept(api: httpx.Client, user: str, method: str) -> None:
    task = create(api, user, due_at=NOON)

    due = [
        api.request(method, task_path(task), json=changes).json()["due_at"]
        for changes in [{"title": "Buy bread"}, {"due_at": LATER}, {"due_at": None}]
    ]

    assert due == [NOON, LATER, None]


def test_a_wrong_value_is_named(api: httpx.Client, user: str) -> None:
    response = api.post(tasks_path(user), json={"title": "Buy milk", "due_at": "soon"})

    assert_problem(response, 422)
    assert [error["loc"] for error in response.json()["errors"]] == [["body", "due_at"]]


def walked(api: httpx.Client, user: str, sort: str, limit: int) -> list[Task]:
    response = api.get(tasks_path(user), params={"sort": sort, "limit": limit})
    pages = [response.json()]
    while "next" in response.links:
        response = api.get(response.links["next"]["url"])
        pages.append(response.json())
    return list(chain.from_iterable(pages))


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_pages_in_the_columns_order_have_each_task_once(
    api: httpx.Client, user: str, limit: int
) -> None:
    """Tasks without a value come last in both directions."""
    tasks = [create(api, user, due_at=due) for due in [LATER, None, NOON, None, NOON, None]]
    in_order = [tasks[number] for number in [2, 4, 0, 1, 3, 5]]

    assert walked(api, user, "due_at", limit) == in_order
    assert walked(api, user, "-due_at", limit) == [tasks[number] for number in [0, 4, 2, 5, 3, 1]]


VALUES: dict[str, list[Any]] = {
    "place": ["Berlin", "Ägypten", None],
    "minutes": [7, 1000, None],
    "pinned": [False, True],
    "links": [["a", "b"], []],
}


IN_ORDER: dict[str, list[Any]] = {
    "place": ["Ägypten", "Berlin"],
    "minutes": [7, 1000],
    "pinned": [False, True],
}


@pytest.mark.parametrize("name", VALUES)
def test_a_column_of_each_kind_is_set_changed_and_kept(
    api: httpx.Client, user: str, name: str
) -> None:
    first, *others = VALUES[name]
    task = create(api, user, **{name: first})

    assert task[name] == first
    for value in others:
        assert api.put(task_path(task), json={name: value}).json()[name] == value
        assert api.patch(task_path(task), json={"title": "Other"}).json()[name] == value
    assert_problem(api.put(task_path(task), json={name: {}}), 422)


@pytest.mark.parametrize("name", ["place", "minutes", "pinned"])
@pytest.mark.parametrize("sign", ["", "-"])
def test_a_list_is_in_the_order_of_a_column_of_each_kind(
    api: httpx.Client, user: str, name: str, sign: str
) -> None:
    values = VALUES[name] * 2
    for value in values:
        create(api, user, **{name: value})

    pages = [task[name] for task in walked(api, user, f"{sign}{name}", 1)]

    have_one = [value for value in pages if value is not None]
    in_order = [each for each in IN_ORDER[name] for _ in range(2)]
    assert have_one == (in_order[::-1] if sign else in_order)
    assert pages[len(have_one) :] == [None] * values.count(None)
    assert len(pages) == len(values)


def test_ninety_minutes_may_be_written_as_a_decimal(api: httpx.Client, user: str) -> None:
    """JSON Schema calls 90.0 an integer."""
    response = api.post(tasks_path(user), content=b'{"title": "x", "minutes": 90.0}', headers=JSON)

    assert response.json()["minutes"] == 90
    for minutes in (90.5, "90", True, 1001, -1):
        assert_problem(api.post(tasks_path(user), json={"title": "x", "minutes": minutes}), 422)
