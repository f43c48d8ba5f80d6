"""A second resource, built on the framework, keeps the rules of the first."""

import asyncio
from collections.abc import Iterator
from itertools import chain
from typing import Any
from uuid import uuid4

import httpx
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import Connection

from src.framework.sql.engine import create_engine
from src.framework.sql.statements import insert_row, insert_row_once
from src.migrations import upgrade
from tests.conftest import database
from tests.notes import migration
from tests.notes.model import Note as Model
from tests.notes.schema import Sort
from tests.notes.service import CREATE, CREATE_ONCE, GET, KEYS, NOTES, list_statement
from tests.serving import FORKED, free_port, serving
from tests.tasks import assert_problem, tasks_path
from tests.tokens import SECRET, TokenOfThePath, bearer, token

Note = dict[str, Any]
FIELDS = ["id", "user_id", "text", "colour", "created_at", "updated_at"]
OTHER = '"0123456789abcdef0123456789abcdef"'


async def make_tables(url: str) -> None:
    engine = create_engine(url, pool_size=1)
    await upgrade(engine, url)
    async with engine.connect() as connection:
        await connection.run_sync(migrate)
    await engine.dispose()


def migrate(connection: Connection) -> None:
    own = {"include_name": lambda name, kind, _: kind != "table" or name == "notes"}
    context = MigrationContext.configure(connection, opts=own)
    with Operations.context(context):
        migration.upgrade()
    assert compare_metadata(context, Model.metadata) == []


