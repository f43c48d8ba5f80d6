"""The statements that every table of users' rows needs, as functions of the table.

Its key is (`user_id`, `id`), and it has `created_at` and `updated_at`. A parameter has the name of
the column that it is compared with or assigned to.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import timedelta
from functools import cache
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import (
    ARRAY,
    CTE,
    JSON,
    BigInteger,
    BindParameter,
    Boolean,
    Column,
    ColumnClause,
    ColumnElement,
    Delete,
    Enum,
    FromClause,
    Integer,
    Select,
    Table,
    TableValuedAlias,
    Text,
    Update,
    all_,
    and_,
    any_,
    bindparam,
    case,
    cast,
    column,
    delete,
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
from sqlalchemy.dialects.postgresql import JSONB, Insert, aggregate_order_by, insert
from sqlalchemy.sql.dml import ReturningDelete, ReturningInsert
from sqlalchemy.sql.visitors import iterate, replacement_traverse
from sqlmodel import SQLModel

from src.framework.sql.engine import Shared, Statement, compiled, compiled_answer
from src.framework.sql.etag import etag_of
from src.framework.sql.sharing import How

KEY_LIFETIME = timedelta(hours=24)
"""How long an idempotency key is kept."""

CLEARED_KEYS = 10
"""How many of the owner's expired keys each create with a key deletes."""

MOST_KEYS = 10_000
"""How many keys that have not expired an owner may have."""

MADE_HERE = ("id", "user_id", "created_at", "updated_at")

Owned = TypeVar("Owned", Select[Any], Update, Delete)


def table_of(model: type[SQLModel]) -> Table:
    table = inspect(model).local_table
    if not isinstance(table, Table):
        raise TypeError(f"{model} is not a table")
    return table


def owned(statement: Owned, table: Table) -> Owned:
    """Scope a statement by its owner. No other code does this."""
    return statement.where(table.c.user_id == bindparam("user_id"))


def _this(statement: Owned, table: Table) -> Owned:
    return owned(statement, table).where(table.c.id == bindparam("id"))


def sent(column: ColumnElement[Any], name: str) -> ColumnElement[Any]:
    """Return a parameter of a column's type; for an enum text, which the driver knows."""
    if isinstance(column.type, Enum):
        return cast(bindparam(name, type_=Text), column.type)
    return bindparam(name, type_=column.type)


def select_row(table: Table) -> Statement:
    row = _this(select(table), table)
    asked = _asked(column(name, kind) for name, kind in _parameters(row).items())
    # Limited, it is looked up for each, and not joined: planned while the table is small, a join
    # would read all of it.
    found = _with_values(row, asked).limit(literal_column("1")).lateral("row")
    rows = _answers(found, asked.join(found, true()))
    together = compiled_answer(rows, repeatable=True)
    return replace(compiled(row), shared=lambda _statements, _how: together)


def select_for_many(statement: Select[Any]) -> Statement:
    """Select for many at once: each parameter becomes an array, with an s at its name's end."""
    types = _parameters(statement)
    arrays = (bindparam(f"{name}s", type_=ARRAY(kind)) for name, kind in types.items())
    columns = (column(name, kind) for name, kind in types.items())
    asked = func.unnest(*arrays).table_valued(*columns).render_derived(name="asked")
    rows = _with_values(statement, asked).cte("row")
    return compiled_answer(select(func.row_to_json(rows.table_valued())), repeatable=True)


def select_page(
    table: Table, sort: str, filters: Iterable[ColumnElement[bool]] = (), *, goes_on: bool
) -> Select[Any]:
    """Select `limit` rows, all if it is None, in the order of a column; `-` is for descending.

    Rows without a value come last in both directions. With `goes_on`, begin after (`position`,
    `position_id`): the column's value as it is in JSON, or None, and the id.
    """
    name, descends = sort.removeprefix("-"), sort.startswith("-")
    column, row_id = table.c[name], table.c.id
    statement = owned(select(table), table).where(*filters)
    if goes_on:
        statement = statement.where(_comes_after(column, row_id, descends=descends))
    in_order = (column.desc(), row_id.desc()) if descends else (column, row_id)
    if column.nullable and descends:
        in_order = (column.desc().nulls_last(), row_id.desc())
    return statement.order_by(*in_order).limit(bindparam("limit", type_=BigInteger))


