"""The statements of personal tokens, and the functions that run them.

Every function raises DatabaseUnavailable when PostgreSQL cannot be reached.
"""

from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Text, bindparam, func, literal_column, or_, select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from src.framework.condition import Condition
from src.framework.sql import rows
from src.framework.sql.engine import (
    Run,
    Statement,
    compiled,
    compiled_answer,
    fetch,
    fetch_in_transaction,
    rows_of,
)
from src.framework.sql.rows import RowPage
from src.framework.sql.statements import (
    delete_row,
    insert_row,
    owned,
    select_list,
    select_row,
    sent,
    table_of,
    this_row,
)
from src.framework.sql.uuid7 import instant, next_tick, uuid7
from src.models.personal_token import PersonalToken
from src.schemas.personal_token import PersonalTokenCreate, PersonalTokenListing
from src.services.exceptions import TooManyTokens
from src.services.token_text import hash_of, new_token_text

TOKENS = table_of(PersonalToken)

MOST_TOKENS = 50
"""How many tokens a user may have. Tokens that expired less than 30 days ago count."""

_LAST_USED = TOKENS.c.last_used_at
# Citus refuses an UPDATE that adds an interval to a column.
_IS_UNNOTED: ColumnElement[bool] = or_(
    _LAST_USED.is_(None), func.now() - literal_column("interval '1 hour'") > _LAST_USED
)

GET_TOKEN = select_row(TOKENS)
CREATE_TOKEN = insert_row(TOKENS, ("name", "scope", "expires_at", "last_used_at", "hash"))
LOCK_TOKENS = compiled_answer(
    select(
        func.pg_advisory_xact_lock(
            func.hashtextextended(bindparam("user_id", type_=Text), literal_column("0"))
        )
    )
)
TOKENS_FULL = compiled(
    owned(select(TOKENS.c.id), TOKENS)
    .offset(literal_column(str(MOST_TOKENS - 1)))
    .limit(literal_column("1"))
)
LOOK_UP_TOKEN = compiled(
    owned(
        select(
            TOKENS.c.id,
            TOKENS.c.scope,
            TOKENS.c.expires_at,
            func.extract("epoch", TOKENS.c.expires_at - func.now()).label("seconds_left"),
            _IS_UNNOTED.label("is_unnoted"),
        ),
        TOKENS,
    ).where(TOKENS.c.hash == sent(TOKENS.c.hash, "hash"))
)
NOTE_TOKEN = compiled(
    this_row(update(TOKENS), TOKENS)
    .values(last_used_at=func.now())
    .where(_IS_UNNOTED)
    .returning(TOKENS.c.id),
    repeatable=True,
)


@cache
def list_statement_of_tokens(sort: str, by: frozenset[str], *, counted: bool = False) -> Statement:
    return select_list(TOKENS, sort, by, {}, counted=counted)


async def list_tokens(
    engine: AsyncEngine, user_id: str, listing: PersonalTokenListing, *, counted: bool = False
) -> RowPage:
    values = listing.place()
    by = frozenset(values)
    counting = list_statement_of_tokens(listing.sort, by, counted=True) if counted else None
    statement = list_statement_of_tokens(listing.sort, by)
    return await rows.get_page(
        engine, statement, listing.limit, counting=counting, user_id=user_id, **values
    )


async def create_token(
    engine: AsyncEngine, user_id: str, token: PersonalTokenCreate
) -> tuple[bytes, str]:
    """Return the row and the token's text, which nobody can learn later.

    Raises TooManyTokens. A user's creates wait for each other, so that each create counts the
    tokens of the creates before it.
    """
    text, tick = new_token_text(), next_tick()
    values: dict[str, Any] = vars(token) | {
        "id": uuid7(tick),
        "user_id": user_id,
        "created_at": instant(tick),
        "last_used_at": None,
        "hash": hash_of(text.encode()),
    }

    async def create(run: Run) -> bytes:
        await run(LOCK_TOKENS, **values)
        if await run(TOKENS_FULL, **values):
            raise TooManyTokens
        await run(CREATE_TOKEN.inserted, **values)
        [row] = rows_of(CREATE_TOKEN.written, await run(CREATE_TOKEN.written, **values))
        return row

    return await fetch_in_transaction(engine, create, user_id=user_id), text


async def get_token(engine: AsyncEngine, user_id: str, token_id: UUID) -> bytes:
    """Raises NotFound."""
    return await rows.get_row(engine, GET_TOKEN, user_id=user_id, id=token_id)


async def end_token(
    engine: AsyncEngine, user_id: str, token_id: UUID, wanted: Condition | None = None
) -> None:
    """Raises NotFound, ConditionNotMet."""
    statement = delete_row(TOKENS, conditional=wanted is not None)
    await rows.edit_row(engine, statement, wanted, user_id=user_id, id=token_id)


async def look_up(engine: AsyncEngine, user_id: str, hash_of_token: bytes) -> bytes | None:
    return await fetch(engine, LOOK_UP_TOKEN, user_id=user_id, hash=hash_of_token)


async def note_use(engine: AsyncEngine, user_id: str, token_id: UUID) -> None:
    """Set `last_used_at`, unless any worker has done so within the hour."""
    await fetch(engine, NOTE_TOKEN, user_id=user_id, id=token_id)
