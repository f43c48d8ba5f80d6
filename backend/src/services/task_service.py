"""The statements, each scoped by its owner, and the functions that run them.

Tasks are answered as the JSON objects that PostgreSQL writes. Every function raises
DatabaseUnavailable when PostgreSQL cannot be reached.
"""

from functools import cache
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import Delete, Select, Update, bindparam, delete, func, not_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlmodel import col

from src.database import Query, fetch, fetch_all, query
from src.exceptions import TaskNotFound
from src.models.task import Task
from src.schemas.task import TaskCreate, TaskUpdate
from src.uuid7 import instant, next_tick, uuid7

Owned = TypeVar("Owned", Select[Any], Update, Delete)


def owned(statement: Owned) -> Owned:
    """Scope a statement by its owner: the one place where that is said."""
    return statement.where(col(Task.user_id) == bindparam("user_id"))


def _this(statement: Owned) -> Owned:
    return owned(statement).where(col(Task.id) == bindparam("task_id"))


# Not before: the database's clock may be behind the clock of the service that created the task.
_NOW = func.greatest(col(Task.updated_at), func.now())

LIST = query(owned(select(Task)).order_by(col(Task.created_at), col(Task.id)))
GET = query(_this(select(Task)))
# Its id is new: a task that is in the way is its own, from an answer that got lost.
CREATE = query(
    insert(Task)
    .values({name: bindparam(name) for name in Task.model_fields})
    .on_conflict_do_update(index_elements=["user_id", "id"], set_={"id": col(Task.id)})
    .returning(Task),
    repeatable=True,
)
TOGGLE = query(
    _this(update(Task)).values(completed=not_(col(Task.completed)), updated_at=_NOW).returning(Task)
)
DELETE = query(_this(delete(Task)).returning(col(Task.id)))


@cache
def update_query(fields: frozenset[str]) -> Query:
    if not fields:
        return GET
    changes: dict[str, Any] = {name: bindparam(name) for name in fields}
    return query(_this(update(Task)).values(updated_at=_NOW, **changes).returning(Task))


async def list_tasks(engine: AsyncEngine, user_id: str) -> list[bytes]:
    """Answer all of the user's tasks, oldest first."""
    return await fetch_all(engine, LIST, user_id=user_id)


async def create_task(engine: AsyncEngine, user_id: str, task: TaskCreate) -> tuple[UUID, bytes]:
    tick = next_tick()
    task_id = uuid7(tick)
    created = await fetch(
        engine,
        CREATE,
        id=task_id,
        user_id=user_id,
        title=task.title,
        description=task.description,
        completed=False,
        created_at=instant(tick),
        updated_at=instant(tick),
    )
    return task_id, _found(created)


async def get_task(engine: AsyncEngine, user_id: str, task_id: UUID) -> bytes:
    """Raises TaskNotFound."""
    return _found(await fetch(engine, GET, user_id=user_id, task_id=task_id))


async def update_task(
    engine: AsyncEngine, user_id: str, task_id: UUID, changes: TaskUpdate
) -> bytes:
    """Change the fields that are given; none leaves the task as it is, `updated_at` too.

    Raises TaskNotFound.
    """
    update_these = update_query(frozenset(changes))
    return _found(await fetch(engine, update_these, user_id=user_id, task_id=task_id, **changes))


async def toggle_task(engine: AsyncEngine, user_id: str, task_id: UUID) -> bytes:
    """Raises TaskNotFound."""
    return _found(await fetch(engine, TOGGLE, user_id=user_id, task_id=task_id))


async def delete_task(engine: AsyncEngine, user_id: str, task_id: UUID) -> None:
    """Raises TaskNotFound."""
    _found(await fetch(engine, DELETE, user_id=user_id, task_id=task_id))


def _found(task: bytes | None) -> bytes:
    if task is None:
        raise TaskNotFound
    return task