def _comes_after(
    column: Column[Any], row_id: Column[Any], *, descends: bool
) -> ColumnElement[bool]:
    # As text: PostgreSQL's times have a wider range than Python's.
    position = cast(bindparam("position", type_=Text), column.type)
    position_id = bindparam("position_id", type_=row_id.type)
    row, place = tuple_(column, row_id), tuple_(position, position_id)
    follows = row < place if descends else row > place
    if not column.nullable:
        return follows
    id_follows = row_id < position_id if descends else row_id > position_id
    return or_(follows, and_(column.is_(None), or_(position.is_not(None), id_follows)))


def select_list(
    table: Table,
    sort: str,
    by: frozenset[str],
    filters: Mapping[str, ColumnElement[bool]],
    *,
    counted: bool = False,
) -> Statement:
    """Compile a page `by` any of position (with position_id), offset, and the names of filters.

    If it is `counted`, its last row is the number of all rows that the filters let through.
    """
    chosen = [condition for name, condition in filters.items() if name in by]
    page = select_page(table, sort, chosen, goes_on="position" in by)
    if "offset" in by:
        page = page.offset(bindparam("offset", type_=BigInteger))
    if not counted:
        return compiled(page)
    count = owned(select(func.count()).select_from(table), table).where(*chosen)
    total = select(func.to_json(count.scalar_subquery()))
    rows = page.cte("row")
    each = select(func.row_to_json(rows.table_valued()))
    return compiled_answer(union_all(each, total), repeatable=True)


class Creation(NamedTuple):
    """How a row is created: in one statement, or where tables are distributed in these steps.

    There an INSERT goes straight to the server that has the owner's rows if it is a statement of
    its own that returns no JSON; inside another, it takes a transaction between the servers.
    """

    at_once: Statement
    kept: Statement | None
    """Keeps a key; its only row is the one that is kept."""
    inserted: Statement
    written: Statement
    """Returns the row's JSON, and deletes some expired keys if the creation has a key."""
    keys_full: Statement | None
    """Returns the seconds until the owner may keep another key, if that is not now."""


def insert_row(table: Table, given: Iterable[str], shared: Shared | None = None) -> Creation:
    """Create a row from the `given` fields.

    Its id is new: a row in conflict is the same one, from an attempt whose answer got lost.
    Raises TypeError when these are not the table's columns.
    """
    _check_columns(table, given)
    row = insert(table).values(_values(table)).on_conflict_do_nothing()
    alone = compiled(row.returning(table), repeatable=True)
    return Creation(
        at_once=replace(alone, shared=shared, does={"op": "create"}),
        kept=None,
        inserted=compiled_answer(row, repeatable=True),
        written=compiled(_row(table)),
        keys_full=None,
    )


def insert_row_once(table: Table, given: Iterable[str], keys: Table, row_id: str) -> Creation:
    """Create a row unless the key already did; return the row as it was created.

    A key is kept with its `fingerprint` and the id of its row, in the column `row_id`. If the key
    came with another fingerprint, or the owner has MOST_KEYS others, return None. Keys of before
    `kept_since` have expired and count as absent; some of the owner's are deleted.
    Raises TypeError as `insert_row` does.
    """
    _check_columns(table, given)
    key = keys.c
    names = {"user_id": "user_id", "key": "key", "fingerprint": "fingerprint"}
    names |= {"created_at": "created_at", row_id: "id"}
    sent_key = {name: bindparam(value, type_=key[name].type) for name, value in names.items()}
    may_keep = or_(not_(_are_full(keys)), _has_this(keys))
    keep = insert(keys).from_select(list(names), select(*sent_key.values()).where(may_keep))
    of_the_row = [key.user_id, key[row_id].label("id"), key.created_at]
    made = _renewed(keep, keys, row_id).returning(*of_the_row, key.fingerprint).cte("made")
    kept = _renewed(insert(keys).values(sent_key), keys, row_id)
    row = _row(table, made).cte("row")
    is_new = row.c.id == bindparam("id")
    created = (
        insert(table)
        .from_select(row.c.keys(), select(row).where(is_new))
        .on_conflict_do_nothing()
        .returning(table.c.id)
        .cte("created")
    )
    cleared = _clear(keys).cte("cleared")
    is_same = made.c.fingerprint == bindparam("fingerprint")
    answer = select(case((is_same, func.row_to_json(row.table_valued())))).select_from(
        made.join(row, true())
    )
    found = owned(select(*of_the_row), keys).where(key.key == bindparam("key")).cte("made")
    json = select(func.row_to_json(_row(table, found).cte("row").table_valued()))
    return insert_row(table, given)._replace(
        at_once=compiled_answer(answer.add_cte(created, cleared), repeatable=True),
        kept=compiled_answer(
            kept.returning(key[row_id].label("id"), key.fingerprint), repeatable=True
        ),
        written=compiled_answer(json.add_cte(cleared), repeatable=True),
        keys_full=keys_full(keys),
    )


