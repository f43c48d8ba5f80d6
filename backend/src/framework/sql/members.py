"""Further members of a row: a `jsonb` column holds them, and answers show them after the columns.

A table has at most one such column. A change is a JSON object as text. A member that is null in a
change is removed. PostgreSQL applies changes with `change_members` and `members_fit`, functions
that migration 0011 creates.
"""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import (
    JSON,
    ColumnElement,
    FromClause,
    Text,
    case,
    cast,
    func,
    literal_column,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import JSONB

MEMBER_REASONS = ("too many members", "too long members")
"""The messages of the functions' errors. Citus passes on the message alone, and no column."""

_NOTHING: ColumnElement[Any] = literal_column("''")


def holds_members(column: ColumnElement[Any]) -> bool:
    return isinstance(column.type, JSONB)


def members_of(columns: Iterable[Any]) -> Any:  # noqa: ANN401 - a column, or None
    """Return the column that holds further members, if there is one."""
    return next((each for each in columns if holds_members(each)), None)


def with_members_last(columns: Iterable[ColumnElement[Any]]) -> list[ColumnElement[Any]]:
    """Return these columns of a row, and the further members as the last column.

    The last column is null if the members are no object. A member that has the name of a column is
    left out: no JSON object may have a name twice.
    """
    every = [*columns]
    members = members_of(every)
    known = [each for each in every if each is not members]
    if members is None:
        return known
    return [*known, case((_are_object(members), _without(members, known))).label(members.name)]


def _are_object(members: ColumnElement[Any]) -> ColumnElement[bool]:
    return func.jsonb_typeof(members) == literal_column("'object'")


def _without(members: Any, known: Iterable[Any]) -> ColumnElement[Any]:  # noqa: ANN401 - a column
    names = ",".join(each.name for each in known)
    rest: ColumnElement[Any] = members.op("-")(literal_column(f"'{{{names}}}'::text[]"))
    return rest


def with_json(rows: Any) -> tuple[FromClause, ColumnElement[Any]]:  # noqa: ANN401 - a CTE or a subquery
    """Return a source to select from, and an expression for the whole JSON of each row.

    Use the expression only in a statement that needs the whole JSON. PostgreSQL prepares the
    expression each time the statement runs, and needs longer for this than for the JSON of a row.
    """
    members = members_of(rows.c)
    if members is None:
        return rows, func.row_to_json(rows.table_valued())
    known = [each for each in rows.c if each is not members]
    own = select(*known).correlate(rows).lateral("own")
    json = func.row_to_json(own.table_valued())
    text = func.substr(cast(_without(members, known), Text), literal_column("2"))
    pairs = func.left(text, literal_column("-1"))
    parts = (func.left(cast(json, Text), literal_column("-1")), func.nullif(pairs, _NOTHING))
    both = func.concat_ws(literal_column("','"), *parts).op("||")(literal_column("'}'"))
    return rows.join(own, true()), case((_are_object(members), cast(both, JSON)), else_=json)


def changed_members(
    before: Any,  # noqa: ANN401 - an expression of SQL, as are the others
    change: Any,  # noqa: ANN401
    merges: Any,  # noqa: ANN401
    place: Any = None,  # noqa: ANN401
) -> ColumnElement[Any]:
    """Return the members after a change.

    If `merges` is true, an object in the change is merged with the member's object (RFC 7396).
    Otherwise, the object in the change replaces the member. For too many or too long members,
    PostgreSQL raises an error that names the `place` of the change: see `MembersRefused`.
    """
    place = literal_column("NULL") if place is None else place
    changed: ColumnElement[Any] = func.change_members(before, change, merges, place, type_=JSONB)
    return changed


def members_fit(before: Any, change: Any, merges: Any) -> ColumnElement[bool]:  # noqa: ANN401
    """Say whether `changed_members` would return members and raise no error."""
    fit: ColumnElement[bool] = func.members_fit(before, change, merges)
    return fit
