"""The statements that every table of users' rows needs, as functions of the table.

The table's key is (`user_id`, `id`). The table has `created_at` and, if rows change, `updated_at`.
A parameter has the name of the column that it is compared with or assigned to. No answer shows a
column whose `info` has `hidden`. A column whose `info` has `goes_with` belongs to another column.
A client may send None for such a column. Then the column keeps its value if the other column keeps
its value, too. If the other column changes, the column becomes false. A column whose `info` has
`since` has the time when a boolean column became true, and NULL while the boolean column is false.
A trigger of the table sets and clears the time.

In a create, the parameter `updated_at` is the time of the write, or `created_at` if a table has no
`updated_at`. A client may send other times for the new row. A time after the write counts as the
time of the write, because a client's clock may be ahead.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import timedelta
from functools import cache
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import (
    ARRAY,
    CTE,
    BigInteger,
    BindParameter,
    Boolean,
    Column,
    ColumnElement,
    DateTime,
    Delete,
    Enum,
    FromClause,
    Integer,
    Select,
    Table,
    TableValuedAlias,
    Text,
    Update,
    and_,
    any_,
    bindparam,
    case,
    cast,
    column,
    delete,
    false,
    func,
    inspect,
    literal_column,
    not_,
    or_,
    select,
    true,
    tuple_,
    union_all,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB, Insert, insert
from sqlalchemy.sql.dml import ReturningDelete
from sqlalchemy.sql.selectable import NamedFromClause
from sqlalchemy.sql.visitors import iterate, replacement_traverse
from sqlmodel import SQLModel

from src.framework.sql.engine import Shared, Statement, compiled, compiled_answer, compiled_rows
from src.framework.sql.etag import etag_of
from src.framework.sql.json_times import IS_NAME_OF_TIME
from src.framework.sql.members import changed_members, holds_members, with_json, with_members_last
from src.framework.sql.row_end import json_of
from src.framework.sql.text import is_text, letters_and_marks

KEY_LIFETIME = timedelta(hours=24)
"""How long an idempotency key is kept."""

CLEARED_KEYS = 10
"""How many of the owner's expired keys each create with a key deletes."""

MOST_KEYS = 10_000
"""How many keys that have not expired an owner may have."""

SENT_AS_TEXT = (Enum, JSONB)
"""The types whose values are sent as text, which the driver knows."""

MADE_HERE = ("id", "user_id", "created_at", "updated_at")

Owned = TypeVar("Owned", Select[Any], Update, Delete)


def table_of(model: type[SQLModel]) -> Table:
    table = inspect(model).local_table
    if not isinstance(table, Table):
        raise TypeError(f"{model} is not a table")
    for each in table.c:
        kind: Any = each.type
        is_time = isinstance(getattr(kind, "impl_instance", kind), DateTime)
        if IS_NAME_OF_TIME.search(each.name) and not is_time:
            raise TypeError(f"{each}: only times may have a name that ends in _at or _date")
    return table


def shown(table: Table) -> list[ColumnElement[Any]]:
    """Return the columns that answers show, in the order that a statement selects them."""
    return with_members_last(_visible(table))


def _visible(table: Table) -> list[Column[Any]]:
    return [column for column in table.c if "hidden" not in column.info]


def owned(statement: Owned, table: Table) -> Owned:
    """Scope a statement by its owner. No other code does this."""
    return statement.where(table.c.user_id == bindparam("user_id"))


def this_row(statement: Owned, table: Table) -> Owned:
    return owned(statement, table).where(table.c.id == bindparam("id"))


def sent(column: ColumnElement[Any], name: str) -> ColumnElement[Any]:
    """Return a parameter of a column's type."""
    if isinstance(column.type, SENT_AS_TEXT):
        return cast(bindparam(name, type_=Text), column.type)
    return bindparam(name, type_=column.type)


def settled(
    column: Column[Any],
    value: ColumnElement[Any],
    before: Any,  # noqa: ANN401 - columns by name
    other: ColumnElement[Any],
) -> ColumnElement[Any]:
    """Return the value for a column with `goes_with`: see the module."""
    is_same = and_(before[column.name], before[column.info["goes_with"]] == other)
    return func.coalesce(value, is_same, false())