def _renewed(keep: Insert, keys: Table, row_id: str) -> Insert:
    """Leave a key that is kept already as it is, unless it has expired."""
    has_expired = _has_expired(keys)
    renewed = {
        name: case((has_expired, keep.excluded[name]), else_=keys.c[name])
        for name in ("fingerprint", row_id, "created_at")
    }
    return keep.on_conflict_do_update(index_elements=["user_id", "key"], set_=renewed)


def keys_full(keys: Table) -> Statement:
    """Return the seconds until the owner may keep the key, if there are MOST_KEYS others now."""
    oldest = owned(select(func.min(keys.c.created_at)), keys).where(not_(_has_expired(keys)))
    since = bindparam("kept_since", type_=keys.c.created_at.type)
    seconds = func.ceil(func.extract("epoch", oldest.scalar_subquery() - since))
    answer = select(func.to_json(cast(seconds, Integer)))
    return compiled_answer(answer.where(_are_full(keys), not_(_has_this(keys))), repeatable=True)


def _are_full(keys: Table) -> ColumnElement[bool]:
    live = owned(select(keys.c.user_id), keys).where(not_(_has_expired(keys)))
    return live.offset(literal_column(str(MOST_KEYS - 1))).limit(literal_column("1")).exists()


def _has_this(keys: Table) -> ColumnElement[bool]:
    this = owned(select(keys.c.key), keys).where(keys.c.key == bindparam("key"))
    return this.where(not_(_has_expired(keys))).exists()


def _has_expired(keys: Table) -> ColumnElement[bool]:
    # A parameter: what a conflict changes may not depend on now() where tables are distributed.
    return keys.c.created_at < bindparam("kept_since", type_=keys.c.created_at.type)


def _clear(keys: Table) -> ReturningDelete[Any]:
    """Delete some of the owner's expired keys, but not `key`."""
    expired = (
        owned(select(keys.c.key), keys)
        .where(_has_expired(keys), keys.c.key != bindparam("key"))
        .limit(literal_column(str(CLEARED_KEYS)))
        .with_for_update(skip_locked=True)
    )
    # As an array, so that it is selected once: again, it would find others to lock.
    names = func.array(expired.scalar_subquery(), type_=ARRAY(Text))
    return owned(delete(keys), keys).where(keys.c.key == any_(names)).returning(keys.c.key)


def _values(table: Table) -> dict[str, ColumnElement[Any]]:
    values = {column.name: sent(column, column.name) for column in table.c}
    return values | {"updated_at": values["created_at"]}


def _row(table: Table, made: CTE | None = None) -> Select[Any]:
    """Select a new row from the parameters; with `made`, its id, owner and time from there."""
    values: dict[str, ColumnElement[Any]] = {
        name: cast(value, table.c[name].type) for name, value in _values(table).items()
    }
    if made is not None:
        values |= {name: made.c[name] for name in ("id", "user_id", "created_at")}
        values["updated_at"] = made.c.created_at
    return select(*(values[column.name].label(column.name) for column in table.c))


def _check_columns(table: Table, given: Iterable[str]) -> None:
    if sorted([*MADE_HERE, *given]) != sorted(table.c.keys()):
        raise TypeError(f"{table}: each column must be given, and nothing else")


