"""The statements of notes, and the functions that run them. All raise DatabaseUnavailable."""

from functools import cache, partial
from hashlib import sha256
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncEngine

from src.framework.condition import Condition
from src.framework.sql import rows
from src.framework.sql.engine import Statement
from src.framework.sql.rows import RowPage
from src.framework.sql.statements import (
    delete_row,
    insert_row,
    insert_row_once,
    select_list,
    select_row,
    sent,
    table_of,
    update_row,
)
from src.models.idempotency_key import IdempotencyKey
from tests.notes.model import Note
from tests.notes.schema import NoteCreate, NoteListing, NoteUpdate

NOTES = table_of(Note)
KEYS = table_of(IdempotencyKey)

GET = select_row(NOTES)
CREATE = insert_row(NOTES, NoteCreate.model_fields)
CREATE_ONCE = insert_row_once(NOTES, NoteCreate.model_fields, KEYS, "task_id")


@cache
def list_statement(sort: str, by: frozenset[str], *, counted: bool = False) -> Statement:
    filters = {"colour": NOTES.c.colour == sent(NOTES.c.colour, "colour")}
    return select_list(NOTES, sort, by, filters, counted=counted)


async def list_notes(
    engine: AsyncEngine, user_id: str, listing: NoteListing, *, counted: bool = False
) -> RowPage:
    values = listing.place() | listing.model_dump(include={"colour"}, exclude_none=True)
    statement = partial(list_statement, listing.sort, frozenset(values))
    counting = statement(counted=True) if counted else None
    values["user_id"] = user_id
    return await rows.get_page(engine, statement(), listing.limit, counting=counting, **values)


async def create_note(
    engine: AsyncEngine, user_id: str, note: NoteCreate, key: str | None = None
) -> bytes:
    """Raises KeyReused for a key that came with another note."""
    values = vars(note) | {"user_id": user_id}
    if key is None:
        return await rows.create_row(engine, CREATE, **values)
    fingerprint = sha256(b"note" + note.model_dump_json(exclude_defaults=True).encode()).hexdigest()
    return await rows.create_row(engine, CREATE_ONCE, key=key, fingerprint=fingerprint, **values)


async def get_note(engine: AsyncEngine, user_id: str, note_id: UUID) -> bytes:
    """Raises NotFound."""
    return await rows.get_row(engine, GET, user_id=user_id, id=note_id)


async def update_note(
    engine: AsyncEngine, user_id: str, note_id: UUID, edits: NoteUpdate, wanted: Condition | None
) -> bytes:
    """Raises NotFound, ConditionNotMet."""
    statement = update_row(NOTES, frozenset(edits), conditional=wanted is not None)
    return await rows.edit_row(engine, statement, wanted, user_id=user_id, id=note_id, **edits)


async def delete_note(
    engine: AsyncEngine, user_id: str, note_id: UUID, wanted: Condition | None
) -> None:
    """Raises NotFound, ConditionNotMet."""
    statement = delete_row(NOTES, conditional=wanted is not None)
    await rows.edit_row(engine, statement, wanted, user_id=user_id, id=note_id)
