"""Further members of a row: a `jsonb` column holds them, and answers show them after the columns.

A table has at most one such column. A change is an object of JSON as text; a member that is null is
removed. PostgreSQL applies changes with `change_members` and `members_fit`, functions that
migration 0011 creates.
"""

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


def with_json(rows: Any) -> tuple[FromClause, ColumnElement[Any]]:  # noqa: ANN401 - a CTE or a subquery
    """Return what to select from, and the JSON of each row.

    For a row without further members, this takes PostgreSQL no longer than `row_to_json` alone. A
    member with the name of a column is not shown, so that no object has a name twice.
    """
    members = next((each for each in rows.c if holds_members(each)), None)
    if members is None:
        return rows, func.row_to_json(rows.table_valued())
    known = [each for each in rows.c if each is not members]
    own = select(*known).correlate(rows).lateral("own")
    json: ColumnElement[Any] = func.row_to_json(own.table_valued())
    names = ",".join(each.name for each in known)
    shown = cast(members.op("-")(literal_column(f"'{{{names}}}'::text[]")), Text)
    pairs = func.left(func.substr(shown, literal_column("2")), literal_column("-1"))
    parts = (func.left(cast(json, Text), literal_column("-1")), func.nullif(pairs, _NOTHING))
    both = func.concat_ws(literal_column("','"), *parts).op("||")(literal_column("'}'"))
    has_some = func.jsonb_typeof(members) == literal_column("'object'")
    return rows.join(own, true()), case((has_some, cast(both, JSON)), else_=json)


def changed_members(
    before: Any,  # noqa: ANN401 - an expression of SQL, as are the others
    change: Any,  # noqa: ANN401
    merges: Any,  # noqa: ANN401
    place: Any = None,  # noqa: ANN401
) -> ColumnElement[Any]:
    """Return the members after a change.

    If it `merges`, objects are merged (RFC 7396), otherwise they are replaced. Too many or too long
    members are an error of PostgreSQL that names the `place` of the change: see `MembersRefused`.
    """
    place = literal_column("NULL") if place is None else place
    changed: ColumnElement[Any] = func.change_members(before, change, merges, place, type_=JSONB)
    return changed


def members_fit(before: Any, change: Any, merges: Any) -> ColumnElement[bool]:  # noqa: ANN401
    """Say whether `changed_members` would return members, not raise an error."""
    fit: ColumnElement[bool] = func.members_fit(before, change, merges)
    return fit