def first_values(
    table: Table, values: Mapping[str, ColumnElement[Any]]
) -> dict[str, ColumnElement[Any]]:
    """Return the values of a new row, from the values that a client sent: see the module."""
    first, written_at = {**values}, values[_written_at(table)]
    if "updated_at" in table.c:
        first["created_at"] = func.least(values["created_at"], written_at)
    for each in table.c:
        if other := each.info.get("since"):
            first[each.name] = case((values[other], func.least(values[each.name], written_at)))
    return first


def select_row(table: Table) -> Statement:
    row = this_row(select(*shown(table)), table)
    asked = _arrays(row)
    # LIMIT makes PostgreSQL look each row up by the index. Without it, while the table is small,
    # PostgreSQL would plan a join that reads the whole table, and keep that plan.
    found = with_values(row, asked).limit(literal_column("1")).lateral("row")
    together = compiled_rows(answers_of(found, asked), found, repeatable=True)
    return replace(compiled(row), shared=lambda _statements, _how: together)


def select_for_many(statement: Select[Any]) -> Statement:
    """Select for many users at once: see `_arrays`."""
    rows = with_values(statement, _arrays(statement)).cte("row")
    return compiled_answer(select(func.row_to_json(rows.table_valued())), repeatable=True)


class Place(NamedTuple):
    """What orders a list: the `column`, and its value in the row after which a page begins."""

    column: ColumnElement[Any]
    position: ColumnElement[Any]


def _in_order(
    page: Select[Any], table: Table, sort: str, place: Place | None, *, goes_on: bool
) -> Select[Any]:
    name, descends = sort.removeprefix("-"), sort.startswith("-")
    nullable, row_id = bool(table.c[name].nullable), table.c.id
    # As text: PostgreSQL's times have a wider range than Python's.
    after = cast(bindparam("position", type_=Text), table.c[name].type)
    column, position = place or Place(table.c[name], after)
    if goes_on:
        page = page.where(
            _comes_after(column, position, row_id, descends=descends, nullable=nullable)
        )
    first = letters_and_marks(column) if is_text(column) else column
    in_order: list[Any] = [first.desc(), row_id.desc()] if descends else [first, row_id]
    if nullable and descends:
        in_order[0] = first.desc().nulls_last()
    if is_text(column):
        exact = column.collate("C")
        in_order.insert(1, exact if descends else exact.desc())
    return page.order_by(*in_order)


def _comes_after(
    column: ColumnElement[Any],
    position: ColumnElement[Any],
    row_id: Column[Any],
    *,
    descends: bool,
    nullable: bool,
) -> ColumnElement[bool]:
    position_id = bindparam("position_id", type_=row_id.type)
    row, place = tuple_(column, row_id), tuple_(position, position_id)
    follows = row < place if descends else row > place
    if is_text(column):
        follows = _text_comes_after(column, position, row_id, position_id, descends=descends)
    if not nullable:
        return follows
    id_follows = row_id < position_id if descends else row_id > position_id
    return or_(follows, and_(column.is_(None), or_(position.is_not(None), id_follows)))


def _text_comes_after(
    column: ColumnElement[Any],
    position: ColumnElement[Any],
    row_id: Column[Any],
    position_id: ColumnElement[Any],
    *,
    descends: bool,
) -> ColumnElement[bool]:
    text = select(position).scalar_subquery()
    # PostgreSQL computes a subquery once, and not for every row.
    place = select(letters_and_marks(position)).scalar_subquery()
    row, exact = letters_and_marks(column), column.collate("C")
    id_follows = row_id < position_id if descends else row_id > position_id
    exact_follows = exact > text if descends else exact < text
    same = and_(row == place, or_(exact_follows, and_(exact == text, id_follows)))
    return or_(row < place if descends else row > place, same)


