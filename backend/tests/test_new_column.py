"""Adding a column means editing the model, the schema and a migration, nothing else."""

import shutil
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import httpx
import pytest

from src.migrations import HEAD
from tests.conftest import database
from tests.serving import BACKEND, COMMAND, serving
from tests.tasks import FIELDS, Task, assert_problem, create, listed, task_path, tasks_path

NOON, LATER = "2026-11-21T12:00:00+00:00", "2026-11-22T12:00:00.5+00:00"

# The lines in each file after which the new ones go.
MORE = {
    "models/task.py": {
        "    description: str | None = Field(sa_type=Text)\n": "    due_at: datetime | None\n"
    },
    "schemas/task.py": {
        "from typing_extensions import TypedDict\n": "from pydantic import AwareDatetime\n",
        "    description: Description | None = None\n": "    due_at: AwareDatetime | None = None\n",
        "    description: Description | None\n": "    due_at: AwareDatetime | None\n",
        "    description: str | None\n": "    due_at: datetime | None\n",
    },
    "schemas/task_listing.py": {'    "-due_date",\n': '    "due_at",\n    "-due_at",\n'},
}
MIGRATION = f'''
import sqlalchemy as sa
from alembic import op

revision = "9999_due_at"
down_revision = "{HEAD}"


def upgrade() -> None:
    op.add_column("tasks", sa.Column("due_at", sa.DateTime(timezone=True)))
'''


def copy_with_due_at(folder: Path) -> None:
    shutil.copytree(BACKEND / "src", folder / "src")
    for name, lines in MORE.items():
        path = folder / "src" / name
        text = path.read_text()
        for line, more in lines.items():
            assert text.count(line) == 1, line
            text = text.replace(line, line + more)
        path.write_text(text)
    (folder / "src/migrations/versions/9999_due_at.py").write_text(MIGRATION)


@pytest.fixture(scope="module")
def api(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of the service with the new column, on a table that already had tasks."""
    folder = tmp_path_factory.mktemp("due")
    copy_with_due_at(folder)
    program, *arguments = COMMAND
    with database(postgres) as url:
        with serving(folder / "before", DATABASE_URL=url) as server, server.client() as client:
            create(client, "early")
            keyed(client, "early", {"title": "Buy milk", "description": None})
            keyed(client, "early", {"title": "Buy bread", "description": "Rye"}, "bread")
        with (
            serving(
                folder / "log",
                (program, "-P", *arguments),  # not the folder that it starts in
                DATABASE_URL=url,
                PYTHONPATH=str(folder),
            ) as server,
            server.client() as client,
        ):
            yield client


def keyed(api: httpx.Client, user: str, body: dict[str, Any], key: str = "milk") -> httpx.Response:
    return api.post(tasks_path(user), json=body, headers={"Idempotency-Key": key})


def test_the_column_is_created_read_and_listed_in_its_place(api: httpx.Client, user: str) -> None:
    task = create(api, user, due_at=NOON)
    without = create(api, user)

    assert task["due_at"] == NOON
    assert without["due_at"] is None
    assert list(task) == [*FIELDS[:4], "due_at", *FIELDS[4:]]
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

    assert_problem(response, 422, "Idempotency-Key: was used for another request")
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
