"""`/api/{user_id}/notes`."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response, Security

from src.dependencies import (
    Engine,
    IdInPath,
    IfListMatches,
    IfMatch,
    IfNoneMatch,
    KeyInHeader,
    Prefer,
    UserInPath,
    own_token,
)
from src.framework.web.conditions import condition
from src.framework.web.routing import StrictRoute
from src.routers import answers
from src.schemas.fields import Message
from tests.notes import service
from tests.notes.schema import NoteCreate, NoteListing, NotePublic, NoteUpdate

OF_ONE = answers.of_one("note")

router = APIRouter(
    prefix="/api/{user_id:segment}/notes",
    tags=["notes"],
    dependencies=[Security(own_token)],
    responses=answers.of_every_request("note"),
    route_class=StrictRoute,
)


@router.get(
    "",
    response_model=list[NotePublic],
    responses=answers.LIST,
)
async def list_user_notes(
    request: Request,
    engine: Engine,
    user_id: UserInPath,
    listing: Annotated[NoteListing, Query()],
    prefer: Prefer = None,
    if_match: IfListMatches = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """All of the user's notes, oldest first, unless the parameters say otherwise."""
    answers.refuse_etags_of_lists(if_match)
    is_counted = answers.wants_count(listing, prefer)
    page = await service.list_notes(engine, user_id, listing, counted=is_counted)
    return answers.page_of(request, listing, page, if_none_match)


@router.post(
    "",
    status_code=201,
    response_model=NotePublic,
    responses=answers.BODY
    | answers.not_created(["body", "text"], answers.LENGTH.format(1, 2000))
    | answers.CREATED,
)
async def create_note(
    request: Request,
    engine: Engine,
    user_id: UserInPath,
    note: NoteCreate,
    idempotency_key: KeyInHeader = None,
    if_match: IfListMatches = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """With an `Idempotency-Key`, the request can be repeated."""
    answers.refuse_etags_of_lists(if_match)
    if if_none_match is not None:
        page = await service.list_notes(engine, user_id, NoteListing())
        answers.refuse_known_list(page, if_none_match)
    created = await service.create_note(engine, user_id, note, idempotency_key)
    return answers.new_row(request, created)


@router.get(
    "/{note_id}",
    response_model=NotePublic,
    responses=OF_ONE | answers.or_not_modified(answers.ONE),
)
async def get_note(
    engine: Engine,
    user_id: UserInPath,
    note_id: IdInPath,
    if_match: IfMatch = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    note = await service.get_note(engine, user_id, note_id)
    return answers.row_unless_known(note, if_match, if_none_match)


@router.put(
    "/{note_id}",
    response_model=NotePublic,
    responses=answers.BODY | OF_ONE | answers.UPDATED,
)
async def update_note(
    request: Request,
    engine: Engine,
    user_id: UserInPath,
    note_id: IdInPath,
    edits: NoteUpdate,
    if_match: IfMatch = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    wanted = condition(if_match, if_none_match)
    note = await service.update_note(engine, user_id, note_id, edits, wanted)
    return answers.updated_row(request, note)


@router.patch(
    "/{note_id}",
    response_model=NotePublic,
    responses=answers.PATCH_BODY | OF_ONE | answers.ONE,
)
async def patch_note(
    engine: Engine,
    user_id: UserInPath,
    note_id: IdInPath,
    edits: NoteUpdate,
    if_match: IfMatch = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    wanted = condition(if_match, if_none_match)
    note = await service.update_note(engine, user_id, note_id, edits, wanted)
    return answers.row(note)


@router.delete("/{note_id}", response_model=Message, responses=answers.of_deleted("note"))
async def delete_note(
    engine: Engine,
    user_id: UserInPath,
    note_id: IdInPath,
    if_match: IfMatch = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    wanted = condition(if_match, if_none_match)
    await service.delete_note(engine, user_id, note_id, wanted)
    return answers.message(answers.deleted("note"))
