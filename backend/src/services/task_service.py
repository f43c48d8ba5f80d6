"""The statements of tasks, each scoped by its owner, and the functions that run them.

Tasks are returned as the JSON objects that PostgreSQL writes. Every function raises
DatabaseUnavailable when PostgreSQL cannot be reached. A `condition` applies to the task's ETag.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, time
from functools import cache, partial
from hashlib import sha256
from typing import Any
from uuid import UUID

from pydantic_core import to_json
from sqlalchemy import (
    Boolean,
    ColumnElement,
    Text,
    and_,
    any_,
    bindparam,
    cast,
    func,
    literal_column,
    or_,
    select,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncEngine

from src.framework.condition import Condition
from src.framework.sql import rows
from src.framework.sql.engine import Statement
from src.framework.sql.rows import RowPage
from src.framework.sql.shared_statements import share_writes
from src.framework.sql.statements import (
    delete_row,
    insert_row,
    insert_row_once,
    select_list,
    select_row,
    table_of,
    toggle_row,
    update_row,
)
from src.framework.sql.text import normalized
from src.models.feed import Feed
from src.models.idempotency_key import IdempotencyKey
from src.models.task import Task
from src.schemas.task import Completion, TaskCreate, TaskUpdate
from src.schemas.task_listing import UTC_ZONE, Sort, TaskListing
from src.services.due_dates import IN_ZONE, bounds, due_at, is_between, is_overdue, is_time_zone
from src.services.exceptions import UnknownTimeZone

TASKS = table_of(Task)
KEYS = table_of(IdempotencyKey)
FEEDS = table_of(Feed)

_GIVEN = TaskCreate.model_fields

GET = select_row(TASKS)
_SHARED = share_writes(TASKS, TaskUpdate.__annotations__, FEEDS)

CREATE = insert_row(TASKS, _GIVEN, _SHARED)
CREATE_ONCE = insert_row_once(TASKS, _GIVEN, KEYS, "task_id")

update_statement = partial(update_row, TASKS, shared=_SHARED)
toggle_statement = partial(toggle_row, TASKS, "completed", shared=_SHARED)
delete_statement = partial(delete_row, TASKS, shared=_SHARED)


@cache
def list_statement(
    sort: Sort = "created_at", by: frozenset[str] = frozenset(), *, counted: bool = False
) -> Statement:
    """Compile a list. `by` may have `completed`, `text`, `position`, `time_zone` and `more`.

    Common filters have statements of their own. `more` stands for all rare filters, which share a
    statement where NULL means that a filter is not used. A day is a day in `time_zone`, or in UTC.
    """
    zoned = "time_zone" in by
    filters = {
        "completed": TASKS.c.completed == bindparam("completed"),
        "text": or_(_has_text(TASKS.c.title), _has_text(TASKS.c.description)),
        "more": _has_more(zoned=zoned),
    }
    chosen = by | {"offset"} if "more" in by else by
    place = IN_ZONE if zoned and sort.removeprefix("-") == "due_date" else None
    statement = select_list(TASKS, sort, chosen, filters, counted=counted, place=place)
    return replace(statement, takes_long="text" in by)


def _has_more(*, zoned: bool) -> ColumnElement[bool]:
    def if_asked(name: str, kind: Any, condition: ColumnElement[bool]) -> ColumnElement[bool]:  # noqa: ANN401 - a SQL type
        return or_(bindparam(name, type_=kind).is_(None), condition)

    task = TASKS.c
    ranks = cast(bindparam("priorities", type_=ARRAY(Text)), ARRAY(task.priority.type))
    comma: ColumnElement[str] = literal_column("','")  # which no tag has
    tags = func.string_to_array(normalized(func.array_to_string(task.tags, comma), "NFC"), comma)
    return and_(
        if_asked("priorities", ARRAY(Text), task.priority == any_(ranks)),
        if_asked("tags", ARRAY(Text), tags.op("@>")(bindparam("tags", type_=ARRAY(Text)))),
        is_between(due_at(zoned=zoned), "due_date", zoned=zoned),
        is_between(task.completed_at, "completed", zoned=zoned),
        if_asked(
            "has_due_date",
            Boolean,
            task.due_date.is_not(None) == bindparam("has_due_date", type_=Boolean),
        ),
        if_asked("overdue", Boolean, is_overdue(zoned=zoned)),
    )


def _has_text(column: ColumnElement[Any]) -> ColumnElement[bool]:
    """Whether a column contains `text`, in upper or lower case, however the letters are composed.

    Bytes are compared many at a time, so that no text takes much longer than another. LIKE goes
    character by character, and starts over wherever the text might begin.
    """
    # PostgreSQL computes a subquery once, and not for every row.
    text = select(_lower(bindparam("text", type_=Text))).scalar_subquery()
    return func.position(text.op("IN")(_lower(column))) > literal_column("0")


def _lower(text: ColumnElement[Any]) -> ColumnElement[bytes]:
    small = func.lower(normalized(text, "NFKC"))
    lower: ColumnElement[bytes] = func.convert_to(small, literal_column("'UTF8'"))
    return lower


def said_of(fields: Mapping[str, object]) -> dict[str, object]:
    """Leave out `all_day` where the due date implies it: earlier fingerprints had no `all_day`."""
    due_date = fields.get("due_date")
    is_midnight = isinstance(due_date, datetime) and due_date.time() == time()
    if fields.get("all_day") if is_midnight else "due_date" in fields:
        return {name: value for name, value in fields.items() if name != "all_day"}
    return {**fields} | ({"all_day": fields.get("all_day", False)} if is_midnight else {})


def fingerprint(task: TaskCreate) -> str:
    """Hash the task that came with a key.

    Keys outlive a release: a field that was added later counts only where it is set.
    """
    later = said_of(task.model_dump(exclude={"title", "description"}, exclude_defaults=True))
    values = [task.title, task.description, *([later] if later else [])]
    return sha256(to_json(values)).hexdigest()


_OF_DAYS = {"due_date_from", "due_date_to", "completed_from", "completed_to", "overdue"}
_MORE = {"priority", "tags", "has_due_date", "offset", *_OF_DAYS}


async def list_tasks(
    engine: AsyncEngine, user_id: str, listing: TaskListing, *, counted: bool = False
) -> RowPage:
    """Return the user's tasks. If `counted`, `total` is their number without the limit.

    Raises UnknownTimeZone.
    """
    values: dict[str, object] = {}
    if listing.time_zone != UTC_ZONE:
        if not await is_time_zone(engine, listing.time_zone):
            raise UnknownTimeZone
        if not _OF_DAYS.isdisjoint(listing.model_fields_set) or "due_date" in listing.sort:
            values["time_zone"] = listing.time_zone
    if listing.completed is not None:
        values["completed"] = listing.completed
    if listing.q:
        values["text"] = listing.q
    if listing.cursor is not None:
        values["position"] = listing.cursor.value
        values["position_id"] = listing.cursor.id
    by = set(values)
    if not _MORE.isdisjoint(listing.model_fields_set):
        by.add("more")
        values |= {
            "priorities": listing.priority or None,
            "tags": listing.tags or None,
            "has_due_date": listing.has_due_date,
            "overdue": listing.overdue,
            "offset": listing.offset or 0,
        }
        zone = listing.time_zone
        values |= bounds("due_date", listing.due_date_from, listing.due_date_to, zone)
        values |= bounds("completed", listing.completed_from, listing.completed_to, zone)
    filters = frozenset(by)
    return await rows.get_page(
        engine,
        list_statement(listing.sort, filters),
        listing.limit,
        counting=list_statement(listing.sort, filters, counted=True) if counted else None,
        user_id=user_id,
        **values,
    )


async def create_task(
    engine: AsyncEngine, user_id: str, task: TaskCreate, key: str | None = None
) -> bytes:
    """Create a task. With a key that has created a task, return that task as it was then.

    Raises KeyReused for a key that came with another task.
    """
    values = vars(task)
    if key is None:
        return await rows.create_row(engine, CREATE, user_id=user_id, **values)
    return await rows.create_row(
        engine, CREATE_ONCE, user_id=user_id, key=key, fingerprint=fingerprint(task), **values
    )


async def get_task(engine: AsyncEngine, user_id: str, task_id: UUID) -> bytes:
    """Raises NotFound."""
    return await rows.get_row(engine, GET, user_id=user_id, id=task_id)


async def update_task(  # noqa: PLR0913 - all that a request says
    engine: AsyncEngine,
    user_id: str,
    task_id: UUID,
    edits: TaskUpdate | Completion,
    condition: Condition | None = None,
    *,
    replaces: bool = False,
) -> bytes:
    """Change these fields. Without fields, the task stays as it is, even `updated_at`.

    Further members are merged. With `replaces`, each further member is replaced.
    Raises NotFound, ConditionNotMet, MembersRefused.
    """
    replaces = replaces and "further" in edits  # or the same statement would be prepared twice
    statement = update_statement(
        frozenset(edits), conditional=condition is not None, replaces=replaces
    )
    return await rows.edit_row(engine, statement, condition, user_id=user_id, id=task_id, **edits)


async def toggle_task(
    engine: AsyncEngine, user_id: str, task_id: UUID, condition: Condition | None = None
) -> bytes:
    """Raises NotFound, ConditionNotMet."""
    statement = toggle_statement(conditional=condition is not None)
    return await rows.edit_row(engine, statement, condition, user_id=user_id, id=task_id)


async def delete_task(
    engine: AsyncEngine, user_id: str, task_id: UUID, condition: Condition | None = None
) -> None:
    """Raises NotFound, ConditionNotMet."""
    statement = delete_statement(conditional=condition is not None)
    await rows.edit_row(engine, statement, condition, user_id=user_id, id=task_id)
