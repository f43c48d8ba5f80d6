"""When a task with a day is due: from the day's first moment in a time zone until the day is over.

Only PostgreSQL knows the time zones. Sessions are in UTC. The table stores a day as the first
moment of that day in UTC.
"""

from datetime import UTC, datetime
from typing import Any
from weakref import WeakKeyDictionary

from pydantic_core import from_json
from sqlalchemy import (
    Boolean,
    ColumnElement,
    DateTime,
    Text,
    and_,
    bindparam,
    case,
    cast,
    false,
    func,
    literal_column,
    not_,
    or_,
    select,
)
from sqlalchemy.ext.asyncio import AsyncEngine

from src.framework.sql.engine import Statement, fetch
from src.framework.sql.statements import Place, table_of
from src.models.task import Task
from src.schemas.task_listing import UTC_ZONE

_TASK = table_of(Task).c
_MOMENT, _LOCAL = _TASK.due_date.type, DateTime()
_ZONE = bindparam("time_zone", type_=Text)
_DAY: ColumnElement[Any] = literal_column("interval '1 day'")
_TICK: ColumnElement[Any] = literal_column("interval '1 microsecond'")

ZONES = Statement("SELECT json_agg(name) FROM pg_catalog.pg_timezone_names", takes_long=True)

_known: WeakKeyDictionary[AsyncEngine, frozenset[str]] = WeakKeyDictionary()


async def is_time_zone(engine: AsyncEngine, name: str) -> bool:
    """Whether PostgreSQL has a zone of this name. PostgreSQL also takes rules, such as `FOO3`.

    The service reads all names once, because PostgreSQL opens a file for each name.
    Raises DatabaseUnavailable.
    """
    if engine not in _known:
        _known[engine] = frozenset(from_json(await fetch(engine, ZONES) or b"[]"))
    return name in _known[engine]


def _first_moment(local: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return the first moment of a day, from its midnight on the clocks of the zone.

    Where clocks go back over midnight, midnight comes twice, and PostgreSQL takes the second
    midnight. The first midnight comes right after the end of the day before, unless the zone
    skipped that day.
    """
    after_last = func.timezone(_ZONE, local - _TICK) + _TICK
    return func.least(func.timezone(_ZONE, local), after_last)


def due_at(*, zoned: bool) -> ColumnElement[Any]:
    """Return the moment by which tasks are compared and sorted."""
    if not zoned:
        return _TASK.due_date
    first = _first_moment(func.timezone(literal_column("'UTC'"), _TASK.due_date))
    return case((_TASK.all_day, first), else_=_TASK.due_date)


def _position() -> ColumnElement[Any]:
    """Return the moment of the row before a page. A position of ten characters is a day."""
    text = bindparam("position", type_=Text)
    is_day = func.length(text) == literal_column("10")
    first = _first_moment(cast(text, _LOCAL))
    return case((is_day, first), else_=cast(text, _MOMENT))


IN_ZONE = Place(due_at(zoned=True), _position())
"""The order of tasks by when they are due, in a zone."""


def bounds(
    name: str, first: datetime | None, last: datetime | None, zone: str
) -> dict[str, object]:
    """Return the parameters of `is_between` for two moments, or days on the clocks of a zone."""
    if zone == UTC_ZONE:
        first, last = (time and time.replace(tzinfo=UTC) for time in (first, last))
    return {
        f"{name}_from": first if first and first.tzinfo else None,
        f"{name}_to": last if last and last.tzinfo else None,
        f"{name}_from_day": first if first and not first.tzinfo else None,
        f"{name}_to_day": last if last and not last.tzinfo else None,
    }


def is_between(moment: ColumnElement[Any], name: str, *, zoned: bool) -> ColumnElement[bool]:
    """Whether a moment is from `{name}_from` to `{name}_to`, each of which may be NULL.

    In a zone, `{name}_from_day` is the midnight at which a day begins, and `{name}_to_day` is the
    last microsecond of a day.
    """
    first: ColumnElement[Any] = bindparam(f"{name}_from", type_=_MOMENT)
    last: ColumnElement[Any] = bindparam(f"{name}_to", type_=_MOMENT)
    if zoned:  # PostgreSQL computes a subquery once, and not for every row
        begin = _first_moment(bindparam(f"{name}_from_day", type_=_LOCAL))
        end = _first_moment(bindparam(f"{name}_to_day", type_=_LOCAL) + _TICK) - _TICK
        first = func.coalesce(first, select(begin).scalar_subquery())
        last = func.coalesce(last, select(end).scalar_subquery())
    return and_(or_(first.is_(None), moment >= first), or_(last.is_(None), moment <= last))


def is_overdue(*, zoned: bool) -> ColumnElement[bool]:
    """Whether open tasks were due before now, or on a day that is over."""
    over: ColumnElement[Any] = _TASK.due_date + _DAY
    if zoned:
        over = _first_moment(func.timezone(literal_column("'UTC'"), over))
    late = case((_TASK.all_day, over <= func.now()), else_=_TASK.due_date < func.now())
    return and_(not_(_TASK.completed), func.coalesce(late, false())) == bindparam(
        "overdue", type_=Boolean
    )
