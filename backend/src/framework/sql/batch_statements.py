"""The statements of a batch: many rows of one owner are created, updated and deleted, or none."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from sqlalchemy import (
    ARRAY,
    CTE,
    JSON,
    ColumnElement,
    FromClause,
    Integer,
    Select,
    Table,
    Text,
    all_,
    and_,
    any_,
    bindparam,
    case,
    cast,
    column,
    delete,
    func,
    literal_column,
    not_,
    null,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB, Insert, aggregate_order_by, insert
from sqlalchemy.sql.dml import ReturningInsert

from src.framework.sql.engine import Statement, compiled, compiled_answer
from src.framework.sql.etag import etag_of
from src.framework.sql.members import changed_members, holds_members, with_json
from src.framework.sql.statements import (
    Creation,
    are_full,
    clear_keys,
    first_values,
    insert_row,
    is_expired,
    keys_full,
    made_here,
    now,
    owned,
    settled,
    shown,
)

# What stands for a row in the answer to a batch that was not applied.
MISSING, LATE, CHANGED, REUSED, FULL = b"404", b"409", b"412", b"422", b"429"


class BatchStatements(NamedTuple):
    """How to create, update and delete many rows, all or none.

    In one statement or, where tables are distributed, in these steps of a transaction.
    """

    table: Table
    creation: Creation
    at_once: Statement
    once: Statement
    """Does the same as `at_once`, with a key, so that the batch can be repeated."""
    seen: Statement
    """Returns the fingerprint of a stored key, beside each row of its answer."""
    locked: Statement
    """Returns the rows with these `ids`."""
    kept: Statement
    """Stores a key, and returns it unless it is stored already."""
    answered: Statement
    """Adds the `answer` to the key."""
    cleared: Statement
    """Deletes some of the owner's expired keys."""
    keys_full: Statement
    """Returns the seconds until the owner may keep another key, if the owner may not now."""


def change_rows(table: Table, given: Iterable[str], keys: Table, row_id: str) -> BatchStatements:
    """Apply the `operations`, each an object with these members.

    `n` is the operation's place, `op` is create, update, delete or keep, and `id` names the row; no
    two operations name the same row. Unless `etags` is null, the row's ETag must be in `etags`.
    `fields` has all columns of a new row, or the columns to update.

    The answer has a row for each operation, in the same order: the new state of the table's row, or
    NULL if the row was deleted. If one operation cannot be applied, the statement applies none, and
    the answer has 404 or 412 for that operation.

    A key is stored with its `fingerprint` and with the parts of the answer that are not in the
    operations. The same key gets the same answer again. A batch without changes stores no key. An
    earlier release stored whole answers, with the `earlier_fingerprint`. The answer's only row is
    422 if the key came with another fingerprint, 409 if another request has just stored the key,
    and 429 if the owner has MOST_KEYS other keys. Keys from before `kept_since` have expired and
    count as absent. The statement deletes some of the expired keys.
    """
    new_key = insert(keys).values(
        {name: bindparam(name) for name in ("user_id", "key", "fingerprint", "created_at")}
    )
    this_key = keys.c.key == bindparam("key")
    found, row, n = _answer_of_then(table, keys)
    seen = owned(select(keys.c.fingerprint, row.label("row")), keys).select_from(found)
    seen = seen.where(this_key, not_(is_expired(keys))).order_by(n)
    ids = bindparam("ids", type_=ARRAY(table.c.id.type))
    locked = owned(select(*shown(table)), table).where(table.c.id == any_(ids)).order_by(table.c.id)
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
        cleared=compiled_answer(clear_keys(keys), repeatable=True),
        keys_full=keys_full(keys),
    )


