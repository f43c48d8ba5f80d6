"""How rows are written where Citus distributes tables: in steps, in a transaction."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from pydantic_core import to_json
from sqlalchemy import Table
from sqlalchemy.ext.asyncio import AsyncEngine

from src.framework.long_numbers import json_text, read_json
from src.framework.sql.batch_statements import CHANGED, FULL, LATE, MISSING, REUSED, BatchStatements
from src.framework.sql.engine import Run, fetch, fetch_in_transaction, rows_of
from src.framework.sql.etag import etag
from src.framework.sql.exceptions import TooManyKeys
from src.framework.sql.members import holds_members
from src.framework.sql.statements import Creation, delete_row, made_here, update_row


async def create_in_steps(
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
        [row] = rows_of(creation.written, await run(creation.written, **values))
        return row

    return await fetch_in_transaction(engine, create, user_id=str(values["user_id"]))


async def apply_in_steps(
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
            return [each["row"] for each in seen] if is_same else [REUSED]
        ids = [each["id"] for each in operations if each["op"] != "create"]
        locked = rows_of(batch.locked, await run(batch.locked, ids=ids, **values))
        current = {UUID(read_json(row)["id"]): row for row in locked}
        verdicts = [_verdict(each, current.get(each["id"])) for each in operations]
        if any(verdicts):
            return verdicts
        keeps = has_key and any(each["op"] != "keep" for each in operations)
        if keeps and await run(batch.keys_full, **values):
            return [FULL]
        if keeps and not await run(batch.kept, **values):
            return [LATE]
        rows = [await _apply(run, batch, each, values) for each in operations]
        if keeps:
            parts = [_kept_of(batch.table, *each) for each in zip(operations, rows, strict=True)]
            await run(batch.answered, answer=json_text(parts).encode(), **values)
            await run(batch.cleared, **values)
        return rows

    return await fetch_in_transaction(
        engine, apply, user_id=str(values["user_id"]), repeatable=has_key
    )


def _kept_of(table: Table, operation: dict[str, Any], row: bytes | None) -> dict[str, Any] | None:
    """Return the members of a row's new state that are not in the operation."""
    if row is None:
        return None
    said = operation["fields"].keys() - made_here(table)
    members = read_json(row)
    further = {name: members.pop(name) for name in members.keys() - table.c.keys()}
    kept = {name: value for name, value in members.items() if name not in said}
    return kept | {each.name: further or None for each in table.c if holds_members(each)}


def _verdict(operation: dict[str, Any], row: bytes | None) -> bytes | None:
    if operation["op"] == "create":
        return None
    if row is None:
        return MISSING
    return CHANGED if operation["etags"] and etag(row) not in operation["etags"] else None


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
    [answer] = rows_of(statement, await run(statement, **row))
    return answer
