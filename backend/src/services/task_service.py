"""The statements, each scoped by its owner, and the functions that run them.

Tasks are answered as the JSON objects that PostgreSQL writes. Every function raises
DatabaseUnavailable when PostgreSQL cannot be reached. A `condition` is of the task's ETag.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from hashlib import sha256
from typing import Any, TypeVar
from uuid import UUID

from pydantic_core import to_json
from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    ColumnElement,
    Delete,
    Select,
    Text,
    Update,
    any_,
    bindparam,
    case,
    cast,
    delete,
    false,
    func,
    literal_column,
    not_,
    or_,
    select,
    true,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlmodel import SQLModel, col

from src.database.cursor import Sort, encode
from src.database.engine import (
    Statement,
    compiled,
    compiled_answer,
    fetch,
    fetch_all,
    fetch_batches_into,
    fetch_into,
)
from src.database.etag import etag_of
from src.database.uuid7 import instant, next_tick, uuid7
from src.http.conditions import Condition, ConditionNotMet
from src.http.spool import Spool, spool_array, spool_batches
from src.models.idempotency_key import IdempotencyKey
from src.models.task import Task
from src.schemas.task import MAX_PAGE, Completion, TaskCreate, TaskListing, TaskUpdate
from src.services.exceptions import KeyReused, TaskNotFound

Owned = TypeVar("Owned", Select[Any], Update, Delete)

_TASKS = SQLModel.metadata.tables[str(Task.__tablename__)]
_KEYS = SQLModel.metadata.tables[str(IdempotencyKey.__tablename__)]

KEY_HOURS = 24
"""How long an idempotency key is kept."""

CLEARED_KEYS = 10
"""How many expired keys a create with a key takes with it."""


def owned(statement: Owned) -> Owned:
    """Scope a statement by its owner: the one place where that is said."""
    return statement.where(col(Task.user_id) == bindparam("user_id"))


def _this(statement: Owned) -> Owned:
    return owned(statement).where(col(Task.id) == bindparam("task_id"))


# Not before: the database's clock may be behind the clock of the service that created the task.
_NOW = func.greatest(col(Task.updated_at), func.now())

GET = compiled(_this(select(Task)))

_NEW: dict[str, Any] = {name: bindparam(name) for name in Task.model_fields} | {
    "completed": false(),
    "updated_at": bindparam("created_at"),
}

# Its id is new: a task that is in the way is its own, from an answer that got lost.
CREATE = compiled(
    insert(Task)
    .values(_NEW)
    .on_conflict_do_update(index_elements=["user_id", "id"], set_={"id": col(Task.id)})
    .returning(Task),
    repeatable=True,
)


@cache
def list_statement(sort: Sort = "created_at", by: frozenset[str] = frozenset()) -> Statement:
    """Compile a list of so many, or of all if `limit` is None.

    It may be `by` any of completed, text and position (with position_id).
    """
    name, descends = sort.removeprefix("-"), sort.startswith("-")
    order = [_TASKS.c[name], _TASKS.c.id]
    statement = owned(select(Task))
    if "completed" in by:
        statement = statement.where(col(Task.completed) == bindparam("completed"))
    if "text" in by:
        statement = statement.where(or_(_has_text(Task.title), _has_text(Task.description)))
    if "position" in by:
        # As text: PostgreSQL's times are more than Python's.
        position = tuple_(
            cast(bindparam("position", type_=Text), order[0].type),
            bindparam("position_id", type_=order[1].type),
        )
        statement = statement.where(
            tuple_(*order) < position if descends else tuple_(*order) > position
        )
    in_order = (column.desc() if descends else column for column in order)
    statement = statement.order_by(*in_order).limit(bindparam("limit", type_=BigInteger))
    return replace(compiled(statement), takes_long="text" in by)


def _has_text(column: str | None) -> ColumnElement[bool]:
    """Find `text` in a column, in any case.

    Bytes are compared many at a time, so that no text takes much longer than another. LIKE goes
    character by character, and starts over at every one where the text might begin.
    """
    # Selected by itself, it is made small once and not for every row.
    text = select(_small(bindparam("text", type_=Text))).scalar_subquery()
    return func.position(text.op("IN")(_small(col(column)))) > literal_column("0")


def _small(text: Any) -> ColumnElement[bytes]:  # noqa: ANN401 - a column or a value
    small: ColumnElement[bytes] = func.convert_to(func.lower(text), literal_column("'UTF8'"))
    return small


@cache
def update_statement(fields: frozenset[str], *, conditional: bool = False) -> Statement:
    if not fields and not conditional:
        return GET
    changes: dict[str, Any] = {name: bindparam(name) for name in fields}
    changes["updated_at"] = _NOW if fields else col(Task.updated_at)
    return _change(update(Task).values(changes).returning(Task), conditional=conditional)


@cache
def toggle_statement(*, conditional: bool = False) -> Statement:
    toggle = update(Task).values(completed=not_(col(Task.completed)), updated_at=_NOW)
    return _change(toggle.returning(Task), conditional=conditional)


@cache
def delete_statement(*, conditional: bool = False) -> Statement:
    return _change(delete(Task).returning(col(Task.id)), conditional=conditional)


def _change(statement: Any, *, conditional: bool) -> Statement:  # noqa: ANN401 - Update or Delete
    """Compile a change; with a condition, None is answered for a task that does not meet it.

    The task is locked as it is read, so that it cannot change before it is written.
    """
    if not conditional:
        return compiled(_this(statement))
    current = _this(select(Task)).with_for_update().cte("current")
    is_one_of_them = etag_of(current) == any_(bindparam("etags", type_=ARRAY(Text)))
    meets = select(current.c.id).where(is_one_of_them == bindparam("wanted", type_=Boolean))
    return compiled(_this(statement).where(meets.exists()), current=current)


def _create_once() -> Statement:
    """Create a task unless the key did before, answer that task as it was created either way.

    A key that came with another task is answered as None. Expired keys count as absent, and some
    are cleared.
    """
    key = _KEYS.c
    has_expired = key.created_at < func.now() - literal_column(f"interval '{KEY_HOURS} hours'")
    keep = insert(_KEYS).values(
        user_id=bindparam("user_id"),
        key=bindparam("key"),
        fingerprint=bindparam("fingerprint"),
        task_id=bindparam("id"),
        created_at=bindparam("created_at"),
    )
    renewed = {
        name: case((has_expired, keep.excluded[name]), else_=key[name])
        for name in ("fingerprint", "task_id", "created_at")
    }
    made = (
        keep.on_conflict_do_update(index_elements=["user_id", "key"], set_=renewed)
        .returning(_KEYS)
        .cte("made")
    )
    task = select(
        made.c.task_id.label("id"),
        made.c.user_id,
        cast(bindparam("title"), _TASKS.c.title.type).label("title"),
        cast(bindparam("description"), _TASKS.c.description.type).label("description"),
        false().label("completed"),
        made.c.created_at,
        made.c.created_at.label("updated_at"),
    ).cte("row")
    is_new = task.c.id == bindparam("id")
    created = (
        insert(Task)
        .from_select(list(Task.model_fields), select(task).where(is_new))
        .on_conflict_do_nothing()
        .returning(_TASKS.c.id)
        .cte("created")
    )
    is_another = tuple_(key.user_id, key.key) != tuple_(bindparam("user_id"), bindparam("key"))
    expired = (
        select(key.user_id, key.key)
        .where(has_expired, is_another)
        .limit(literal_column(str(CLEARED_KEYS)))
        .with_for_update(skip_locked=True)
    )
    cleared = (
        delete(_KEYS)
        .where(tuple_(key.user_id, key.key).in_(expired))
        .returning(key.key)
        .cte("cleared")
    )
    is_same = made.c.fingerprint == bindparam("fingerprint")
    answer = select(case((is_same, func.row_to_json(task.table_valued())))).select_from(
        made.join(task, true())
    )
    return compiled_answer(answer.add_cte(created, cleared), repeatable=True)


CREATE_ONCE = _create_once()


async def list_tasks(
    engine: AsyncEngine, user_id: str, listing: TaskListing
) -> tuple[Spool, str | None]:
    """Answer the user's tasks and, if a limit leaves some out, the cursor to the next.

    Up to MAX_PAGE are one statement. More, if there is no limit, are read again, as one snapshot
    and in batches, so that they are never in memory together.
    """
    values: dict[str, object] = {}
    if listing.completed is not None:
        values["completed"] = listing.completed
    if listing.q:
        values["text"] = listing.q
    if listing.cursor is not None:
        values["position"] = listing.cursor.value
        values["position_id"] = listing.cursor.id
    statement = list_statement(listing.sort, frozenset(values))
    limit = listing.limit or MAX_PAGE

    async def spool_page(tasks: list[bytes]) -> tuple[Spool, str | None] | None:
        if len(tasks) <= limit:
            return await spool_array(tasks), None
        if listing.limit is None:
            return None
        del tasks[limit:]
        cursor = encode(listing.sort, tasks[-1])
        return await spool_array(tasks), cursor

    values["user_id"] = user_id
    page = await fetch_into(engine, statement, spool_page, **values, limit=limit + 1)
    if page is None:
        tasks = await fetch_batches_into(engine, statement, spool_batches, **values, limit=None)
        return tasks, None
    return page


async def create_task(
    engine: AsyncEngine, user_id: str, task: TaskCreate, key: str | None = None
) -> bytes:
    """Create a task; with a key that did so before, answer that task as it was then.

    Raises KeyReused for a key that came with another task.
    """
    tick = next_tick()
    values: dict[str, object] = {
        "id": uuid7(tick),
        "user_id": user_id,
        "title": task.title,
        "description": task.description,
        "created_at": instant(tick),
    }
    if key is None:
        return _found(await fetch(engine, CREATE, **values))
    fingerprint = sha256(to_json([task.title, task.description])).hexdigest()
    created = await fetch(engine, CREATE_ONCE, key=key, fingerprint=fingerprint, **values)
    if created is None:
        raise KeyReused
    return created


async def get_task(engine: AsyncEngine, user_id: str, task_id: UUID) -> bytes:
    """Raises TaskNotFound."""
    return _found(await fetch(engine, GET, user_id=user_id, task_id=task_id))


async def update_task(
    engine: AsyncEngine,
    user_id: str,
    task_id: UUID,
    changes: TaskUpdate | Completion,
    condition: Condition | None = None,
) -> bytes:
    """Change the fields that are given; none leaves the task as it is, `updated_at` too.

    Raises TaskNotFound, ConditionNotMet.
    """
    statement = update_statement(frozenset(changes), conditional=condition is not None)
    return await _changed(engine, statement, user_id, task_id, condition, **changes)


async def toggle_task(
    engine: AsyncEngine, user_id: str, task_id: UUID, condition: Condition | None = None
) -> bytes:
    """Raises TaskNotFound, ConditionNotMet."""
    statement = toggle_statement(conditional=condition is not None)
    return await _changed(engine, statement, user_id, task_id, condition)


async def delete_task(
    engine: AsyncEngine, user_id: str, task_id: UUID, condition: Condition | None = None
) -> None:
    """Raises TaskNotFound, ConditionNotMet."""
    statement = delete_statement(conditional=condition is not None)
    await _changed(engine, statement, user_id, task_id, condition)


async def _changed(
    engine: AsyncEngine,
    statement: Statement,
    user_id: str,
    task_id: UUID,
    condition: Condition | None,
    **values: object,
) -> bytes:
    if condition is not None:
        values |= condition._asdict()
    rows: Sequence[bytes | None] = await fetch_all(
        engine, statement, user_id=user_id, task_id=task_id, **values
    )
    if not rows:
        raise TaskNotFound
    if rows[0] is None:
        raise ConditionNotMet
    return rows[0]


def _found(task: bytes | None) -> bytes:
    if task is None:
        raise TaskNotFound
    return task