def now(table: FromClause) -> ColumnElement[Any]:
    """Return the time for `updated_at`.

    It never goes back: the database's clock may be behind that of the service that made the row.
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
) -> Statement:
    """Change these fields; without any, change nothing, not even `updated_at`."""
    if not fields and not conditional:
        return select_row(table)
    changes: dict[str, Any] = {name: sent(table.c[name], name) for name in fields}
    changes["updated_at"] = now(table) if fields else table.c.updated_at
    statement = _change(update(table).values(changes).returning(table), table, conditional)
    sets = sum(_bit(table, name) for name in fields)
    return _sharing(statement, conditional, shared, {"op": "update", "sets": sets})


@cache
def toggle_row(
    table: Table, field: str, *, conditional: bool = False, shared: Shared | None = None
) -> Statement:
    """Make true what is false, and the other way round."""
    changes = {field: not_(table.c[field]), "updated_at": now(table)}
    statement = _change(update(table).values(changes).returning(table), table, conditional)
    toggles = _bit(table, field)
    return _sharing(statement, conditional, shared, {"op": "update", "toggles": toggles})


@cache
def delete_row(
    table: Table, *, conditional: bool = False, shared: Shared | None = None
) -> Statement:
    statement = _change(delete(table).returning(*table.primary_key), table, conditional)
    return _sharing(statement, conditional, shared, {"op": "delete"})


def _sharing(
    statement: Statement, conditional: bool, shared: Shared | None, does: dict[str, object]
) -> Statement:
    return statement if conditional else replace(statement, shared=shared, does=does)


def _bit(table: Table, name: str) -> int:
    """Stand for a column in a set of them."""
    return 1 << table.c.keys().index(name)


def _change(
    statement: Any,  # noqa: ANN401 - Update or Delete, returning
    table: Table,
    conditional: bool,
) -> Statement:
    """Change one row. With a condition, return None if the row does not meet it.

    It meets it if its ETag is one of `etags`, or is none of them if not `wanted`. The row is locked
    when it is read, so that it cannot change before it is written.
    """
    if not conditional:
        return compiled(_this(statement, table))
    current = _this(select(table), table).with_for_update().cte("current")
    is_one_of_them = etag_of(current.table_valued()) == any_(bindparam("etags", type_=ARRAY(Text)))
    meets = select(current.c.id).where(is_one_of_them == bindparam("wanted", type_=Boolean))
    return compiled(_this(statement, table).where(meets.exists()), current=current)


def share_writes(table: Table, given: Iterable[str], feeds: Table | None = None) -> Shared:
    """Make the statements for many rows, each of which says what happens to it.

    Its `op` is create, update or delete. An update sets or toggles the columns whose bits are in
    `sets` and `toggles`. There is one statement for each set of operations, and one for rows that
    all do the same: PostgreSQL takes time for each part and each column, wanted or not. `feeds` is
    the table that a trigger counts changes in.
    """
    names = tuple(given)

    @cache
    def of_all(ops: frozenset[object], how: How) -> Statement:
        return _write_many(table, names, feeds, ops, how=how)

    @cache
    def of_one(only: Statement, how: How) -> Statement:
        ops = frozenset([only.does["op"]])
        return _write_many(table, names, feeds, ops, how=how, only=only.does)

    def shared(statements: frozenset[Statement], how: How) -> Statement:
        if len(statements) == 1:
            return of_one(*statements, how)
        return of_all(frozenset(each.does["op"] for each in statements), how)

    return shared


LOCK_TIMEOUT = "20ms"
"""How long the first writes of new users wait for another first write of one of them."""


def _write_many(  # noqa: PLR0913 - what a statement depends on
    table: Table,
    given: Iterable[str],
    feeds: Table | None,
    ops: frozenset[object],
    *,
    how: How,
    only: Mapping[str, object] | None = None,
) -> Statement:
    """Write many rows, each of which says what happens to it.

    If it does not `wait`, it leaves out those whose feed or row somebody else has locked, and so
    waits for nobody. Then no two of them can deadlock. If it waits, all rows are of one owner; it
    locks them in the order of their ids, and the feed last, as every other statement does.
    `only` is what each of the rows does, if they all do the same.
    """
    waits = how == "wait"
    needed = [
        each
        for each in table.c
        if only is None or "create" in ops or each.primary_key or _is_in(each, only.get("sets"))
    ]
    columns = [column("op", Text), column("sets", Integer), column("toggles", Integer)]
    asked: Any = func.json_to_recordset(bindparam("asked", type_=JSON)).table_valued(
        *(columns if only is None else ()),
        *(column(each.name, Text if isinstance(each.type, Enum) else each.type) for each in needed),
    )
    asked = asked.render_derived(name="asked", with_types=True)

    def does(rows: FromClause, op: str) -> ColumnElement[bool]:
        return true() if only else rows.c.op == literal_column(f"'{op}'")

    if waits:
        asked = select(asked).order_by(asked.c.id).subquery("asked")
    source = asked
    is_free: ColumnElement[bool] = true()
    if feeds is not None and not waits:
        feed = _with_values(
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
        values = [_typed(asked, each) for each in table.c]
        new = select(*values).select_from(source).where(does(asked, "create"), is_free)
        made = insert(table).from_select(table.c.keys(), new).on_conflict_do_nothing()
        answers.append(_answers(made.returning(table).cte("created")))

    if ops != {"create"}:
        place: ColumnClause[Any] = column("ctid")
        this = _this(select(place).select_from(table), table)
        found = _with_values(this.with_for_update(skip_locked=not waits), asked).lateral("found")
        rows = source.join(found, true())
        places = [found.c.ctid]
        if waits:
            seen = _with_values(this.limit(literal_column("1")), asked).lateral("seen")
            rows = rows.join(seen, true())
            places.append(seen.c.ctid.label("place"))
        locked = (
            select(asked, *places)
            .select_from(rows)
            .where(true() if only else not_(does(asked, "create")), is_free)
            .cte("locked")
        )

        def changed(change: Any, op: str) -> Any:  # noqa: ANN401 - Update or Delete
            """Change the rows that are locked.

            By their places: planned while the table is small, a join would read all of it. Where a
            statement has waited, a row may have another place by now than this statement sees.
            """
            places = [
                func.array(select(each).where(does(locked, op)).scalar_subquery())
                for name, each in locked.c.items()
                if name in {"ctid", "place"}
            ]
            place = places[0] if len(places) == 1 else func.array_cat(*places)
            is_there = literal_column(f"{table.name}.ctid") == any_(place)
            return _with_values(_this(change, table), locked).where(is_there)

        if "update" in ops:
            states = {
                name: _state(locked, table.c[name], only)
                for name in given
                if only is None
                or _is_in(table.c[name], only.get("sets"))
                or _is_in(table.c[name], only.get("toggles"))
            }
            states["updated_at"] = now(table)
            row = changed(update(table).values(states), "update")
            answers.append(_answers(row.returning(table).cte("updated")))
        if "delete" in ops:
            row = changed(delete(table), "delete")
            answers.append(_answers(row.returning(*table.primary_key).cte("deleted")))

    answer = answers[0] if len(answers) == 1 else union_all(*answers)
    return compiled_answer(answer, repeatable=ops == {"create"})


def _typed(rows: FromClause, column: Column[Any]) -> ColumnElement[Any]:
    value = rows.c["created_at" if column.name == "updated_at" else column.name]
    return cast(value, column.type) if isinstance(column.type, Enum) else value


def _is_in(column: Column[Any], columns: object) -> bool:
    return isinstance(columns, int) and bool(columns & _bit(column.table, column.name))


def _state(
    locked: FromClause, column: Column[Any], only: Mapping[str, object] | None
) -> ColumnElement[Any]:
    """Return a column as an update leaves it."""
    if only is not None:
        is_set = _is_in(column, only.get("sets"))
        return _typed(locked, column) if is_set else not_(column)

    def is_in(columns: ColumnElement[int]) -> ColumnElement[bool]:
        bit: ColumnElement[int] = literal_column(str(_bit(column.table, column.name)))
        return columns.op("&")(bit) != literal_column("0")

    cases: list[Any] = [(is_in(locked.c.sets), _typed(locked, column))]
    if isinstance(column.type, Boolean):
        cases.append((is_in(locked.c.toggles), not_(column)))
    return case(*cases, else_=column)


def _add_feeds(feeds: Table, asked: FromClause, is_new: ColumnElement[bool]) -> Any:  # noqa: ANN401 - Insert, returning
    """Add the new owners, in their order: two statements that add the same cannot deadlock.

    No longer than LOCK_TIMEOUT: whoever has added one by hand may take long to commit.
    """
    timeout = func.set_config(
        literal_column("'lock_timeout'"), literal_column(f"'{LOCK_TIMEOUT}'"), true()
    )
    limit = select(timeout.label("seconds")).subquery("limit")
    feed = _with_values(owned(select(feeds.c.user_id), feeds), asked)
    new = (
        select(asked.c.user_id, literal_column("0"))
        .select_from(limit.join(asked, true()))
        .where(is_new, not_(feed.exists()))
        .distinct()
        .order_by(asked.c.user_id)
    )
    added = insert(feeds).from_select(["user_id", "seq"], new).on_conflict_do_nothing()
    return added.returning(feeds.c.user_id)


def _asked(columns: Iterable[ColumnClause[Any]]) -> TableValuedAlias:
    """Return a table of many requests' values."""
    rows = func.json_to_recordset(bindparam("asked", type_=JSON)).table_valued(*columns)
    return rows.render_derived(name="asked", with_types=True)