def select_list(  # noqa: PLR0913 - what a statement depends on
    table: Table,
    sort: str,
    by: frozenset[str],
    filters: Mapping[str, ColumnElement[bool]],
    *,
    counted: bool = False,
    place: Place | None = None,
) -> Statement:
    """Compile a page: `limit` rows, or all rows if `limit` is None.

    In `sort`, `-` means descending. Text is in the order that people expect: see
    `letters_and_marks`. Rows without a value come last in both directions. `place` replaces the
    column if another value orders the list.

    `by` has the names of the page's filters, and `position` or `offset`. With `position`, the page
    begins after (`position`, `position_id`): the column's value as it is in JSON, or None, and the
    id. If the page is `counted`, its last row is the number of all rows that the filters let
    through.
    """
    chosen = [condition for name, condition in filters.items() if name in by]
    page = owned(select(*shown(table)), table).where(*chosen)
    page = _in_order(page, table, sort, place, goes_on="position" in by)
    page = page.limit(bindparam("limit", type_=BigInteger))
    if "offset" in by:
        page = page.offset(bindparam("offset", type_=BigInteger))
    row = page.cte("row")
    answer: Any = select(json_of(row))
    if counted:
        count = owned(select(func.count()).select_from(table), table).where(*chosen)
        total = func.json_send(func.to_json(count.scalar_subquery()))
        answer = union_all(answer, select(total))
    return replace(compiled_rows(answer, row), has_footer=counted)


class Creation(NamedTuple):
    """How a row is created: in one statement or, where tables are distributed, in these steps.

    Citus sends an INSERT to one server only if it is a statement of its own that returns no JSON.
    Inside another statement, an INSERT takes a transaction between the servers.
    """

    at_once: Statement
    kept: Statement | None
    """Stores a key, and returns the key that is stored."""
    inserted: Statement
    written: Statement
    """Returns the row's JSON, and deletes some expired keys if the creation has a key."""
    keys_full: Statement | None
    """Returns the seconds until the owner may keep another key, if the owner may not now."""


def insert_row(table: Table, given: Iterable[str], shared: Shared | None = None) -> Creation:
    """Create a row from the `given` fields.

    Each create has a new id: a conflict can only be with its own first attempt, whose answer got
    lost.
    Raises TypeError unless `given` has the columns that the table needs.
    """
    _check_columns(table, given)
    row = insert(table).values(first_values(table, _values(table))).on_conflict_do_nothing()
    alone = compiled(row.returning(*shown(table)), repeatable=True)
    return Creation(
        at_once=replace(alone, shared=shared, does={"op": "create"}),
        kept=None,
        inserted=compiled_answer(row, repeatable=True),
        written=compiled(select(*with_members_last(_row(table, _visible(table))))),
        keys_full=None,
    )


def insert_row_once(table: Table, given: Iterable[str], keys: Table, row_id: str) -> Creation:
    """Create a row, unless the key has created a row. Return the row as it was created.

    A key is stored with its `fingerprint` and the id of its row, in the column `row_id`. If the key
    came with another fingerprint, or the owner has MOST_KEYS other keys, return None. Keys from
    before `kept_since` have expired and count as absent. The statement deletes some of the owner's
    expired keys.
    Raises TypeError as `insert_row` does, and for a table with a hidden column.
    """
    _check_columns(table, given)
    if len(_visible(table)) < len(table.c):
        raise TypeError(f"{table}: the answer would show a hidden column")
    key = keys.c
    names = {"user_id": "user_id", "key": "key", "fingerprint": "fingerprint"}
    names |= {"created_at": _written_at(table), row_id: "id"}
    sent_key = {name: bindparam(value, type_=key[name].type) for name, value in names.items()}
    may_keep = or_(not_(are_full(keys)), _has_this(keys))
    keep = insert(keys).from_select(list(names), select(*sent_key.values()).where(may_keep))
    of_the_row = [key.user_id, key[row_id].label("id"), key.created_at]
    made = _renewed(keep, keys, row_id).returning(*of_the_row, key.fingerprint).cte("made")
    kept = _renewed(insert(keys).values(sent_key), keys, row_id)
    row = select(*_row(table, table.c, made)).cte("row")
    is_new = row.c.id == bindparam("id")
    created = (
        insert(table)
        .from_select(row.c.keys(), select(row).where(is_new))
        .on_conflict_do_nothing()
        .returning(table.c.id)
        .cte("created")
    )
    cleared = clear_keys(keys).cte("cleared")
    is_same = made.c.fingerprint == bindparam("fingerprint")
    rows, json = with_json(row)
    answer = select(case((is_same, json))).select_from(made.join(rows, true()))
    found = owned(select(*of_the_row), keys).where(key.key == bindparam("key")).cte("made")
    rows, json = with_json(select(*_row(table, table.c, found)).cte("row"))
    written = select(json).select_from(rows)
    return insert_row(table, given)._replace(
        at_once=compiled_answer(answer.add_cte(created, cleared), repeatable=True),
        kept=compiled_answer(
            kept.returning(key[row_id].label("id"), key.fingerprint), repeatable=True
        ),
        written=compiled_answer(written.add_cte(cleared), repeatable=True),
        keys_full=keys_full(keys),
    )


