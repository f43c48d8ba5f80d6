"""Rows as the JSON objects that are answered, in which every time has one form."""

from typing import Any

from sqlalchemy import (
    ColumnElement,
    DateTime,
    FromClause,
    TypeDecorator,
    case,
    cast,
    func,
    literal_column,
    or_,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import TIMESTAMP

_FORM: ColumnElement[str] = literal_column("""'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"'""")
_FIRST: ColumnElement[Any] = literal_column("timestamptz '0001-01-01 00:00:00+00'")
_ENDLESS: ColumnElement[Any] = literal_column("timestamptz 'infinity'")
_OF_CLOCKS = {"created_at", "updated_at"}


def json_of(rows: Any, source: Any = None) -> tuple[ColumnElement[Any], FromClause]:  # noqa: ANN401 - a CTE or a subquery, and a join
    """Return the JSON object of each row, and what to select it from, for sessions in UTC.

    The rows are in the `source`, or on their own. Times are written as in
    2026-12-24T09:30:00.000000+00:00, also where row_to_json leaves zeros out at the end. To write
    all of them takes a third longer than row_to_json, so it writes the times that clocks have made
    unless one ends in zero. Times before the year 1, and `infinity`, stay as PostgreSQL has them.
    """
    source = rows if source is None else source
    times = {each.name for each in rows.c if _is_time(each)}
    if not times:
        return func.row_to_json(rows.table_valued()), source
    few = _lateral("sent", rows, times - _OF_CLOCKS)
    if not times & _OF_CLOCKS:
        return func.row_to_json(few.table_valued()), source.join(few, true())
    tenths = TIMESTAMP(timezone=True, precision=5)
    end_in_zero = [each == cast(each, tenths) for each in rows.c if each.name in times & _OF_CLOCKS]
    all_times = _lateral("padded", rows, times)
    json = case(
        (or_(*end_in_zero), func.row_to_json(all_times.table_valued())),
        else_=func.row_to_json(few.table_valued()),
    )
    return json, source.join(few, true()).join(all_times, true())


def _is_time(column: ColumnElement[Any]) -> bool:
    kind: Any = column.type
    return isinstance(kind.impl_instance if isinstance(kind, TypeDecorator) else kind, DateTime)


def _lateral(name: str, rows: Any, times: set[str]) -> Any:  # noqa: ANN401 - as above
    columns = ((_text_of(each) if each.name in times else each).label(each.name) for each in rows.c)
    return select(*columns).correlate(rows).lateral(name)


def _text_of(time: ColumnElement[Any]) -> ColumnElement[Any]:
    as_it_is = func.to_json(time).op("#>>")(literal_column("'{}'"))
    is_without_form = or_(time < _FIRST, time == _ENDLESS)
    return case((is_without_form, as_it_is), else_=func.to_char(time, _FORM))