def _parameters(statement: Any) -> dict[str, Any]:  # noqa: ANN401 - any statement
    return {each.key: each.type for each in iterate(statement) if isinstance(each, BindParameter)}


def _with_values(statement: Any, asked: FromClause) -> Any:  # noqa: ANN401 - any statement, and the same
    """Replace the parameters of a statement by the columns that have their names."""

    def value(element: Any, **_: Any) -> Any:  # noqa: ANN401 - any part of a statement
        return asked.c[element.key] if isinstance(element, BindParameter) else None

    return replacement_traverse(statement, {}, value)


def _answers(rows: Any, source: FromClause | None = None) -> Select[Any]:  # noqa: ANN401 - a CTE or a subquery
    answers = select(rows.c.user_id, rows.c.id, func.row_to_json(rows.table_valued()))
    return answers if source is None else answers.select_from(source)


class BatchStatements(NamedTuple):
    """How many rows are created, updated and deleted, all or none.

    It is one statement, or where tables are distributed these steps in a transaction.
    """

    table: Table
    creation: Creation
    at_once: Statement
    once: Statement
    """The same with a key, so that it can be repeated."""
    seen: Statement
    """Returns the fingerprint of a key that is kept, beside each row of its answer."""
    locked: Statement
    """Returns the rows with these `ids`."""
    kept: Statement
    """Keeps a key, and returns it unless it is kept already."""
    answered: Statement
    """Adds the `answer` to the key."""
    cleared: Statement
    """Deletes some of the owner's expired keys."""
    keys_full: Statement
    """Returns the seconds until the owner may keep another key, if that is not now."""


