"""A second resource, built on the framework alone, to show what adding one takes.

In the service it would be a file in each of models, schemas, services and routers, and a migration.
"""

from datetime import datetime
from functools import cache
from hashlib import sha256
from typing import Annotated, Literal, TypeAlias, get_args
from uuid import UUID

from fastapi import APIRouter, Path, Query, Request, Response, Security
from pydantic import BaseModel, BeforeValidator, ConfigDict, StringConstraints
from pydantic_core import to_json
from sqlalchemy import bindparam
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.orm import registry
from sqlmodel import Field, Index, PrimaryKeyConstraint, SQLModel, Text
from typing_extensions import TypedDict

from src.config import get_settings
from src.dependencies import Engine, IdempotencyKey, IfMatch, IfNoneMatch, UserInPath, own_token
from src.framework.sql.cursor import Cursor, decode, kinds_of
from src.framework.sql.engine import Statement, compiled
from src.framework.sql.etag import etag
from src.framework.sql.statements import (
    delete_row,
    insert_row,
    insert_row_once,
    select_page,
    select_row,
    table_of,
    update_row,
)
from src.framework.web.conditions import Condition, condition
from src.framework.web.links import page_link, path_of_new
from src.framework.web.problems import problem
from src.framework.web.responses import JSONArray, JSONBytes, conditional, tagged
from src.framework.web.routing import StrictRoute
from src.main import create_app
from src.services import rows
from src.services.exceptions import NotFound

# Models


class Base(SQLModel, registry=registry()):
    """Separate from the service's own tables, which have migrations."""


class Note(Base, table=True):
    __tablename__ = "notes"
    __table_args__ = (
        PrimaryKeyConstraint("user_id", "id"),
        Index("notes_in_order", "user_id", "created_at", "id"),
    )

    id: UUID
    user_id: str = Field(max_length=255)
    text: str = Field(sa_type=Text)
    colour: str | None = Field(max_length=20)
    created_at: datetime
    updated_at: datetime


class NoteKey(Base, table=True):
    __tablename__ = "note_keys"
    __table_args__ = (PrimaryKeyConstraint("user_id", "key"),)

    user_id: str = Field(max_length=255)
    key: str = Field(max_length=255)
    fingerprint: str = Field(max_length=64)
    note_id: UUID
    created_at: datetime


# Schemas

MAX_PAGE = 100

NoteText = Annotated[str, StringConstraints(min_length=1, max_length=2000, pattern=r"^[^\x00]*$")]
Colour = Annotated[str, StringConstraints(max_length=20, pattern="^[a-z]*$")]
Sort: TypeAlias = Literal["created_at", "-created_at", "colour", "-colour"]


class NoteCreate(BaseModel):
    text: NoteText
    colour: Colour | None = None


class NoteUpdate(TypedDict, total=False):
    text: NoteText
    colour: Colour | None


class NotePublic(BaseModel):
    id: UUID
    user_id: str
    text: str
    colour: str | None
    created_at: datetime
    updated_at: datetime


KINDS = kinds_of(NotePublic, get_args(Sort))


def read_cursor(text: str) -> Cursor:
    return decode(text, KINDS)


class NoteListing(BaseModel):
    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    colour: Colour | None = None
    sort: Sort = "created_at"
    limit: Annotated[int | None, Field(ge=1, le=MAX_PAGE)] = None
    cursor: Annotated[Cursor | None, BeforeValidator(read_cursor)] = None


# Service


class NoteNotFound(NotFound):
    """The user has no such note."""


NOTES, KEYS = table_of(Note), table_of(NoteKey)
GET = select_row(NOTES)
CREATE = insert_row(NOTES, NoteCreate.model_fields)
CREATE_ONCE = insert_row_once(NOTES, NoteCreate.model_fields, KEYS, "note_id")


@cache
def list_statement(sort: Sort, by: frozenset[str]) -> Statement:
    filters = [NOTES.c[name] == bindparam(name) for name in by & {"colour"}]
    return compiled(select_page(NOTES, sort, filters, goes_on="position" in by))


