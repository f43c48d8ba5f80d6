"""The statements of tasks, each scoped by its owner, and the functions that run them.

Tasks are returned as the JSON objects that PostgreSQL writes. Every function raises
DatabaseUnavailable when PostgreSQL cannot be reached. A `condition` applies to the task's ETag.
"""

from dataclasses import replace
from functools import cache, partial
from hashlib import sha256
from typing import Any
from uuid import UUID

from pydantic_core import to_json
from sqlalchemy import (
    ColumnElement,
    Text,
    bindparam,
    false,
    func,
    literal_column,
    not_,
    or_,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncEngine

from src.database.engine import Statement, compiled
from src.database.statements import (
    change_row,
    delete_row,
    insert_row,
    insert_row_once,
    now,
    select_page,
    select_row,
    table_of,
    update_row,
)
from src.http.conditions import Condition
from src.http.spool import Spool
from src.models.idempotency_key import IdempotencyKey
from src.models.task import Task
from src.schemas.task import MAX_PAGE, Completion, Sort, TaskCreate, TaskListing, TaskUpdate
from src.services import rows
from src.services.exceptions import TaskNotFound

TASKS = table_of(Task)
KEYS = table_of(IdempotencyKey)

_GIVEN = TaskCreate.model_fields
_PRESET = {"completed": false()}

GET = select_row(TASKS)
CREATE = insert_row(TASKS, _GIVEN, _PRESET)
CREATE_ONCE = insert_row_once(TASKS, _GIVEN, _PRESET, KEYS, "task_id")

update_statement = partial(update_row, TASKS)
delete_statement = partial(delete_row, TASKS)


@cache
def toggle_statement(*, conditional: bool = False) -> Statement:
    toggle = update(TASKS).values(completed=not_(TASKS.c.completed), updated_at=now(TASKS))
    return change_row(TASKS, toggle, conditional=conditional)


@cache
def list_statement(sort: Sort = "created_at", by: frozenset[str] = frozenset()) -> Statement:
    """Compile the list of `limit` tasks, or of all if that is None.

    `by` names the parameters that filter it: completed, text, position (with position_id).
    """
    filters = {
        "completed": TASKS.c.completed == bindparam("completed"),
        "text": or_(_has_text(TASKS.c.title), _has_text(TASKS.c.description)),
    }
    chosen = [condition for name, condition in filters.items() if name in by]
    statement = compiled(select_page(TASKS, sort, chosen, goes_on="position" in by))
    return replace(statement, takes_long="text" in by)


def _has_text(column: ColumnElement[Any]) -> ColumnElement[bool]:
    """Whether a column contains `text`, in upper or lower case.

    Bytes are compared many at a time, so that no text takes much longer than another. LIKE goes
    character by character, and starts over at every one where the text might begin.
    """
    # In a subquery, it is lowered once and not for every row.
    text = select(_lower(bindparam("text", type_=Text))).scalar_subquery()
    return func.position(text.op("IN")(_lower(column))) > literal_column("0")


def _lower(text: ColumnElement[Any]) -> ColumnElement[bytes]:
    lower: ColumnElement[bytes] = func.convert_to(func.lower(text), literal_column("'UTF8'"))
    return lower


def fingerprint(task: TaskCreate) -> str:
    """Hash the task that a key came with.

    Keys outlive a release: a field that was added later counts only where it is set.
    """
    first = {"title", "description"}
    later = task.model_dump(exclude=first, exclude_defaults=True)
    values = [task.title, task.description, *([later] if later else [])]
    return sha256(to_json(values)).hexdigest()


async def list_tasks(
    engine: AsyncEngine, user_id: str, listing: TaskListing
) -> tuple[Spool, str | None]:
    """Return the user's tasks and, if a limit leaves some out, the cursor of the next page."""
    values: dict[str, object] = {}
    if listing.completed is not None:
        values["completed"] = listing.completed
    if listing.q:
        values["text"] = listing.q
    if listing.cursor is not None:
        values["position"] = listing.cursor.value
        values["position_id"] = listing.cursor.id
    statement = list_statement(listing.sort, frozenset(values))
    return await rows.page(
        engine, statement, listing.sort, listing.limit, MAX_PAGE, user_id=user_id, **values
    )


async def create_task(
    engine: AsyncEngine, user_id: str, task: TaskCreate, key: str | None = None
) -> bytes:
    """Create a task; with a key that has created one before, return that task as it was then.

    Raises KeyReused for a key that came with another task.
    """
    values = vars(task)
    if key is None:
        return await rows.created(engine, CREATE, user_id=user_id, **values)
    return await rows.created(
        engine, CREATE_ONCE, user_id=user_id, key=key, fingerprint=fingerprint(task), **values
    )


async def get_task(engine: AsyncEngine, user_id: str, task_id: UUID) -> bytes:
    """Raises TaskNotFound."""
    return await rows.one(engine, GET, TaskNotFound, user_id=user_id, id=task_id)


async def update_task(
    engine: AsyncEngine,
    user_id: str,
    task_id: UUID,
    changes: TaskUpdate | Completion,
    condition: Condition | None = None,
) -> bytes:
    """Change the given fields; without any, the task stays as it is, even `updated_at`.

    Raises TaskNotFound, ConditionNotMet.
    """
    statement = update_statement(frozenset(changes), conditional=condition is not None)
    return await rows.changed(
        engine, statement, TaskNotFound, condition, user_id=user_id, id=task_id, **changes
    )


async def toggle_task(
    engine: AsyncEngine, user_id: str, task_id: UUID, condition: Condition | None = None
) -> bytes:
    """Raises TaskNotFound, ConditionNotMet."""
    statement = toggle_statement(conditional=condition is not None)
    return await rows.changed(
        engine, statement, TaskNotFound, condition, user_id=user_id, id=task_id
    )


async def delete_task(
    engine: AsyncEngine, user_id: str, task_id: UUID, condition: Condition | None = None
) -> None:
    """Raises TaskNotFound, ConditionNotMet."""
    statement = delete_statement(conditional=condition is not None)
    await rows.changed(engine, statement, TaskNotFound, condition, user_id=user_id, id=task_id)
