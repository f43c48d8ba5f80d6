"""Run a batch, and say what its result means. Raises DatabaseUnavailable."""

from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, Literal, NamedTuple
from uuid import UUID

from pydantic_core import to_json
from sqlalchemy.ext.asyncio import AsyncEngine

from src.framework.condition import Condition
from src.framework.sql.batch_statements import CHANGED, FULL, LATE, MISSING, REUSED, BatchStatements
from src.framework.sql.engine import fetch_all, is_distributed
from src.framework.sql.exceptions import BatchRefused, KeyReused
from src.framework.sql.rows import check_room
from src.framework.sql.statements import KEY_LIFETIME
from src.framework.sql.steps import apply_in_steps
from src.framework.sql.uuid7 import instant, next_tick, uuid7

_FAILURES = {MISSING, LATE, CHANGED}


class RowChange(NamedTuple):
    """A change of a batch. `apply_changes` makes the id of a row to create."""

    op: Literal["create", "update", "delete"]
    id: UUID | None = None
    fields: Mapping[str, object] = {}
    condition: Condition | None = None


async def apply_changes(
    engine: AsyncEngine, batch: BatchStatements, changes: Sequence[RowChange], /, **values: object
) -> list[bytes | None]:
    """Apply all changes or none; return the new state of each row, or None if it was deleted.

    No two changes may name the same row. If the `key` was used before with this `fingerprint`,
    return the states from then. Raises BatchRefused, KeyReused for a key that came with another
    fingerprint, and TooManyKeys.
    """
    has_key = "key" in values
    if has_key:
        now = instant(next_tick())
        values |= {"created_at": now, "kept_since": now - KEY_LIFETIME}
    operations = [_operation(n, change, values["user_id"]) for n, change in enumerate(changes)]
    apply = apply_in_steps if is_distributed(engine) else _apply_at_once
    rows = await apply(engine, batch, operations, values)
    if has_key and not _FAILURES.isdisjoint(rows):
        # The same batch may have been applied while this one waited: ask for its answer.
        rows = await apply(engine, batch, operations, values)
    if rows == [REUSED]:
        raise KeyReused
    if rows == [FULL]:
        await check_room(engine, batch.keys_full, values)
    missing = [n for n, row in enumerate(rows) if row == MISSING]
    changed = [n for n, row in enumerate(rows) if row == CHANGED]
    if missing or changed:
        raise BatchRefused(missing, changed)
    return [None if row == b"null" else row for row in rows]


def _operation(n: int, change: RowChange, user_id: object) -> dict[str, Any]:
    """Describe a change to the statement: see `change_rows`."""
    op, row_id, fields, condition = change
    if op == "create":
        tick = next_tick()
        now = instant(tick)
        row_id = uuid7(tick)
        made = {"id": row_id, "user_id": user_id, "updated_at": now}
        fields = {"created_at": None, **fields, **made}
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
