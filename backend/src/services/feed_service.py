"""The feed of a user's changes, and the functions that read it.

Every function raises DatabaseUnavailable when PostgreSQL cannot be reached.
"""

from collections.abc import Awaitable
from dataclasses import replace
from typing import NamedTuple

from pydantic_core import from_json, to_json
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    and_,
    bindparam,
    cast,
    func,
    literal_column,
    or_,
    select,
    true,
    union_all,
)
from sqlalchemy.ext.asyncio import AsyncEngine

from src.framework.spool import Spool, spool_array
from src.framework.sql.engine import (
    Statement,
    compiled_answer,
    compiled_rows,
    fetch,
    fetch_all,
    fetch_into,
)
from src.framework.sql.statements import owned, select_for_many, shown, table_of
from src.models.feed import Change
from src.schemas.changes import MAX_SEQ, Position, position_text
from src.services.exceptions import ChangesGone
from src.services.task_service import FEEDS, TASKS

CHANGES = table_of(Change)

LOOK_AHEAD = 2000
"""How many log rows a page looks at. A task that is in several of them is in the page once."""

_CHANGE = CHANGES.c
_EPOCH = func.feed_epoch(type_=BigInteger)
_AT: ColumnElement[int] = cast(
    func.extract("epoch", _CHANGE.at) * literal_column("1000000"), BigInteger
)


class Changes(NamedTuple):
    """A page of the feed: its JSON, the number of its changes, and where it ends."""

    content: Spool
    number: int
    position: Position
    more: bool = False


def _now_statement() -> Statement:
    """Compile the current position: of the last change, or of an empty log."""
    last = owned(select(_CHANGE.seq, _AT.label("at")), CHANGES)
    found = last.order_by(_CHANGE.seq.desc()).limit(literal_column("1")).subquery("last")
    user = select(literal_column("1")).subquery("user")
    position = func.json_build_array(
        func.coalesce(found.c.seq, _counted(), literal_column("0")),
        func.coalesce(found.c.at, _EPOCH),
    )
    row = select(position).select_from(user.outerjoin(found, true()))
    return compiled_answer(row)


def _counted() -> ColumnElement[int]:
    number: ColumnElement[int] = owned(select(FEEDS.c.seq), FEEDS).scalar_subquery()
    return number


def _since_statement() -> Statement:
    """Compile a page. Its last row says whether the page's beginning is known, and the page's end.

    A position is known while the log has the change with its number and time. A position before the
    first change, or of an empty log, has the time of the epoch. Such a position is known while the
    log has the change after it, or while there is no later change.
    """
    after, at = (bindparam(name, type_=BigInteger) for name in ("seq", "at"))
    mine = owned(select(_CHANGE.seq), CHANGES)
    is_there = mine.where(
        _CHANGE.seq == after, _CHANGE.at == bindparam("time", type_=_CHANGE.at.type)
    )
    is_next_there = mine.where(_CHANGE.seq == after + literal_column("1")).exists()
    is_last = and_(
        func.coalesce(_counted(), literal_column("0")) == after,
        ~mine.where(_CHANGE.seq > after).exists(),
    )
    is_without_change = and_(at == _EPOCH, or_(is_next_there, is_last))
    known = select(or_(is_there.exists(), is_without_change).label("is_known")).cte("known")
    is_known = select(known.c.is_known).scalar_subquery()
    log = (
        owned(select(_CHANGE.seq, _AT.label("at"), _CHANGE.task_id), CHANGES)
        .where(is_known, _CHANGE.seq > after)
        .order_by(_CHANGE.seq)
        .limit(literal_column(str(LOOK_AHEAD)))
        .cte("log")
    )
    last = func.max(log.c.seq).label("seq")
    page = (
        select(log.c.task_id, last)
        .group_by(log.c.task_id)
        .order_by(last)
        .limit(bindparam("limit", type_=BigInteger))
        .cte("page")
    )
    # The range is in the key's order. With an equality and a plan for an empty table, PostgreSQL
    # would read all of the user's tasks for each row of the page.
    task = (
        owned(select(*shown(TASKS)), TASKS)
        .where(TASKS.c.id.between(page.c.task_id, page.c.task_id))
        .order_by(TASKS.c.id)
        .limit(literal_column("1"))
        .lateral("task")
    )
    deleted = func.json_build_object(
        literal_column("'id'"), page.c.task_id, literal_column("'deleted'"), true()
    )
    json = func.row_to_json(task.table_valued())
    state = func.json_send(func.coalesce(json, deleted)).label("state")
    rows = select(state).select_from(page.outerjoin(task, true())).order_by(page.c.seq).cte("row")
    end = (
        select(log.c.seq, log.c.at)
        .where(log.c.seq == select(func.max(page.c.seq)).scalar_subquery())
        .cte("end")
    )
    more = mine.where(_CHANGE.seq > end.c.seq).exists()
    place = func.json_build_array(known.c.is_known, end.c.seq, end.c.at, more)
    about = select(func.json_send(place)).select_from(known.outerjoin(end, true()))
    answer = compiled_rows(union_all(select(rows.c.state), about), task)
    return replace(answer, has_footer=True)


NOW = _now_statement()
SINCE = _since_statement()
MOVED = select_for_many(
    owned(select(FEEDS.c.user_id, FEEDS.c.seq), FEEDS).where(
        FEEDS.c.seq != bindparam("seq", type_=BigInteger)
    )
)


async def changes(engine: AsyncEngine, user_id: str, since: Position | None, limit: int) -> Changes:
    """Return what changed after a position, or no changes if there is no position.

    Without a position, the result has the current position. Raises ChangesGone for a position that
    is not, or no longer, known.
    """
    if since is None:
        position = Position(*from_json(await fetch(engine, NOW, user_id=user_id) or b""))
        return Changes(await _spooled([], position, more=False), 0, position)
    if since.seq == MAX_SEQ:  # no change follows, and PostgreSQL cannot add 1
        raise ChangesGone

    async def spool_page(rows: list[bytes]) -> Changes:
        is_known, seq, at, more = from_json(rows.pop())
        if not is_known:
            raise ChangesGone
        position = since if seq is None else Position(seq, at)
        number = len(rows)
        return Changes(await _spooled(rows, position, more=more), number, position, more)

    return await fetch_into(
        engine,
        SINCE,
        spool_page,
        user_id=user_id,
        seq=since.seq,
        at=since.at,
        time=since.time,
        limit=limit,
    )


def _spooled(rows: list[bytes], position: Position, *, more: bool) -> Awaitable[Spool]:
    end = b'],"next":"%b","more":%b}' % (position_text(position).encode(), to_json(more))
    return spool_array(rows, b'{"changes":[', end)


async def moved(engine: AsyncEngine, user_ids: list[str], seqs: list[int]) -> dict[str, int]:
    """Return the number of each user's last change, if it is not the user's number in `seqs`.

    In a restored database, the number may be smaller.
    """
    found = map(from_json, await fetch_all(engine, MOVED, user_ids=user_ids, seqs=seqs))
    return {feed["user_id"]: feed["seq"] for feed in found}