@pytest.fixture(scope="module")
def api(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of a service with tokens that also has notes."""
    port = str(free_port())
    command = (FORKED, "uvicorn", "tests.notes.app:app", "--port", port)
    settings = {"PORT": port, "AUTH_MODE": "jwt", "AUTH_SECRET": SECRET}
    with database(postgres) as url:
        asyncio.run(make_tables(url))
        log = tmp_path_factory.mktemp("notes") / "log"
        with serving(log, command, DATABASE_URL=url, **settings) as server:
            server.auth = TokenOfThePath()
            with server.client() as client:
                yield client


def notes_path(user: str) -> str:
    return tasks_path(user).replace("/tasks", "/notes")


def note_path(note: Note) -> str:
    return f"{notes_path(note['user_id'])}/{note['id']}"


def create(api: httpx.Client, user: str, **fields: object) -> Note:
    response = api.post(notes_path(user), json={"text": "Milk is out"} | fields)
    assert response.status_code == 201, response.text
    note: Note = response.json()
    return note


def listed(api: httpx.Client, user: str, **query: str | int) -> list[Note]:
    response = api.get(notes_path(user), params=query)
    assert response.status_code == 200, response.text
    notes: list[Note] = response.json()
    return notes


# Create, read, update, delete


def test_a_note_is_created_read_and_listed_whole(api: httpx.Client, user: str) -> None:
    response = api.post(notes_path(user), json={"text": "Milk is out", "colour": "red"})

    note = response.json()
    assert list(note) == FIELDS
    assert (note["user_id"], note["text"], note["colour"]) == (user, "Milk is out", "red")
    assert note["created_at"] == note["updated_at"]
    got = api.get(response.headers["location"])
    assert got.content == response.content
    assert got.headers["etag"] == response.headers["etag"]
    assert listed(api, user) == [note]


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
@pytest.mark.parametrize("changes", [{"text": "Bought"}, {"colour": None}, {"colour": "blue"}])
def test_a_change_sets_only_the_fields_that_it_names(
    api: httpx.Client, user: str, method: str, changes: dict[str, Any]
) -> None:
    note, other = create(api, user, colour="red"), create(api, user)

    changed = api.request(method, note_path(note), json=changes)

    assert changed.json() == note | changes | {"updated_at": changed.json()["updated_at"]}
    assert changed.json()["updated_at"] > note["updated_at"]
    assert changed.headers["etag"] == api.get(note_path(note)).headers["etag"]
    assert listed(api, user) == [changed.json(), other]


def test_an_empty_change_changes_nothing(api: httpx.Client, user: str) -> None:
    note = create(api, user)

    assert api.patch(note_path(note), json={}).json() == note


def test_a_deleted_note_is_gone(api: httpx.Client, user: str) -> None:
    note, other = create(api, user), create(api, user)

    assert api.delete(note_path(note)).status_code == 200

    assert_problem(api.get(note_path(note)), 404, "Note not found")
    assert listed(api, user) == [other]


# Missing notes, and notes of other users

ENDPOINTS = [("GET", None), ("PUT", {"text": "x"}), ("PATCH", {"text": "x"}), ("DELETE", None)]
every_endpoint = pytest.mark.parametrize(("method", "body"), ENDPOINTS)


@every_endpoint
def test_a_missing_note_is_404(api: httpx.Client, user: str, method: str, body: object) -> None:
    response = api.request(method, f"{notes_path(user)}/{uuid4()}", json=body)

    assert_problem(response, 404, "Note not found")


@every_endpoint
@pytest.mark.parametrize("headers", [{}, {"If-Match": OTHER}])
def test_another_users_note_is_404_and_stays(
    api: httpx.Client, user: str, method: str, body: object, headers: dict[str, str]
) -> None:
    theirs = create(api, f"{user}-other")
    path = note_path(theirs | {"user_id": user})

    response = api.request(method, path, json=body, headers=headers)

    assert_problem(response, 404, "Note not found")
    assert listed(api, f"{user}-other") == [theirs]
    assert listed(api, user) == []


@every_endpoint
def test_another_users_token_is_refused(
    api: httpx.Client, user: str, method: str, body: object
) -> None:
    note = create(api, user)

    response = api.request(method, note_path(note), json=body, headers=bearer(token("other")))

    assert_problem(response, 403)
    assert listed(api, user) == [note]


@pytest.mark.parametrize(
    "body",
    [{}, {"text": None}, {"text": ""}, {"text": "x" * 2001}, {"text": "x", "colour": "a"}],
)
def test_a_wrong_field_is_refused(api: httpx.Client, user: str, body: object) -> None:
    assert_problem(api.post(notes_path(user), json=body), 422)
    assert listed(api, user) == []


# Keys


def keyed(api: httpx.Client, user: str, **body: object) -> httpx.Response:
    return api.post(notes_path(user), json=body, headers={"Idempotency-Key": "key"})


def test_a_repeated_key_gets_the_first_answer(api: httpx.Client, user: str) -> None:
    first = keyed(api, user, text="Milk is out")
    api.delete(note_path(first.json()))

    again = keyed(api, user, text="Milk is out", colour=None)

    assert first.status_code == again.status_code == 201
    assert again.content == first.content
    assert listed(api, user) == []


@pytest.mark.parametrize("body", [{"text": "Other"}, {"text": "Milk is out", "colour": "red"}])
def test_a_key_with_another_note_is_refused(
    api: httpx.Client, user: str, body: dict[str, Any]
) -> None:
    first = keyed(api, user, text="Milk is out")

    assert_problem(keyed(api, user, **body), 422)
    assert listed(api, user) == [first.json()]


def test_a_tasks_key_is_refused_for_a_note(api: httpx.Client, user: str) -> None:
    task = api.post(
        tasks_path(user), json={"title": "Buy milk"}, headers={"Idempotency-Key": "key"}
    )

    note = keyed(api, user, text="Buy milk")

    assert task.status_code == 201
    assert_problem(note, 422, "Idempotency-Key: was used for another request; send a new key")
    assert listed(api, user) == []


# Conditions


@pytest.mark.parametrize(("method", "body"), ENDPOINTS[1:])
def test_a_change_to_another_state_is_refused(
    api: httpx.Client, user: str, method: str, body: object
) -> None:
    note = create(api, user)
    stale = api.get(note_path(note)).headers["etag"]
    current = api.patch(note_path(note), json={"colour": "red"})
    etag = current.headers["etag"]

    for headers in [{"If-Match": stale}, {"If-None-Match": etag}, {"If-None-Match": "*"}]:
        refused = api.request(method, note_path(note), json=body, headers=headers)
        assert_problem(refused, 412)
    assert listed(api, user) == [current.json()]

    done = api.request(method, note_path(note), json=body, headers={"If-Match": etag})
    assert done.status_code == 200


def test_a_current_copy_is_not_sent_again(api: httpx.Client, user: str) -> None:
    for path in [note_path(create(api, user)), notes_path(user)]:
        etag = api.get(path).headers["etag"]
        assert api.get(path, headers={"If-None-Match": etag}).status_code == 304


# Pages


def walked(api: httpx.Client, user: str, **query: str | int) -> list[Note]:
    response = api.get(notes_path(user), params=query)
    pages = [response.json()]
    while "next" in response.links:
        response = api.get(response.links["next"]["url"])
        pages.append(response.json())
    return list(chain.from_iterable(pages))


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
@pytest.mark.parametrize("backwards", ["", "-"])
def test_the_pages_together_are_the_list(
    api: httpx.Client, user: str, limit: int, backwards: str
) -> None:
    step = -1 if backwards else 1
    notes = [create(api, user, colour=colour) for colour in ["red", None, "blue", None, "blue"]]
    by_colour = {"": [2, 4, 0, 1, 3], "-": [0, 4, 2, 3, 1]}[backwards]

    assert walked(api, user, sort=f"{backwards}created_at", limit=limit) == notes[::step]
    assert walked(api, user, sort=f"{backwards}colour", limit=limit) == [
        notes[number] for number in by_colour
    ]
    assert walked(api, user, colour="blue", limit=limit) == [notes[2], notes[4]]


def test_without_a_limit_a_long_list_is_whole(api: httpx.Client, user: str) -> None:
    notes = [create(api, user) for _ in range(101)]

    assert listed(api, user) == notes


@pytest.mark.parametrize("cursor", ["nonsense", "WyJ0ZXh0IiwieCIsIjciXQ"])
def test_an_invalid_cursor_is_refused(api: httpx.Client, user: str, cursor: str) -> None:
    assert_problem(api.get(notes_path(user), params={"cursor": cursor}), 422)


# Statements


def test_every_statement_is_scoped_by_its_owner() -> None:
    by = frozenset({"colour", "position"})
    orders: list[Sort] = ["created_at", "-colour"]
    for statement in [GET, *(list_statement(sort, by) for sort in orders)]:
        owner = statement.parameters.index("user_id") + 1
        assert statement.sql.count(f"WHERE notes.user_id = ${owner}::VARCHAR") == 1
    for creation in [CREATE, CREATE_ONCE]:
        for statement in filter(None, creation):
            assert "FROM notes" not in statement.sql


@pytest.mark.parametrize("given", [["text"], ["text", "colour", "id"], ["text", "colour", "size"]])
def test_a_create_with_other_fields_than_the_tables_is_a_type_error(given: list[str]) -> None:
    with pytest.raises(TypeError, match="notes"):
        insert_row(NOTES, given)
    with pytest.raises(TypeError, match="notes"):
        insert_row_once(NOTES, given, KEYS, "task_id")