def _renewed(keep: Insert, keys: Table, row_id: str) -> Insert:
    """Leave a stored key as it is, unless it has expired."""
    has_expired = is_expired(keys)
    renewed = {
        name: case((has_expired, keep.excluded[name]), else_=keys.c[name])
        for name in ("fingerprint", row_id, "created_at")
    }
    return keep.on_conflict_do_update(index_elements=["user_id", "key"], set_=renewed)


def keys_full(keys: Table) -> Statement:
    """Return the seconds until the owner may store the key, if there are MOST_KEYS other keys."""
    oldest = owned(select(func.min(keys.c.created_at)), keys).where(not_(is_expired(keys)))
    since = bindparam("kept_since", type_=keys.c.created_at.type)
    seconds = func.ceil(func.extract("epoch", oldest.scalar_subquery() - since))
    answer = select(func.to_json(cast(seconds, Integer)))
    return compiled_answer(answer.where(are_full(keys), not_(_has_this(keys))), repeatable=True)


def are_full(keys: Table) -> ColumnElement[bool]:
    live = owned(select(keys.c.user_id), keys).where(not_(is_expired(keys)))
    return live.offset(literal_column(str(MOST_KEYS - 1))).limit(literal_column("1")).exists()


def _has_this(keys: Table) -> ColumnElement[bool]:
    this = owned(select(keys.c.key), keys).where(keys.c.key == bindparam("key"))
    return this.where(not_(is_expired(keys))).exists()


def is_expired(keys: Table) -> ColumnElement[bool]:
    # A parameter: where tables are distributed, ON CONFLICT may not use now().
    return keys.c.created_at < bindparam("kept_since", type_=keys.c.created_at.type)


def clear_keys(keys: Table) -> ReturningDelete[Any]:
    """Delete some of the owner's expired keys, but not `key`."""
    expired = (
        owned(select(keys.c.key), keys)
        .where(is_expired(keys), keys.c.key != bindparam("key"))
        .limit(literal_column(str(CLEARED_KEYS)))
        .with_for_update(skip_locked=True)
    )
    # ARRAY makes PostgreSQL run the subquery once. A second run would skip the rows that the first
    # has locked, and find others.
    names = func.array(expired.scalar_subquery(), type_=ARRAY(Text))
    return owned(delete(keys), keys).where(keys.c.key == any_(names)).returning(keys.c.key)


def _values(table: Table) -> dict[str, ColumnElement[Any]]:
    return {column.name: sent(column, column.name) for column in table.c}


def _written_at(table: Table) -> str:
    return "updated_at" if "updated_at" in table.c else "created_at"


def _row(
    table: Table, columns: Iterable[Column[Any]], made: CTE | None = None
) -> list[ColumnElement[Any]]:
    """Return a new row's values for these columns; `made` may have its id, owner and time."""
    values: dict[str, ColumnElement[Any]] = {
        name: cast(value, table.c[name].type) for name, value in _values(table).items()
    }
    if made is not None:
        values |= {name: made.c[name] for name in ("id", "user_id")}
        values[_written_at(table)] = made.c.created_at
    first = first_values(table, values)
    return [first[column.name].label(column.name) for column in columns]


def _check_columns(table: Table, given: Iterable[str]) -> None:
    names = [*given]
    made = {*MADE_HERE} & {*table.c.keys()} - ({"created_at"} & {*names})
    if sorted([*made, *names]) != sorted(table.c.keys()):
        raise TypeError(f"{table}: name every column, and nothing else")


def now(table: FromClause) -> ColumnElement[Any]:
    """Return the time for `updated_at`.

    The time never goes back: the database's clock may be behind the clock that made the row.
    """
    later: ColumnElement[Any] = func.greatest(table.c.updated_at, func.now())
    return later


