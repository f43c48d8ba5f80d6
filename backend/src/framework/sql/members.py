"""Further members of a row: a `jsonb` column holds them, and answers show them after the columns.

A table has at most one such column. A change is an object of JSON as text; a member that is null is
removed. PostgreSQL applies changes with `change_members` and `members_fit`, functions that
migration 0011 creates.
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
    """The JSON of each row in two parts: its columns, and its further members if it has some.

    Both parts come from `source`. `further` is None if no row can have such members. `end` says
    which times stand last in `json`.
    """

    source: FromClause
    json: ColumnElement[Any]
    has_further: ColumnElement[bool]
    further: ColumnElement[Any] | None
    end: RowEnd

    @property
    def columns(self) -> list[ColumnElement[Any]]:
        """What a statement selects. The driver reads `bytea` without calling Python."""
        json = func.json_send(self.json)
        if self.further is None:
            return [json]
        return [json, case((self.has_further, func.jsonb_send(self.further))).label("further")]


def in_parts(rows: Any) -> Parts:  # noqa: ANN401 - a CTE or a subquery
    members = next((each for each in rows.c if holds_members(each)), None)
    known = [each for each in rows.c if each is not members]
    # A column that is computed may be null.
    end = row_end({each.name: getattr(each, "nullable", True) for each in known})
    if members is None:
        return Parts(rows, func.row_to_json(rows.table_valued()), false(), None, end)
    own = select(*known).correlate(rows).lateral("own")
    json = func.row_to_json(own.table_valued())
    has_further = func.jsonb_typeof(members) == literal_column("'object'")
    # A member with the name of a column is not shown: no object has a name twice.
    names = ",".join(each.name for each in known)
    further = members.op("-")(literal_column(f"'{{{names}}}'::text[]"))
    return Parts(rows.join(own, true()), json, has_further, further, end)


_EMPTY = b"\x01{}"  # `jsonb` is sent with its version first


def joined(json: bytes, further: bytes) -> bytes:
    """Return the JSON of a row from its two parts."""
    return json if further == _EMPTY else b"%b,%b" % (json[:-1], further[2:])


def with_json(rows: Any) -> tuple[FromClause, ColumnElement[Any]]:  # noqa: ANN401 - a CTE or a subquery
    """Return what to select from, and the whole JSON of each row.

    PostgreSQL prepares this for each statement, which takes longer than the JSON of a row itself:
    use it where the statement needs the whole JSON.
    """
    source, json, has_further, further, _ = in_parts(rows)
    if further is None:
        return source, json
    text = func.substr(cast(further, Text), literal_column("2"))
    pairs = func.left(text, literal_column("-1"))
    parts = (func.left(cast(json, Text), literal_column("-1")), func.nullif(pairs, _NOTHING))
    both = func.concat_ws(literal_column("','"), *parts).op("||")(literal_column("'}'"))
    return source, case((has_further, cast(both, JSON)), else_=json)


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