def change_rows(table: Table, given: Iterable[str], keys: Table, row_id: str) -> BatchStatements:
    """Apply the `operations`, each an object with these members.

    `n` is its place, `op` is create, update, delete or keep, and `id` names the row, each row only
    once. Unless `etags` is null, the row's ETag must be one of them. `fields` has all columns of a
    new row, or those to update.
    There is a row for each operation, in their order: the new state of the table's row, or none if
    it was deleted. If any operation cannot be applied, none is: the rows of those are 404 or 412.
    A key is kept with its `fingerprint` and what the answer has beside the operations' own fields,
    and given that answer again. A batch without changes keeps no key. Of an earlier release, which
    kept whole answers, the key has the `earlier_fingerprint`. If it came with another one, the only
    row is 422; if it was used for the first time meanwhile, 409; if the owner has MOST_KEYS others,
    429. Keys of before `kept_since` have expired and count as absent; some of them are deleted.
    """
    new_key = insert(keys).values(
        {name: bindparam(name) for name in ("user_id", "key", "fingerprint", "created_at")}
    )
    this_key = keys.c.key == bindparam("key")
    found, row, n = _answer_of_then(table, keys)
    seen = owned(select(keys.c.fingerprint, row.label("row")), keys).select_from(found)
    seen = seen.where(this_key, not_(_has_expired(keys))).order_by(n)
    ids = bindparam("ids", type_=ARRAY(table.c.id.type))
    locked = owned(select(table), table).where(table.c.id == any_(ids)).order_by(table.c.id)
    answered = owned(update(keys), keys).where(this_key).values(answer=bindparam("answer"))
    return BatchStatements(
        table=table,
        creation=insert_row(table, given),
        at_once=_change_rows(table, given),
        once=_change_rows_once(table, given, keys, row_id),
        seen=compiled_answer(seen, repeatable=True),
        locked=compiled(locked.with_for_update()),
        kept=compiled_answer(_keep(new_key, keys, row_id), repeatable=True),
        answered=compiled_answer(answered, repeatable=True),
        cleared=compiled_answer(_clear(keys), repeatable=True),
        keys_full=keys_full(keys),
    )


def _answer_of_then(
    table: Table, keys: FromClause
) -> tuple[FromClause, ColumnElement[Any], ColumnElement[Any]]:
    """Join a key with its operations; return also the answer to each, and its place.

    What was kept of a new state goes before what the operation says.
    """
    kept = func.json_array_elements(keys.c.answer).table_valued(
        column("value", JSON), with_ordinality="n"
    )
    each = kept.render_derived(name="each").lateral()
    operation = _operations(table).subquery("asked")
    merged = func.jsonb_to_record(
        case(
            (
                func.json_typeof(each.c.value) == literal_column("'object'"),
                cast(operation.c.fields, JSONB).op("||")(cast(each.c.value, JSONB)),
            ),
            else_=literal_column("'{}'::jsonb"),
        )
    ).table_valued(*(column(name.name, name.type) for name in table.c))
    state = merged.render_derived(name="state", with_types=True).lateral()
    is_state = func.json_typeof(each.c.value) == literal_column("'object'")
    row = case((is_state, func.row_to_json(state.table_valued())), else_=each.c.value)
    source = (
        keys.outerjoin(each, true())
        .outerjoin(operation, operation.c.n == each.c.n - literal_column("1"))
        .outerjoin(state, true())
    )
    return source, row, each.c.n