def _answer_of_then(
    table: Table, keys: FromClause
) -> tuple[FromClause, ColumnElement[Any], ColumnElement[Any]]:
    """Join a stored key with the operations; return also each operation's answer and place.

    The stored members of a new state replace the members of the operation.
    """
    kept = func.json_array_elements(keys.c.answer).table_valued(
        column("value", JSON), with_ordinality="n"
    )
    each = kept.render_derived(name="each").lateral()
    operation = _operations(table).subquery("asked")
    is_state = func.json_typeof(each.c.value) == literal_column("'object'")
    both = cast(operation.c.fields, JSONB).op("||")(cast(each.c.value, JSONB))
    record = func.jsonb_to_record(case((is_state, both), else_=literal_column("'{}'::jsonb")))
    merged = record.table_valued(*(column(name.name, name.type) for name in table.c))
    state = merged.render_derived(name="state", with_types=True).lateral()
    states, json = with_json(state)
    row = case((is_state, json), else_=each.c.value)
    source = (
        keys.outerjoin(each, true())
        .outerjoin(operation, operation.c.n == each.c.n - literal_column("1"))
        .outerjoin(states, true())
    )
    return source, row, each.c.n


def _keep(new_key: Insert, keys: Table, row_id: str) -> ReturningInsert[Any]:
    """Store a key, and return it unless it is stored already."""
    names = ("fingerprint", row_id, "answer", "created_at")
    return new_key.on_conflict_do_update(
        index_elements=["user_id", "key"],
        set_={name: new_key.excluded[name] for name in names},
        where=is_expired(keys),
    ).returning(keys.c.key)


def _change_rows(table: Table, given: Iterable[str]) -> Statement:
    verdict = _verdict(table, _operations(table))
    state = _new_states(table, verdict)
    answers, row = _answers(verdict, state)
    answer = select(row).select_from(answers)
    changes = _writes(table, given, verdict, state, _all_can(verdict))
    return compiled_answer(answer.order_by(verdict.c.n).add_cte(*changes), repeatable=False)


