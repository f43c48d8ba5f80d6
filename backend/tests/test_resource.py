"""How much code a resource takes, and that no part of a field or a resource is missing."""

import ast
from collections.abc import Iterable
from enum import Enum
from pathlib import Path
from typing import Any, get_args

import pytest
from fastapi import Response
from pydantic import BaseModel
from starlette.responses import JSONResponse

from src.config import Settings
from src.framework.sql.engine import Statement
from src.framework.sql.statements import MADE_HERE, table_of
from src.framework.web.routing import StrictRoute
from src.main import create_app
from src.migrations import MODELS, REVISIONS
from src.schemas.task import TaskCreate, TaskPublic, TaskUpdate
from src.schemas.task_listing import Sort
from src.services import batch_service, expiry_service, feed_service, task_service
from tests.notes.model import Note
from tests.notes.schema import NoteCreate, NotePublic, NoteUpdate
from tests.serving import BACKEND
from tests.sql import FOLDER, files, statements
from tests.tasks import FIELDS
from tests.test_properties import OF_EACH_FIELD

NOTES = BACKEND / "tests/notes"
DATA_MODEL = (BACKEND.parent / "specs/001-backend-api-database/data-model.md").read_text()


@pytest.mark.parametrize(
    ("create", "update", "answer", "columns"),
    [
        (TaskCreate, TaskUpdate, TaskPublic, task_service.TASKS.c.keys()),
        (NoteCreate, NoteUpdate, NotePublic, Note.model_fields),
    ],
    ids=["task", "note"],
)
def test_a_field_is_created_updated_and_answered(
    create: type[BaseModel], update: type, answer: type[BaseModel], columns: list[str]
) -> None:
    """If an update lacked a field, the service would ignore the field and answer with 200."""
    sent = of_clients(create.model_fields)

    assert of_clients(update.__annotations__) == sent
    assert of_clients(answer.model_fields) == sent
    assert of_clients(columns) == sent


def of_clients(names: Iterable[str]) -> list[str]:
    """Leave out fields that the service makes or no update takes, and the further members."""
    return [name for name in names if name not in {*MADE_HERE, "completed_at", "further"}]


def test_the_tests_know_every_field() -> None:
    assert [*TaskPublic.model_fields] == FIELDS
    assert of_clients(TaskCreate.model_fields) == [*OF_EACH_FIELD]


def test_a_list_of_tasks_has_each_order_in_both_directions() -> None:
    sorts = {*get_args(Sort)}

    assert {f"-{sort}" for sort in sorts if sort[0] != "-"} == {s for s in sorts if s[0] == "-"}


def test_the_data_model_names_every_column_and_every_migration() -> None:
    columns = {f"`{name}`" for model in MODELS for name in table_of(model).columns.keys()}  # noqa: SIM118 - its values are columns

    assert [name for name in columns if name not in DATA_MODEL] == []
    assert [name for name in REVISIONS if f"`{name}`" not in DATA_MODEL] == []


def lines(path: Path) -> tuple[int, int]:
    """Count all lines of a file, and the lines without imports and blank lines."""
    text = path.read_text().splitlines()
    imports = {
        number
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for number in range(node.lineno, (node.end_lineno or 0) + 1)
    }
    own = [line for number, line in enumerate(text, 1) if line.strip() and number not in imports]
    return len(text), len(own)


def test_a_resource_has_at_most_340_lines_and_230_lines_of_code() -> None:
    names = ["model", "schema", "service", "router", "migration"]
    counted = [lines(NOTES / f"{name}.py") for name in names]
    assembly = 2

    assert sum(count for count, _ in counted) + assembly <= 340
    assert sum(count for _, count in counted) + assembly <= 230


class Mood(Enum):
    GOOD = "good"
    BAD = "bad"


class Diary(BaseModel):
    mood: Mood


def test_an_enum_in_an_answer_and_a_patch_without_a_body_are_documented() -> None:
    async def cheer_up() -> Response:
        return JSONResponse({"mood": "good"})

    app = create_app(Settings(auth_mode="open", log_level="warning"))
    app.router.routes.append(
        StrictRoute("/diary", cheer_up, methods=["PATCH"], response_model=Diary)
    )
    contract = app.openapi()

    assert "requestBody" not in contract["paths"]["/diary"]["patch"]
    assert contract["components"]["schemas"]["Mood"]["enum"] == ["good", "bad"]


# SQL


def test_the_service_sends_the_published_sql() -> None:
    published = {path.name: path.read_text() for path in FOLDER.glob("*.sql")}

    assert published == files(), "run `make contract`"


def test_every_statement_of_the_services_is_published() -> None:
    values: list[Any] = []
    for service in (batch_service, expiry_service, feed_service, task_service):
        for value in vars(service).values():
            values += value if isinstance(value, tuple) else [value]
    own = {value.sql for value in values if isinstance(value, Statement)}

    assert len(own) > 20
    assert own <= {statement.sql for _, statement in statements()}
