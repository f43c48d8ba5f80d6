"""Run the statements of a table of users' rows, and say what their answers mean.

Every function raises DatabaseUnavailable when PostgreSQL cannot be reached.
"""

from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, Literal, NamedTuple
from uuid import UUID

from pydantic_core import from_json, to_json
from sqlalchemy.ext.asyncio import AsyncEngine

from src.framework.condition import Condition, ConditionNotMet
from src.framework.spool import Spool, spool_array, spool_batches
from src.framework.sql.engine import (
    Run,
    Statement,
    fetch,
    fetch_all,
    fetch_batches_into,
    fetch_in_transaction,
    fetch_into,
    is_distributed,
)
from src.framework.sql.etag import etag
from src.framework.sql.exceptions import BatchRefused, KeyReused, NotFound, TooManyKeys
from src.framework.sql.statements import (
    KEY_LIFETIME,
    MADE_HERE,
    BatchStatements,
    Creation,
    delete_row,
    update_row,
)
from src.framework.sql.uuid7 import instant, next_tick, uuid7

AT_ONCE = 1000
"""How many rows of a list without a limit are read at once."""


class RowPage(NamedTuple):
    """Rows, the last of them if a limit leaves others out, and the total if it was counted."""

    rows: Spool
    last: bytes | None = None
    total: int | None = None


async def get_page(
    engine: AsyncEngine,
    statement: Statement,
    limit: int | None,
    /,
    *,
    counting: Statement | None = None,
    **values: object,
) -> RowPage:
    """Answer the rows; one that is `counting` as well gives the total.

    Up to AT_ONCE are one statement. More, if there is no limit, are read again, as one snapshot
    and in batches, so that they are never in memory together.
    """
    length = limit or AT_ONCE
    total: int | None = None

    async def spool_page(rows: list[bytes]) -> RowPage | None:
        nonlocal total
        if counting is not None:
            total = int(rows.pop())
        if len(rows) <= length:
            return RowPage(await spool_array(rows), total=total)
        if limit is None:
            return None
        del rows[length:]
        last = rows[-1]  # before `spool_array` changes the list
        return RowPage(await spool_array(rows), last, total)

    found = await fetch_into(engine, counting or statement, spool_page, **values, limit=length + 1)
    if found is None:
        batches = await fetch_batches_into(engine, statement, spool_batches, **values, limit=None)
        return RowPage(batches, total=total)
    return found


async def get_row(engine: AsyncEngine, statement: Statement, /, **values: object) -> bytes:
    """Return the row. Raises NotFound if there is none."""
    row = await fetch(engine, statement, **values)
    if row is None:
        raise NotFound
    return row


async def create_row(engine: AsyncEngine, creation: Creation, /, **values: object) -> bytes:
    """Create a row and return it; with a `key` and `fingerprint`, one that the key made before.

    Raises KeyReused for a key that came with another fingerprint, and TooManyKeys.
    """
    tick = next_tick()
    now = instant(tick)
    values |= {"id": uuid7(tick), "created_at": now}
    if "key" in values:
        values["kept_since"] = now - KEY_LIFETIME
    create = _create_in_steps if is_distributed(engine) else _create_at_once
    row = await create(engine, creation, values)
    if row is None:
        raise KeyReused
    return row


async def _check_room(engine: AsyncEngine, keys_full: Statement, values: dict[str, object]) -> None:
    """Raises TooManyKeys if the user may keep no other key just now."""
    seconds = await fetch(engine, keys_full, **values)
    if seconds is not None:
        raise TooManyKeys(int(seconds))


async def _create_at_once(
    engine: AsyncEngine, creation: Creation, values: dict[str, object]
) -> bytes | None:
    if creation.keys_full is None:
        row = await fetch(engine, creation.at_once, **values)
        # If none is returned, it is there, from an attempt whose answer got lost.
        return row or await fetch(engine, creation.written, **values)
    rows = await fetch_all(engine, creation.at_once, **values)
    if not rows:
        await _check_room(engine, creation.keys_full, values)
        rows = await fetch_all(engine, creation.at_once, **values)  # a key has expired meanwhile
    return rows[0] if rows else None


async def _create_in_steps(
    engine: AsyncEngine, creation: Creation, values: dict[str, object]
) -> bytes | None:
    keep, keys_full = creation.kept, creation.keys_full
    if keep is None or keys_full is None:
        row = await fetch(engine, creation.written, **values)
        await fetch(engine, creation.inserted, **values)
        return row

    async def create(run: Run) -> bytes | None:
        if full := await run(keys_full, **values):
            raise TooManyKeys(int(full[0][0]))
        [kept] = await run(keep, **values)
        if kept["fingerprint"] != values["fingerprint"]:
            return None
        if kept["id"] == values["id"]:
            await run(creation.inserted, **values)
        row: bytes
        [(row,)] = await run(creation.written, **values)
        return row

    return await fetch_in_transaction(engine, create, user_id=str(values["user_id"]))


async def edit_row(
    engine: AsyncEngine,
    statement: Statement,
    condition: Condition | None,
    /,
    **values: object,
) -> bytes:
    """Change a row and return its new state. `statement` is conditional if there is a condition.

    Raises NotFound and ConditionNotMet.
    """
    if condition is None:
        return await get_row(engine, statement, **values)
    values |= condition._asdict()
    rows: list[bytes | None] = [*await fetch_all(engine, statement, **values)]
    if not rows:
        raise NotFound
    if rows[0] is None:
        raise ConditionNotMet
    return rows[0]