async def list_notes(engine: AsyncEngine, user_id: str, listing: NoteListing) -> rows.Page:
    values: dict[str, object] = {}
    if listing.colour is not None:
        values["colour"] = listing.colour
    if listing.cursor is not None:
        values |= {"position": listing.cursor.value, "position_id": listing.cursor.id}
    statement = list_statement(listing.sort, frozenset(values))
    return await rows.page(
        engine, statement, listing.sort, listing.limit, counting=None, user_id=user_id, **values
    )


async def create_note(
    engine: AsyncEngine, user_id: str, note: NoteCreate, key: str | None
) -> bytes:
    if key is None:
        return await rows.created(engine, CREATE, user_id=user_id, **vars(note))
    fingerprint = sha256(note.model_dump_json(exclude_defaults=True).encode()).hexdigest()
    return await rows.created(
        engine, CREATE_ONCE, user_id=user_id, key=key, fingerprint=fingerprint, **vars(note)
    )


async def get_note(engine: AsyncEngine, user_id: str, note_id: UUID) -> bytes:
    return await rows.one(engine, GET, NoteNotFound, user_id=user_id, id=note_id)


async def update_note(
    engine: AsyncEngine, user_id: str, note_id: UUID, changes: NoteUpdate, asked: Condition | None
) -> bytes:
    statement = update_row(NOTES, frozenset(changes), conditional=asked is not None)
    return await rows.changed(
        engine, statement, NoteNotFound, asked, user_id=user_id, id=note_id, **changes
    )


async def delete_note(
    engine: AsyncEngine, user_id: str, note_id: UUID, asked: Condition | None
) -> None:
    statement = delete_row(NOTES, conditional=asked is not None)
    await rows.changed(engine, statement, NoteNotFound, asked, user_id=user_id, id=note_id)


# Router

NoteId = Annotated[UUID, Path()]

router = APIRouter(
    prefix="/api/{user_id:segment}/notes",
    dependencies=[Security(own_token)],
    route_class=StrictRoute,
)


@router.get("", response_model=list[NotePublic])
async def list_user_notes(
    request: Request,
    engine: Engine,
    user_id: UserInPath,
    listing: Annotated[NoteListing, Query()],
    if_none_match: IfNoneMatch = None,
) -> Response:
    page = await list_notes(engine, user_id, listing)
    links = []
    if page.cursor is not None:
        links.append((b"link", page_link(request, "next", "cursor", page.cursor).encode()))
    return conditional(JSONArray(page.rows, links), if_none_match)


@router.post("", status_code=201, response_model=NotePublic)
async def create_user_note(
    request: Request,
    engine: Engine,
    user_id: UserInPath,
    note: NoteCreate,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    content = await create_note(engine, user_id, note, idempotency_key)
    return tagged(content, etag(content), 201, [(b"location", path_of_new(request, content))])


@router.get("/{note_id}", response_model=NotePublic)
async def get_user_note(
    engine: Engine, user_id: UserInPath, note_id: NoteId, if_none_match: IfNoneMatch = None
) -> Response:
    note = await get_note(engine, user_id, note_id)
    return conditional(tagged(note, etag(note)), if_none_match)


@router.put("/{note_id}", response_model=NotePublic)
@router.patch("/{note_id}", response_model=NotePublic)
async def update_user_note(
    engine: Engine,
    user_id: UserInPath,
    note_id: NoteId,
    changes: NoteUpdate,
    if_match: IfMatch = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    asked = condition(if_match, if_none_match)
    note = await update_note(engine, user_id, note_id, changes, asked)
    return tagged(note, etag(note))


@router.delete("/{note_id}")
async def delete_user_note(
    engine: Engine,
    user_id: UserInPath,
    note_id: NoteId,
    if_match: IfMatch = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    await delete_note(engine, user_id, note_id, condition(if_match, if_none_match))
    return JSONBytes(to_json({"message": "Note deleted"}))


async def note_not_found(_request: Request, _error: Exception) -> Response:
    return problem(404, "Note not found")


app = create_app(get_settings())
app.include_router(router)
app.add_exception_handler(NoteNotFound, note_not_found)
