"""Deletes expired rows, also those of users who never come back.

A user's own requests delete the user's expired keys and old changes. Twice a day one worker does so
for all users, and deletes tokens that expired long ago. The workers agree by an idempotency key
that belongs to no user: the worker that first stores this key does the sweep.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Table,
    Text,
    any_,
    bindparam,
    delete,
    func,
    literal_column,
    select,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncEngine

from src.framework.sql.engine import Statement, compiled_answer, fetch_all
from src.framework.sql.exceptions import DatabaseUnavailable
from src.framework.sql.statements import KEY_LIFETIME, table_of
from src.models.feed import Change, Feed
from src.models.idempotency_key import IdempotencyKey
from src.models.personal_token import PersonalToken

SWEEP_EVERY = timedelta(hours=12)
CHANGE_LIFETIME = timedelta(days=30)
"""How long a change stays after the user's next change."""

TOKEN_STAYS = timedelta(days=30)
"""How long an expired token stays, so that the service can say on which day it expired."""

USERS_AT_ONCE = 100

FAILED = "The service could not delete expired rows, and tries again later"

FIRST_SECONDS = 5
"""How long the first sweep waits: after the start, requests come first."""

_NOBODY = ""
"""No user has this name, because no path has it."""

_KEYS, _CHANGES, _FEEDS = table_of(IdempotencyKey), table_of(Change), table_of(Feed)
_TOKENS = table_of(PersonalToken)
_next = _CHANGES.alias("next_change")
_users = any_(bindparam("user_ids", type_=ARRAY(Text)))


def _owners_of(table: Table, *old: ColumnElement[bool]) -> Statement:
    """Select the next users who have old rows. Without `old`, select users who have any rows."""
    owners = select(func.convert_to(table.c.user_id, literal_column("'UTF8'"))).where(
        table.c.user_id > bindparam("after"), *old
    )
    some = owners.order_by(table.c.user_id).limit(literal_column(str(USERS_AT_ONCE)))
    return compiled_answer(some)


def _delete(table: Table, *old: ColumnElement[bool]) -> Statement:
    """Delete the old rows of some users."""
    gone = delete(table).where(table.c.user_id == _users, *old)
    return compiled_answer(gone.returning(literal_column("1")), repeatable=True)


_claim = insert(_KEYS).values(
    {name: bindparam(name) for name in ("user_id", "key", "fingerprint", "created_at")}
)
_CLAIM = compiled_answer(
    _claim.on_conflict_do_update(
        index_elements=["user_id", "key"],
        set_={"created_at": _claim.excluded.created_at},
        where=_KEYS.c.created_at < bindparam("due"),
    ).returning(_KEYS.c.key),
    repeatable=True,
)
_OLD_KEYS = _KEYS.c.created_at < bindparam("before")
_OLD_TOKENS = _TOKENS.c.expires_at < bindparam("before")
_OWNERS_OF_KEYS = _owners_of(_KEYS, _OLD_KEYS)
_DELETE_KEYS = _delete(_KEYS, _OLD_KEYS)
_OWNERS_OF_TOKENS = _owners_of(_TOKENS, _OLD_TOKENS)
_DELETE_TOKENS = _delete(_TOKENS, _OLD_TOKENS)
_OWNERS_OF_FEEDS = _owners_of(_FEEDS)
_DELETE_CHANGES = _delete(
    _CHANGES,
    _CHANGES.c.at < bindparam("before"),
    select(literal_column("1"))
    .select_from(_next)
    .where(
        _next.c.user_id == _CHANGES.c.user_id,
        _next.c.seq == _CHANGES.c.seq + literal_column("1"),
        _next.c.at < bindparam("before"),
    )
    .exists(),
)

logger = logging.getLogger(__name__)


@asynccontextmanager
async def sweeping(engine: AsyncEngine) -> AsyncIterator[None]:
    """Sweep twice a day while this is open, unless another worker does."""
    sweep = asyncio.create_task(_sweep_now_and_then(engine))
    try:
        yield
    finally:
        sweep.cancel()


async def _sweep_now_and_then(engine: AsyncEngine) -> None:
    await asyncio.sleep(FIRST_SECONDS)
    while True:
        try:
            await sweep_if_due(engine)
        except DatabaseUnavailable as error:
            logger.warning("%s: %s", FAILED, error)
        except Exception:
            logger.exception(FAILED)
        await asyncio.sleep(SWEEP_EVERY.total_seconds())


async def sweep_if_due(engine: AsyncEngine) -> None:
    """Delete all users' expired keys and tokens, and old changes, unless a worker began lately."""
    now = datetime.now(UTC)
    due = now - SWEEP_EVERY + timedelta(minutes=10)
    claim = {"user_id": _NOBODY, "key": "sweep", "fingerprint": "", "created_at": now, "due": due}
    if not await fetch_all(engine, _CLAIM, **claim):
        return
    for owners_of, remove, before in (
        (_OWNERS_OF_KEYS, _DELETE_KEYS, now - KEY_LIFETIME),
        (_OWNERS_OF_FEEDS, _DELETE_CHANGES, now - CHANGE_LIFETIME),
        (_OWNERS_OF_TOKENS, _DELETE_TOKENS, now - TOKEN_STAYS),
    ):
        after = _NOBODY
        known = {"before": before} if "before" in owners_of.parameters else {}
        while owners := await fetch_all(engine, owners_of, after=after, **known):
            users = [owner.decode() for owner in owners]
            await fetch_all(engine, remove, user_ids=users, before=before)
            after = users[-1]
