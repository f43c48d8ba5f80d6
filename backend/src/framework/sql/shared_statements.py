"""The statements that many requests share. Each request changes a row of its own."""

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from sqlalchemy import (
    CTE,
    JSON,
    Boolean,
    Column,
    ColumnClause,
    ColumnElement,
    FromClause,
    Integer,
    Select,
    Table,
    TableValuedAlias,
    Text,
    any_,
    bindparam,
    case,
    cast,
    column,
    delete,
    false,
    func,
    literal_column,
    not_,
    or_,
    select,
    true,
    union_all,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from src.framework.sql.engine import Shared, Statement, compiled_rows
from src.framework.sql.members import changed_members, holds_members, members_fit, members_of
from src.framework.sql.sharing import How
from src.framework.sql.statements import (
    SENT_AS_TEXT,
    answers_of,
    bit_of,
    first_values,
    now,
    owned,
    settled,
    shown,
    this_row,
    with_values,
)


def share_writes(table: Table, given: Iterable[str], feeds: Table | None = None) -> Shared:
    """Make the statements for many rows. Each row says what happens to it.

    A row's `op` is create, update or delete. An update sets or toggles the columns whose bits are
    in `sets` and `toggles`. If the update `replaces`, it does not merge further members. There is
    one statement for each set of operations, and one statement for rows that all do the same:
    PostgreSQL takes time for each part and each column, used or not. `feeds` is the table where a
    trigger counts changes.
    """
    names = tuple(given)

    @cache
    def written(ops: frozenset[object], only: Statement | None, how: How) -> Statement:
        does = None if only is None else only.does
        return _write_many(table, names, feeds, ops, how=how, only=does)

    def shared(statements: frozenset[Statement], how: How) -> Statement:
        ops = frozenset(each.does["op"] for each in statements)
        return written(ops, next(iter(statements)) if len(statements) == 1 else None, how)

    return shared


LOCK_TIMEOUT = "20ms"
"""How long the first write of a new user waits for another first write of that user."""


def _write_many(  # noqa: PLR0913 - what a statement depends on
    table: Table,
    given: Iterable[str],
    feeds: Table | None,
    ops: frozenset[object],
    *,
    how: How,
    only: Mapping[str, object] | None = None,
) -> Statement:
    """Write many rows. Each row says what happens to it.

    With `how` other than `wait`, the statement leaves out a row if somebody else has locked the row
    or its feed. The statement waits for nobody, so no two such statements can deadlock. With
    `wait`, all rows are of one owner. The statement locks the rows in the order of their ids, and
    the feed last, as every other statement does. `only` is what each row does, if all rows do the
    same.
    """
    waits = how == "wait"
    needed = [
        each
        for each in table.c
        if only is None or "create" in ops or each.primary_key or _is_in(each, only.get("sets"))
    ]
    members = members_of(needed)
    asked: Any = _asked_rows(needed, only)

    def does(rows: FromClause, op: str) -> ColumnElement[bool]:
        return true() if only else rows.c.op == literal_column(f"'{op}'")

    if waits:
        asked = select(asked).order_by(asked.c.id).subquery("asked")
    source = asked
    is_free: ColumnElement[bool] = true()
    if feeds is not None and not waits:
        feed = with_values(
            owned(select(feeds.c.user_id), feeds).with_for_update(skip_locked=True), asked
        ).lateral("feed")
        source = asked.join(feed, true())
        if how == "add" and "create" in ops:
            added = _add_feeds(feeds, asked, does(asked, "create")).cte("added")
            source = asked.outerjoin(feed, true()).outerjoin(
                added, added.c.user_id == asked.c.user_id
            )
            is_free = or_(feed.c.user_id.is_not(None), added.c.user_id.is_not(None))
    answers: list[Select[Any]] = []

    if "create" in ops:
        new = _new_rows(table, asked).select_from(source).where(does(asked, "create"), is_free)
        # If a row is there, from an attempt whose answer got lost, the statement fails. Then each
        # request goes alone. To look for such rows would take a fifteenth of PostgreSQL's time.
        made = insert(table).from_select(table.c.keys(), new)
        answers.append(answers_of(made.returning(*shown(table)).cte("created")))

    if ops != {"create"}:
        is_change = true() if only else not_(does(asked, "create"))
        rows = _lock_rows(table, asked, source, waits=waits)
        locked = rows.where(is_change, is_free).cte("locked")
        if "update" in ops:
            states = _states(table, given, locked, only)
            row = _at_places(update(table).values(states), table, locked, does(locked, "update"))
            if members is not None and not waits:
                row = row.where(_fit(locked, members, only))
            answers.append(answers_of(row.returning(*shown(table)).cte("updated")))
        if "delete" in ops:
            row = _at_places(delete(table), table, locked, does(locked, "delete"))
            answers.append(answers_of(row.returning(*table.primary_key).cte("deleted")))

    answer = answers[0] if len(answers) == 1 else union_all(*answers)
    return compiled_rows(answer, select(*shown(table)).subquery(), ops == {"create"})


def _lock_rows(table: Table, asked: Any, source: Any, *, waits: bool) -> Select[Any]:  # noqa: ANN401 - tables and joins
    """Lock the rows that requests change, and return the place (`ctid`) of each row.

    While a statement waits, a row may move to a place that the statement does not see. So a
    statement that waits returns the row's place before the wait, too.
    """
    ctid: ColumnClause[Any] = column("ctid")
    this = this_row(select(ctid).select_from(table), table)
    found = with_values(this.with_for_update(skip_locked=not waits), asked).lateral("found")
    rows, places = source.join(found, true()), [found.c.ctid]
    if waits:
        seen = with_values(this.limit(literal_column("1")), asked).lateral("seen")
        rows = rows.join(seen, true())
        places.append(seen.c.ctid.label("place"))
    return select(asked, *places).select_from(rows)


def _at_places(change: Any, table: Table, locked: CTE, is_asked: ColumnElement[bool]) -> Any:  # noqa: ANN401 - Update or Delete
    """Change the rows that are locked.

    The statement finds the rows by their places: while the table is small, PostgreSQL would plan a
    join that reads the whole table.
    """
    places = [
        func.array(select(each).where(is_asked).scalar_subquery())
        for name, each in locked.c.items()
        if name in {"ctid", "place"}
    ]
    place = places[0] if len(places) == 1 else func.array_cat(*places)
    is_there = literal_column(f"{table.name}.ctid") == any_(place)
    return with_values(this_row(change, table), locked).where(is_there)


def _asked_rows(
    needed: Iterable[Column[Any]], only: Mapping[str, object] | None
) -> TableValuedAlias:
    does = [column("op", Text), column("sets", Integer), column("toggles", Integer)]
    does.append(column("replaces", Boolean))
    rows = func.json_to_recordset(bindparam("asked", type_=JSON)).table_valued(
        *(does if only is None else ()),
        *(
            column(each.name, Text if isinstance(each.type, SENT_AS_TEXT) else each.type)
            for each in needed
        ),
    )
    return rows.render_derived(name="asked", with_types=True)


def _new_rows(table: Table, asked: FromClause) -> Select[Any]:
    first = first_values(table, {each.name: _typed(asked, each) for each in table.c})
    return select(*(first[each.name] for each in table.c))


def _typed(rows: FromClause, column: Column[Any]) -> ColumnElement[Any]:
    value = rows.c[column.name]
    return cast(value, column.type) if isinstance(column.type, SENT_AS_TEXT) else value


def _is_in(column: Column[Any], columns: object) -> bool:
    return isinstance(columns, int) and bool(columns & bit_of(column.table, column.name))


def _states(
    table: Table, given: Iterable[str], locked: FromClause, only: Mapping[str, object] | None
) -> dict[str, ColumnElement[Any]]:
    states = {
        name: _state(locked, table.c[name], only)
        for name in given
        if only is None
        or _is_in(table.c[name], only.get("sets"))
        or _is_in(table.c[name], only.get("toggles"))
    }
    return {**states, "updated_at": now(table)}


def _state(
    locked: FromClause, column: Column[Any], only: Mapping[str, object] | None
) -> ColumnElement[Any]:
    """Return a column as an update leaves it."""
    if only is not None and not _is_in(column, only.get("sets")):
        return not_(column)
    value = _typed(locked, column)
    if (other := column.info.get("goes_with")) and other in locked.c:
        value = settled(column, value, column.table.c, locked.c[other])
    if holds_members(column):
        value = changed_members(column, value, _merges(locked, only))
    if only is not None:
        return value
    cases: list[Any] = [(_has(locked.c.sets, column), value)]
    if isinstance(column.type, Boolean):
        cases.append((_has(locked.c.toggles, column), not_(column)))
    return case(*cases, else_=column)


def _has(columns: ColumnElement[int], column: Column[Any]) -> ColumnElement[bool]:
    bit: ColumnElement[int] = literal_column(str(bit_of(column.table, column.name)))
    return columns.op("&")(bit) != literal_column("0")


def _merges(locked: FromClause, only: Mapping[str, object] | None) -> ColumnElement[bool]:
    if only is not None:
        return false() if only.get("replaces") else true()
    return locked.c.replaces.is_not(true())


def _fit(
    locked: FromClause, members: Column[Any], only: Mapping[str, object] | None
) -> ColumnElement[bool]:
    """Leave out an update with too many members: it runs again alone, and fails no other update."""
    fit = members_fit(members, _typed(locked, members), _merges(locked, only))
    return fit if only is not None else or_(not_(_has(locked.c.sets, members)), fit)


def _add_feeds(feeds: Table, asked: FromClause, is_new: ColumnElement[bool]) -> Any:  # noqa: ANN401 - Insert, returning
    """Add the new owners in order: two statements that add the same owners cannot deadlock.

    The statement waits at most LOCK_TIMEOUT: a person who adds an owner may take long to commit.
    """
    timeout = func.set_config(
        literal_column("'lock_timeout'"), literal_column(f"'{LOCK_TIMEOUT}'"), true()
    )
    limit = select(timeout.label("seconds")).subquery("limit")
    feed = with_values(owned(select(feeds.c.user_id), feeds), asked)
    new = (
        select(asked.c.user_id, literal_column("0"))
        .select_from(limit.join(asked, true()))
        .where(is_new, not_(feed.exists()))
        .distinct()
        .order_by(asked.c.user_id)
    )
    added = insert(feeds).from_select(["user_id", "seq"], new).on_conflict_do_nothing()
    return added.returning(feeds.c.user_id)
