"""Run the statements of a table of users' rows, and say what their answers mean.

Every function raises DatabaseUnavailable when PostgreSQL cannot be reached.
"""

from typing import NamedTuple

from sqlalchemy.ext.asyncio import AsyncEngine

from src.database.cursor import encode
from src.database.engine import (
    Run,
    Statement,
    fetch,
    fetch_all,
    fetch_batches_into,
    fetch_in_transaction,
    fetch_into,
    is_distributed,
)
from src.database.statements import KEY_LIFETIME, Creation
from src.database.uuid7 import instant, next_tick, uuid7
from src.http.conditions import Condition, ConditionNotMet
from src.http.spool import Spool, spool_array, spool_batches
from src.services.exceptions import KeyReused, NotFound

AT_ONCE = 1000
"""How many rows of a list without a limit are read at once."""


class Page(NamedTuple):
    """Rows, the cursor to the next if a limit leaves some out, and the total if it was counted."""

    rows: Spool
    cursor: str | None = None
    total: int | None = None


async def page(
    engine: AsyncEngine,
    statement: Statement,
    sort: str,
    limit: int | None,
    /,
    *,
    counting: Statement | None = None,
    **values: object,
) -> Page:
    """Answer the rows; one that is `counting` as well gives the total.

    Up to AT_ONCE are one statement. More, if there is no limit, are read again, as one snapshot
    and in batches, so that they are never in memory together.
    """
    length = limit or AT_ONCE
    total: int | None = None

    async def spool_page(rows: list[bytes]) -> Page | None:
        nonlocal total
        if counting is not None:
            total = int(rows.pop())
        if len(rows) <= length:
            return Page(await spool_array(rows), total=total)
        if limit is None:
            return None
        del rows[length:]
        return Page(await spool_array(rows), encode(sort, rows[-1]), total)

    found = await fetch_into(engine, counting or statement, spool_page, **values, limit=length + 1)
    if found is None:
        batches = await fetch_batches_into(engine, statement, spool_batches, **values, limit=None)
        return Page(batches, total=total)
    return found


async def one(
    engine: AsyncEngine, statement: Statement, missing: type[NotFound], /, **values: object
) -> bytes:
    """Return the row. Raises `missing` if there is none."""
    row = await fetch(engine, statement, **values)
    if row is None:
        raise missing
    return row


async def created(engine: AsyncEngine, creation: Creation, /, **values: object) -> bytes:
    """Create a row and return it; with a `key` and `fingerprint`, one that the key made before.

    Raises KeyReused for a key that came with another fingerprint.
    """
    tick = next_tick()
    now = instant(tick)
    values |= {"id": uuid7(tick), "created_at": now}
    if "key" in values:
        values["kept_since"] = now - KEY_LIFETIME
    create = _created_in_steps if is_distributed(engine) else _created_at_once
    row = await create(engine, creation, values)
    if row is None:
        raise KeyReused
    return row


async def _created_at_once(
    engine: AsyncEngine, creation: Creation, values: dict[str, object]
) -> bytes | None:
    row = await fetch(engine, creation.at_once, **values)
    if row is None and creation.kept is None:
        # The row is there, from an attempt whose answer got lost.
        return await fetch(engine, creation.written, **values)
    return row


async def _created_in_steps(
    engine: AsyncEngine, creation: Creation, values: dict[str, object]
) -> bytes | None:
    if creation.kept is None:
        row = await fetch(engine, creation.written, **values)
        await fetch(engine, creation.inserted, **values)
        return row
    keep = creation.kept

    async def create(run: Run) -> bytes | None:
        [kept] = await run(keep, **values)
        if kept["fingerprint"] != values["fingerprint"]:
            return None
        if kept["id"] == values["id"]:
            await run(creation.inserted, **values)
        row: bytes
        [(row,)] = await run(creation.written, **values)
        return row

    return await fetch_in_transaction(engine, create, user_id=str(values["user_id"]))


async def changed(
    engine: AsyncEngine,
    statement: Statement,
    missing: type[NotFound],
    condition: Condition | None,
    /,
    **values: object,
) -> bytes:
    """Change a row and return its new state. `statement` is conditional if there is a condition.

    Raises `missing` if there is no such row, and ConditionNotMet.
    """
    if condition is None:
        return await one(engine, statement, missing, **values)
    values |= condition._asdict()
    rows: list[bytes | None] = [*await fetch_all(engine, statement, **values)]
    if not rows:
        raise missing
    if rows[0] is None:
        raise ConditionNotMet
    return rows[0]