def _keep(new_key: Insert, keys: Table, row_id: str) -> ReturningInsert[Any]:
    """Keep a key, and return it unless it is kept already."""
    names = ("fingerprint", row_id, "answer", "created_at")
    return new_key.on_conflict_do_update(
        index_elements=["user_id", "key"],
        set_={name: new_key.excluded[name] for name in names},
        where=_has_expired(keys),
    ).returning(keys.c.key)


def _change_rows(table: Table, given: Iterable[str]) -> Statement:
    verdict, all_can, state = _judged(table, _operations(table))
    answer = select(_answer(verdict, state)).select_from(_with_state(verdict, state))
    changes = _writes(table, given, verdict, state, all_can)
    return compiled_answer(answer.order_by(verdict.c.n).add_cte(*changes), repeatable=False)


def _change_rows_once(table: Table, given: Iterable[str], keys: Table, row_id: str) -> Statement:
    key = keys.c
    seen = (
        owned(select(key.fingerprint, key.answer), keys)
        .where(key.key == bindparam("key"), not_(_has_expired(keys)))
        .cte("seen")
    )
    operations = _operations(table).where(not_(select(seen).exists()))
    verdict, all_can, state = _judged(table, operations)
    rows = func.json_agg(aggregate_order_by(_answer(verdict, state), verdict.c.n))
    parts = func.json_agg(aggregate_order_by(_kept_of(verdict, state), verdict.c.n))
    answer = (
        select(rows.label("rows"), parts.label("parts"))
        .select_from(_with_state(verdict, state))
        .cte("answer")
    )
    sent = [bindparam(name, type_=key[name].type) for name in ("user_id", "key", "fingerprint")]
    new_key = select(*sent, bindparam("created_at", type_=key.created_at.type), answer.c.parts)
    changes_any = select(verdict.c.n).where(not_(_is(verdict, "keep"))).exists()
    may_keep = and_(select(all_can).exists(), changes_any)
    kept = _keep(
        insert(keys).from_select(
            ["user_id", "key", "fingerprint", "created_at", "answer"],
            new_key.where(may_keep, not_(_are_full(keys))),
        ),
        keys,
        row_id,
    ).cte("kept")
    changes = _writes(table, given, verdict, state, kept)
    cleared = _clear(keys).where(select(kept).exists()).cte("cleared")
    is_same = seen.c.fingerprint.in_(
        [bindparam("fingerprint", type_=Text), bindparam("earlier_fingerprint", type_=Text)]
    )
    found, row, n = _answer_of_then(table, seen)
    then = select(func.json_agg(aggregate_order_by(row, n))).select_from(found).scalar_subquery()
    before = select(case((is_same, then), else_=_REUSED)).select_from(seen).scalar_subquery()
    is_not_kept = and_(may_keep, not_(select(kept).exists()))
    fresh = select(
        case(
            (and_(is_not_kept, _are_full(keys)), _FULL),
            (is_not_kept, _LATE),
            else_=answer.c.rows,
        )
    ).scalar_subquery()
    each = func.json_array_elements(func.coalesce(before, fresh)).table_valued(
        column("value", JSON), with_ordinality="n"
    )
    each = each.render_derived(name="each")
    in_order = select(each.c.value).order_by(each.c.n)
    return compiled_answer(in_order.add_cte(*changes, cleared), repeatable=True)


_REUSED: ColumnElement[Any] = literal_column("'[422]'::json")
_LATE: ColumnElement[Any] = literal_column("'[409]'::json")
_FULL: ColumnElement[Any] = literal_column("'[429]'::json")


def _operations(table: Table) -> Select[Any]:
    rows = func.json_to_recordset(bindparam("operations", type_=JSON)).table_valued(
        column("n", Integer),
        column("op", Text),
        column("id", table.c.id.type),
        column("etags", ARRAY(Text)),
        column("fields", JSON),
    )
    return select(rows.render_derived(name="operations", with_types=True))