class RowChange(NamedTuple):
    """One of a batch. A row that is created gets its id here."""

    op: Literal["create", "update", "delete"]
    id: UUID | None = None
    fields: Mapping[str, object] = {}
    condition: Condition | None = None


async def apply_changes(
    engine: AsyncEngine, batch: BatchStatements, changes: Sequence[RowChange], /, **values: object
) -> list[bytes | None]:
    """Apply all changes or none; return the new state of each row, or None if it was deleted.

    No two may name the same row. With a `key` and `fingerprint`, return what the key returned
    before. Raises BatchRefused, KeyReused for a key that came with another fingerprint, and
    TooManyKeys.
    """
    has_key = "key" in values
    if has_key:
        now = instant(next_tick())
        values |= {"created_at": now, "kept_since": now - KEY_LIFETIME}
    operations = [_operation(n, change, values["user_id"]) for n, change in enumerate(changes)]
    apply = _apply_in_steps if is_distributed(engine) else _apply_at_once
    rows = await apply(engine, batch, operations, values)
    if has_key and not _FAILURES.isdisjoint(rows):
        # The same batch may have been applied while this one waited for it: ask for its answer.
        rows = await apply(engine, batch, operations, values)
    if rows == [_REUSED]:
        raise KeyReused
    if rows == [_FULL]:
        await _check_room(engine, batch.keys_full, values)
    missing = [n for n, row in enumerate(rows) if row == _MISSING]
    changed = [n for n, row in enumerate(rows) if row == _CHANGED]
    if missing or changed:
        raise BatchRefused(missing, changed)
    return [None if row == b"null" else row for row in rows]


# What stands for a row in the answer to a batch that was not applied.
_MISSING, _LATE, _CHANGED, _REUSED, _FULL = b"404", b"409", b"412", b"422", b"429"
_FAILURES = {_MISSING, _LATE, _CHANGED}


def _operation(n: int, change: RowChange, user_id: object) -> dict[str, Any]:
    """Describe a change to the statement: see `change_rows`."""
    op, row_id, fields, condition = change
    if op == "create":
        tick = next_tick()
        now = instant(tick)
        row_id = uuid7(tick)
        made = {"id": row_id, "user_id": user_id, "created_at": now, "updated_at": now}
        fields = {**fields, **made}
    return {
        "n": n,
        "op": "keep" if op == "update" and not fields else op,
        "id": row_id,
        "etags": condition and condition.etags,
        "fields": fields,
    }


def _apply_at_once(
    engine: AsyncEngine,
    batch: BatchStatements,
    operations: list[dict[str, Any]],
    values: dict[str, object],
) -> Awaitable[Sequence[bytes | None]]:
    statement = batch.once if "key" in values else batch.at_once
    return fetch_all(engine, statement, operations=to_json(operations), **values)


async def _apply_in_steps(
    engine: AsyncEngine,
    batch: BatchStatements,
    operations: list[dict[str, Any]],
    values: dict[str, object],
) -> Sequence[bytes | None]:
    has_key = "key" in values

    async def apply(run: Run) -> Sequence[bytes | None]:
        sent = to_json(operations)
        seen = await run(batch.seen, operations=sent, **values) if has_key else []
        if seen:
            same = (values["fingerprint"], values["earlier_fingerprint"])
            is_same = seen[0]["fingerprint"] in same
            return [each["row"] for each in seen] if is_same else [_REUSED]
        ids = [each["id"] for each in operations if each["op"] != "create"]
        locked = await run(batch.locked, ids=ids, **values)
        current = {UUID(from_json(row)["id"]): row for (row,) in locked}
        verdicts = [_verdict(each, current.get(each["id"])) for each in operations]
        if any(verdicts):
            return verdicts
        keeps = has_key and any(each["op"] != "keep" for each in operations)
        if keeps and await run(batch.keys_full, **values):
            return [_FULL]
        if keeps and not await run(batch.kept, **values):
            return [_LATE]
        rows = [await _apply(run, batch, each, values) for each in operations]
        if keeps:
            parts = [_kept_of(*each) for each in zip(operations, rows, strict=True)]
            await run(batch.answered, answer=to_json(parts), **values)
            await run(batch.cleared, **values)
        return rows

    return await fetch_in_transaction(
        engine, apply, user_id=str(values["user_id"]), repeatable=has_key
    )


def _kept_of(operation: dict[str, Any], row: bytes | None) -> dict[str, Any] | None:
    """Return what the operation itself does not say of a row's new state."""
    if row is None:
        return None
    said = operation["fields"].keys() - MADE_HERE
    return {name: value for name, value in from_json(row).items() if name not in said}


def _verdict(operation: dict[str, Any], row: bytes | None) -> bytes | None:
    if operation["op"] == "create":
        return None
    if row is None:
        return _MISSING
    return _CHANGED if operation["etags"] and etag(row) not in operation["etags"] else None


async def _apply(
    run: Run, batch: BatchStatements, operation: dict[str, Any], values: dict[str, object]
) -> bytes | None:
    row = values | operation["fields"] | {"id": operation["id"]}
    if operation["op"] == "create":
        await run(batch.creation.inserted, **row)
        statement = batch.creation.written
    elif operation["op"] == "delete":
        await run(delete_row(batch.table), **row)
        return None
    else:
        statement = update_row(batch.table, frozenset(operation["fields"]))
    [(answer,)] = await run(statement, **row)
    json: bytes = answer
    return json
