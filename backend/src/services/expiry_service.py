"""Deletes what has expired, also what belongs to users who never come back.

A user's own requests delete the user's expired keys and old changes. Twice a day one worker does so
for all users. The claim is an idempotency key of nobody: whoever keeps it first sweeps.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

from sqlalchemy import ARRAY, Text, any_, bindparam, delete, func, literal_column, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncEngine

from src.framework.sql.engine import compiled_answer, fetch_all
from src.framework.sql.exceptions import DatabaseUnavailable
from src.framework.sql.statements import KEY_LIFETIME, table_of
from src.models.feed import Change, Feed
from src.models.idempotency_key import IdempotencyKey

SWEEP_EVERY = timedelta(hours=12)
CHANGE_LIFETIME = timedelta(days=30)
"""How long a change is kept after the user's next one."""

USERS_AT_ONCE = 100

FIRST_SECONDS = 5
"""After the start, requests come first."""

_NOBODY = ""
"""No user has this name: a path cannot."""

_KEYS, _CHANGES, _FEEDS = table_of(IdempotencyKey), table_of(Change), table_of(Feed)
_next = _CHANGES.alias("next_change")
_users = any_(bindparam("user_ids", type_=ARRAY(Text)))

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
_OWNERS_OF_KEYS = compiled_answer(
    select(func.convert_to(_KEYS.c.user_id, literal_column("'UTF8'")))
    .where(_KEYS.c.user_id > bindparam("after"), _KEYS.c.created_at < bindparam("before"))
    .order_by(_KEYS.c.user_id)
    .limit(literal_column(str(USERS_AT_ONCE))),
    repeatable=True,
)
_DELETE_KEYS = compiled_answer(
    delete(_KEYS)
    .where(_KEYS.c.user_id == _users, _KEYS.c.created_at < bindparam("before"))
    .returning(literal_column("1")),
    repeatable=True,
)
_OWNERS_OF_FEEDS = compiled_answer(
    select(func.convert_to(_FEEDS.c.user_id, literal_column("'UTF8'")))
    .where(_FEEDS.c.user_id > bindparam("after"))
    .order_by(_FEEDS.c.user_id)
    .limit(literal_column(str(USERS_AT_ONCE))),
    repeatable=True,
)
_DELETE_CHANGES = compiled_answer(
    delete(_CHANGES)
    .where(
        _CHANGES.c.user_id == _users,
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
    .returning(literal_column("1")),
    repeatable=True,
)

logger = logging.getLogger(__name__)


@asynccontextmanager
async def sweeping(engine: AsyncEngine) -> AsyncIterator[None]:
    """Sweep twice a day meanwhile, unless another worker does."""
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
            logger.warning("What has expired stays for now: %r", error.__cause__ or error)
        except Exception:
            logger.exception("What has expired stays for now")
        await asyncio.sleep(SWEEP_EVERY.total_seconds())


async def sweep_if_due(engine: AsyncEngine) -> None:
    """Delete all users' expired keys and old changes, if no worker has begun to lately."""
    now = datetime.now(UTC)
    due = now - SWEEP_EVERY + timedelta(minutes=10)
    claim = {"user_id": _NOBODY, "key": "sweep", "fingerprint": "", "created_at": now, "due": due}
    if not await fetch_all(engine, _CLAIM, **claim):
        return
    for owners_of, remove, before in (
        (_OWNERS_OF_KEYS, _DELETE_KEYS, now - KEY_LIFETIME),
        (_OWNERS_OF_FEEDS, _DELETE_CHANGES, now - CHANGE_LIFETIME),
    ):
        after = _NOBODY
        known = {"before": before} if "before" in owners_of.parameters else {}
        while owners := await fetch_all(engine, owners_of, after=after, **known):
            users = [owner.decode() for owner in owners]
            await fetch_all(engine, remove, user_ids=users, before=before)
            after = users[-1]