def _is(operation: CTE, *ops: str) -> ColumnElement[bool]:
    return or_(*(operation.c.op == literal_column(f"'{op}'") for op in ops))


def _judged(table: Table, operations: Select[Any]) -> tuple[CTE, CTE, CTE]:
    """Return the verdict on each operation, whether all can be applied, and the rows' new states.

    All rows are locked in the order of their ids, before the first one is written.
    """
    operation = operations.cte("operation")
    ids = select(operation.c.id).where(not_(_is(operation, "create"))).scalar_subquery()
    current = (
        owned(select(table.c.id, table.table_valued().label("before")), table)
        .where(table.c.id == any_(func.array(ids)))
        .order_by(table.c.id)
        .with_for_update()
        .cte("current")
    )
    # Whole, it has its columns in the order in which they were added to the table.
    parts: list[ColumnElement[Any]] = [
        literal_column(f"(current.before).{each.name}").label(each.name) for each in table.c
    ]
    row = select(*parts).lateral("row")
    is_missing = and_(not_(_is(operation, "create")), current.c.id.is_(None))
    has_changed = and_(
        operation.c.etags.is_not(None),
        etag_of(row.table_valued()) != all_(operation.c.etags),
    )
    failure = case((is_missing, literal_column("404")), (has_changed, literal_column("412"))).label(
        "failure"
    )
    verdict = (
        select(operation, current.c.before, failure)
        .select_from(
            operation.outerjoin(current, current.c.id == operation.c.id).outerjoin(row, true())
        )
        .cte("verdict")
    )
    can_all = func.bool_and(verdict.c.failure.is_(None))
    all_can = select(can_all.label("yes")).having(can_all).cte("all_can")
    # For a row to create, `before` is null, which counts as a row of nulls.
    columns = [column(each.name, each.type) for each in table.c]
    made = func.json_populate_record(verdict.c.before, verdict.c.fields).table_valued(*columns)
    new = made.lateral("new")
    values: dict[str, ColumnElement[Any]] = {each.name: new.c[each.name] for each in table.c}
    values["updated_at"] = case((_is(verdict, "update"), now(new)), else_=new.c.updated_at)
    state = (
        select(*(value.label(name) for name, value in values.items()))
        .select_from(verdict.join(new, true()))
        .where(not_(_is(verdict, "delete")))
        .cte("state")
    )
    return verdict, all_can, state


def _with_state(verdict: CTE, state: CTE) -> FromClause:
    return verdict.outerjoin(state, state.c.id == verdict.c.id)


def _answer(verdict: CTE, state: CTE) -> ColumnElement[Any]:
    failed = verdict.c.failure.is_not(None)
    return case(
        (failed, func.to_json(verdict.c.failure)),
        (state.c.id.is_not(None), func.row_to_json(state.table_valued())),
    )


def _kept_of(verdict: CTE, state: CTE) -> ColumnElement[Any]:
    """Return what the operation itself does not say of a row's new state."""
    members = func.json_each(func.row_to_json(state.table_valued())).table_valued(
        column("key", Text), column("value", JSON)
    )
    member = members.render_derived(name="member").lateral()
    is_made = member.c.key.in_([literal_column(f"'{name}'") for name in MADE_HERE])
    is_said = verdict.c.fields.op("->")(member.c.key).is_not(None)
    rest = select(func.json_object_agg(member.c.key, member.c.value)).where(
        or_(is_made, not_(is_said))
    )
    return case((state.c.id.is_not(None), rest.scalar_subquery()))


def _writes(table: Table, given: Iterable[str], verdict: CTE, state: CTE, if_any: CTE) -> list[CTE]:
    """Write the states, if there is any row in `if_any`."""
    may = select(if_any).exists()

    def those(op: str) -> ColumnElement[bool]:
        ids = select(verdict.c.id).where(_is(verdict, op)).scalar_subquery()
        return table.c.id == any_(func.array(ids))

    new = select(state).join(verdict, verdict.c.id == state.c.id).where(_is(verdict, "create"))
    created = insert(table).from_select(state.c.keys(), new.where(may))
    values = {name: state.c[name] for name in (*given, "updated_at")}
    updated = (
        owned(update(table), table)
        .values(values)
        .where(those("update"), table.c.id == state.c.id, may)
    )
    deleted = owned(delete(table), table).where(those("delete"), may)
    return [
        created.returning(table.c.id).cte("created"),
        updated.returning(table.c.id).cte("updated"),
        deleted.returning(table.c.id).cte("deleted"),
    ]