@cache
def update_row(
    table: Table,
    fields: frozenset[str],
    *,
    conditional: bool = False,
    shared: Shared | None = None,
    replaces: bool = False,
) -> Statement:
    """Change these fields; without any, change nothing, not even `updated_at`.

    The statement merges further members (RFC 7396). With `replaces`, it replaces each member.
    """
    if not fields and not conditional:
        return select_row(table)
    changes: dict[str, Any] = {name: sent(table.c[name], name) for name in fields}
    for each in table.c:
        other = each.info.get("goes_with")
        if each.name in fields and other in fields:
            changes[each.name] = settled(each, changes[each.name], table.c, changes[other])
        if each.name in fields and holds_members(each):
            merges = false() if replaces else true()
            changes[each.name] = changed_members(each, changes[each.name], merges)
    changes["updated_at"] = now(table) if fields else table.c.updated_at
    changed = update(table).values(changes).returning(*shown(table))
    sets = sum(bit_of(table, name) for name in fields)
    does = {"op": "update", "sets": sets} | ({"replaces": True} if replaces else {})
    return _change(changed, table, conditional, shared, does)


@cache
def toggle_row(
    table: Table, field: str, *, conditional: bool = False, shared: Shared | None = None
) -> Statement:
    """Make true what is false, and the other way round."""
    changes = {field: not_(table.c[field]), "updated_at": now(table)}
    changed = update(table).values(changes).returning(*shown(table))
    does = {"op": "update", "toggles": bit_of(table, field)}
    return _change(changed, table, conditional, shared, does)


@cache
def delete_row(
    table: Table, *, conditional: bool = False, shared: Shared | None = None
) -> Statement:
    gone = delete(table).returning(*table.primary_key)
    return _change(gone, table, conditional, shared, {"op": "delete"})


def made_here(table: Table) -> list[str]:
    """Return the columns whose values the service sets, in whole or in part."""
    return [
        each.name
        for each in table.c
        if each.name in MADE_HERE
        or not each.info.keys().isdisjoint({"goes_with", "since"})
        or holds_members(each)
    ]


def bit_of(table: Table, name: str) -> int:
    """Return the bit that stands for a column in a set of columns."""
    return 1 << table.c.keys().index(name)


def _change(
    statement: Any,  # noqa: ANN401 - Update or Delete, returning
    table: Table,
    conditional: bool,
    shared: Shared | None,
    does: Mapping[str, object],
) -> Statement:
    """Change one row. With a condition, return None if the row does not meet it.

    If `wanted`, the row's ETag must be one of `etags`; otherwise it must be none of them. The
    statement locks the row when it reads it, so that nobody changes the row in between.
    """
    if not conditional:
        return replace(compiled(this_row(statement, table)), shared=shared, does=does)
    current = this_row(select(*_visible(table)), table).with_for_update().cte("current")
    rows, json = with_json(current)
    is_one_of_them = etag_of(json) == any_(bindparam("etags", type_=ARRAY(Text)))
    meets = select(current.c.id).select_from(rows)
    meets = meets.where(is_one_of_them == bindparam("wanted", type_=Boolean))
    return compiled(this_row(statement, table).where(meets.exists()), current=current)


def _arrays(statement: Any) -> TableValuedAlias:  # noqa: ANN401 - any statement
    """Make an array of each parameter of a statement, and return the table of the arrays.

    An array has the parameter's name with an s. PostgreSQL reads two arrays faster than JSON with
    as many values. Texts have no limit here: PostgreSQL would compare each text with the limit.
    """
    parameters = {each.key: each for each in iterate(statement) if isinstance(each, BindParameter)}
    arrays = (
        bindparam(f"{name}s", type_=ARRAY(Text if is_text(each) else each.type))
        for name, each in parameters.items()
    )
    columns = (column(name, each.type) for name, each in parameters.items())
    return func.unnest(*arrays).table_valued(*columns).render_derived(name="asked")


def with_values(statement: Any, asked: FromClause) -> Any:  # noqa: ANN401 - any statement, and the same
    """Replace the parameters of a statement by the columns that have their names."""

    def value(element: Any, **_: Any) -> Any:  # noqa: ANN401 - any part of a statement
        return asked.c[element.key] if isinstance(element, BindParameter) else None

    return replacement_traverse(statement, {}, value)


def answers_of(rows: NamedFromClause, asked: FromClause | None = None) -> Select[Any]:
    """Select the JSON of each row, its owner and its id."""
    source = rows if asked is None else asked.join(rows, true())
    return select(json_of(rows), rows.c.user_id, rows.c.id).select_from(source)
