"""Further members of a row: a `jsonb` column holds them, and answers show them after the columns.

A table has at most one such column. A change is a JSON object as text. A member that is null in a
change is removed. PostgreSQL applies changes with `change_members` and `members_fit`, functions
that migration 0011 creates.
"""

from typing import Any, NamedTuple

from sqlalchemy import (
    JSON,
    ColumnElement,
    FromClause,
    Text,
    case,
    cast,
    false,
    func,
    literal_column,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import JSONB

from src.framework.sql.json_times import RowEnd, row_end

MEMBER_REASONS = ("too many members", "too long members")
"""The messages of the functions' errors. Citus passes on the message alone, and no column."""

_NOTHING: ColumnElement[Any] = literal_column("''")


def holds_members(column: ColumnElement[Any]) -> bool:
    return isinstance(column.type, JSONB)


class Parts(NamedTuple):
    """The two parts of each row: `json` has its columns, and `further` has its further members.

    A statement selects both parts from `source`. `further` is None if no row can have further
    members. A row has a second part only if its members are an object, as `are_object` says. `end`
    says which times stand last in `json`.
    """

    source: FromClause
    json: ColumnElement[Any]
    are_object: ColumnElement[bool]
    further: ColumnElement[Any] | None
    end: RowEnd

    @property
    def columns(self) -> list[ColumnElement[Any]]:
        """The columns that a statement selects, as `bytea`.

        The driver calls no Python function to read `bytea`.
        """
        json = func.json_send(self.json)
        if self.further is None:
            return [json]
        return [json, case((self.are_object, func.jsonb_send(self.further))).label("further")]


def in_parts(rows: Any) -> Parts:  # noqa: ANN401 - a CTE or a subquery
    members = next((each for each in rows.c if holds_members(each)), None)
    known = [each for each in rows.c if each is not members]
    # A column that is computed may be null.
    end = row_end({each.name: getattr(each, "nullable", True) for each in known})
    if members is None:
        return Parts(rows, func.row_to_json(rows.table_valued()), false(), None, end)
    own = select(*known).correlate(rows).lateral("own")
    json = func.row_to_json(own.table_valued())
    are_object = func.jsonb_typeof(members) == literal_column("'object'")
    # Without the members that have the name of a column: no object may have a name twice.
    names = ",".join(each.name for each in known)
    further = members.op("-")(literal_column(f"'{{{names}}}'::text[]"))
    return Parts(rows.join(own, true()), json, are_object, further, end)


_EMPTY = b"\x01{}"  # PostgreSQL sends a byte for the version of `jsonb` before the text


def joined(json: bytes, further: bytes) -> bytes:
    """Join the two parts of a row to one JSON object."""
    return json if further == _EMPTY else b"%b,%b" % (json[:-1], further[2:])


def with_json(rows: Any) -> tuple[FromClause, ColumnElement[Any]]:  # noqa: ANN401 - a CTE or a subquery
    """Return a source to select from, and an expression for the whole JSON of each row.

    Use the expression only in a statement that needs the whole JSON. PostgreSQL prepares the
    expression each time the statement runs, and needs longer for this than for the JSON of a row.
    """
    source, json, are_object, further, _ = in_parts(rows)
    if further is None:
        return source, json
    text = func.substr(cast(further, Text), literal_column("2"))
    pairs = func.left(text, literal_column("-1"))
    parts = (func.left(cast(json, Text), literal_column("-1")), func.nullif(pairs, _NOTHING))
    both = func.concat_ws(literal_column("','"), *parts).op("||")(literal_column("'}'"))
    return source, case((are_object, cast(both, JSON)), else_=json)


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