def _change_rows_once(table: Table, given: Iterable[str], keys: Table, row_id: str) -> Statement:
    key = keys.c
    seen = (
        owned(select(key.fingerprint, key.answer), keys)
        .where(key.key == bindparam("key"), not_(is_expired(keys)))
        .cte("seen")
    )
    operations = _operations(table).where(not_(select(seen).exists()))
    verdict = _verdict(table, operations)
    all_can, state = _all_can(verdict), _new_states(table, verdict)
    answers, row = _answers(verdict, state)
    rows = func.json_agg(aggregate_order_by(row, verdict.c.n))
    parts = func.json_agg(aggregate_order_by(_kept_of(table, verdict, state), verdict.c.n))
    answer = select(rows.label("rows"), parts.label("parts")).select_from(answers).cte("answer")
    sent = [bindparam(name, type_=key[name].type) for name in ("user_id", "key", "fingerprint")]
    new_key = select(*sent, bindparam("created_at", type_=key.created_at.type), answer.c.parts)
    changes_any = select(verdict.c.n).where(not_(_is(verdict, "keep"))).exists()
    may_keep = and_(select(all_can).exists(), changes_any)
    kept = _keep(
        insert(keys).from_select(
            ["user_id", "key", "fingerprint", "created_at", "answer"],
            new_key.where(may_keep, not_(are_full(keys))),
        ),
        keys,
        row_id,
    ).cte("kept")
    changes = _writes(table, given, verdict, state, kept)
    cleared = clear_keys(keys).where(select(kept).exists()).cte("cleared")
    is_same = seen.c.fingerprint.in_(
        [bindparam("fingerprint", type_=Text), bindparam("earlier_fingerprint", type_=Text)]
    )
    found, row_of_then, n = _answer_of_then(table, seen)
    then = (
        select(func.json_agg(aggregate_order_by(row_of_then, n)))
        .select_from(found)
        .scalar_subquery()
    )
    before = select(case((is_same, then), else_=_REUSED)).select_from(seen).scalar_subquery()
    is_not_kept = and_(may_keep, not_(select(kept).exists()))
    fresh = select(
        case((and_(is_not_kept, are_full(keys)), _FULL), (is_not_kept, _LATE), else_=answer.c.rows)
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


def _verdict(table: Table, operations: Select[Any]) -> CTE:
    """Return the verdict on each operation, beside the operation and the row before.

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
    # A whole row has its columns in the order in which migrations added them to the table.
    parts: list[ColumnElement[Any]] = [
        literal_column(f"(current.before).{each.name}", each.type).label(each.name)
        for each in table.c
    ]
    row = select(*parts).lateral("row")
    rows, json = with_json(row)
    is_missing = and_(not_(_is(operation, "create")), current.c.id.is_(None))
    has_changed = and_(operation.c.etags.is_not(None), etag_of(json) != all_(operation.c.etags))
    failure = case((is_missing, literal_column("404")), (has_changed, literal_column("412"))).label(
        "failure"
    )
    judged = operation.outerjoin(current, current.c.id == operation.c.id).outerjoin(rows, true())
    return select(operation, current.c.before, failure).select_from(judged).cte("verdict")


def _all_can(verdict: CTE) -> CTE:
    """Return a row if all operations can be applied, and no row otherwise."""
    can_all = func.bool_and(verdict.c.failure.is_(None))
    return select(can_all.label("yes")).having(can_all).cte("all_can")


def _new_states(table: Table, verdict: CTE) -> CTE:
    """Return the new states of the rows that are created, updated or kept."""
    # For a create `before` is NULL; json_populate_record takes that as a row of NULLs.
    columns = [column(each.name, each.type) for each in table.c]
    made = func.json_populate_record(verdict.c.before, verdict.c.fields).table_valued(*columns)
    new = made.lateral("new")
    values: dict[str, ColumnElement[Any]] = {each.name: new.c[each.name] for each in table.c}
    values["updated_at"] = case((_is(verdict, "update"), now(new)), else_=new.c.updated_at)
    first = first_values(table, {**new.c})
    is_create = _is(verdict, "create")
    values["created_at"] = case((is_create, first["created_at"]), else_=new.c.created_at)
    was = {
        each.name: literal_column(f"(verdict.before).{each.name}", each.type) for each in table.c
    }
    for each in table.c:
        if other := each.info.get("goes_with"):
            values[each.name] = settled(each, new.c[each.name], was, new.c[other])
        if other := each.info.get("since"):
            stays = (was[other], was[each.name])
            since = case((not_(new.c[other]), null()), stays, else_=values["updated_at"])
            values[each.name] = case((is_create, first[each.name]), else_=since)
        if holds_members(each):
            change = verdict.c.fields.op("->>")(literal_column(f"'{each.name}'"))
            after = changed_members(
                was[each.name], cast(change, JSONB), _is(verdict, "update"), verdict.c.n
            )
            values[each.name] = case((change.is_(None), was[each.name]), else_=after)
    return (
        select(*(value.label(name) for name, value in values.items()))
        .select_from(verdict.join(new, true()))
        .where(not_(_is(verdict, "delete")))
        .cte("state")
    )


def _answers(verdict: CTE, state: CTE) -> tuple[FromClause, ColumnElement[Any]]:
    states, json = with_json(state)
    failed = verdict.c.failure.is_not(None)
    answer = case((failed, func.to_json(verdict.c.failure)), (state.c.id.is_not(None), json))
    return verdict.outerjoin(states, state.c.id == verdict.c.id), answer


def _kept_of(table: Table, verdict: CTE, state: CTE) -> ColumnElement[Any]:
    """Return the members of a row's new state that are not in the operation."""
    members = func.json_each(func.row_to_json(state.table_valued())).table_valued(
        column("key", Text), column("value", JSON)
    )
    member = members.render_derived(name="member").lateral()
    is_made = member.c.key.in_([literal_column(f"'{name}'") for name in made_here(table)])
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
