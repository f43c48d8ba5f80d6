"""Run the statements of a table of users' rows, and say what their results mean.

Every function raises DatabaseUnavailable when PostgreSQL cannot be reached.
"""

from typing import NamedTuple

from sqlalchemy.ext.asyncio import AsyncEngine

from src.framework.condition import Condition, ConditionNotMet
from src.framework.spool import Spool, spool_array, spool_batches
from src.framework.sql.engine import (
    Statement,
    fetch,
    fetch_all,
    fetch_batches_into,
    fetch_into,
    is_distributed,
)
from src.framework.sql.exceptions import KeyReused, NotFound, TooManyKeys
from src.framework.sql.statements import KEY_LIFETIME, Creation
from src.framework.sql.steps import create_in_steps
from src.framework.sql.uuid7 import instant, next_tick, uuid7

AT_ONCE = 1000
"""How many rows of a list without a limit are read at once."""


class RowPage(NamedTuple):
    """The rows of a page. If more rows follow, `last` is the last row of the page.

    `total` is the number of rows on all pages, if a statement counted them.
    """

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
    """Return the rows; with a `counting` statement, also the total.

    One statement reads up to AT_ONCE rows. If there are more rows and no limit, a cursor reads all
    rows again, in batches of one snapshot, so memory never has all rows.
    """
    length = limit or AT_ONCE
    with_next = length + 1
    total: int | None = None

    async def spool_page(rows: list[bytes]) -> RowPage | None:
        nonlocal total
        if counting is not None:
            total = int(rows.pop())
        has_more = len(rows) == with_next
        if has_more and limit is None:
            return None
        del rows[length:]
        last = rows[-1] if has_more else None  # before `spool_array` changes the list
        return RowPage(await spool_array(rows), last, total)

    found = await fetch_into(engine, counting or statement, spool_page, **values, limit=with_next)
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
    """Create a row and return it. If the `key` was used before, return the row from then.

    Without `created_at`, the row is created now.
    Raises KeyReused for a key that came with another fingerprint, and TooManyKeys.
    """
    tick = next_tick()
    now = instant(tick)
    values.setdefault("created_at", None)
    values |= {"id": uuid7(tick), "updated_at": now}
    if "key" in values:
        values["kept_since"] = now - KEY_LIFETIME
    create = create_in_steps if is_distributed(engine) else _create_at_once
    row = await create(engine, creation, values)
    if row is None:
        raise KeyReused
    return row


async def check_room(engine: AsyncEngine, keys_full: Statement, values: dict[str, object]) -> None:
    """Raises TooManyKeys if the user may store no other key just now."""
    seconds = await fetch(engine, keys_full, **values)
    if seconds is not None:
        raise TooManyKeys(int(seconds))


async def _create_at_once(
    engine: AsyncEngine, creation: Creation, values: dict[str, object]
) -> bytes | None:
    if creation.keys_full is None:
        row = await fetch(engine, creation.at_once, **values)
        # None means that the row is there, from an attempt whose answer got lost.
        return row or await fetch(engine, creation.written, **values)
    rows = await fetch_all(engine, creation.at_once, **values)
    if not rows:
        await check_room(engine, creation.keys_full, values)
        rows = await fetch_all(engine, creation.at_once, **values)  # a key has expired meanwhile
    return rows[0] if rows else None


async def edit_row(
    engine: AsyncEngine, statement: Statement, condition: Condition | None, /, **values: object
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
