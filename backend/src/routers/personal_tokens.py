"""`/api/{user_id}/tokens`: tokens for scripts, which only a token of the sign-in manages."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response, Security
from pydantic_core import to_json

from src.dependencies import (
    Engine,
    IdInPath,
    IfListHasNone,
    IfListMatches,
    IfMatch,
    IfNoneMatch,
    NoKeyInHeader,
    Prefer,
    TokensKnown,
    UserInPath,
    token_of_sign_in,
)
from src.framework.sql.etag import etag
from src.framework.web.conditions import condition
from src.framework.web.contract import header
from src.framework.web.links import path_beside, path_of_new
from src.framework.web.responses import tagged
from src.framework.web.routing import StrictRoute
from src.routers import answers
from src.schemas.fields import Message
from src.schemas.personal_token import (
    NewPersonalToken,
    PersonalTokenCreate,
    PersonalTokenListing,
    PersonalTokenPublic,
)
from src.services import personal_token_service as service

OF_ONE_TOKEN = answers.of_one("token")
TOKEN_NOT_CREATED = answers.documented_error(
    422,
    "A value is invalid, or the user has 50 tokens",
    ["body", "name"],
    answers.LENGTH.format(1, 100),
)
NO_STORE = header("No cache may keep the answer, which has the token", "no-store")

router = APIRouter(
    prefix="/api/{user_id:segment}/tokens",
    tags=["tokens"],
    dependencies=[Security(token_of_sign_in)],
    responses=answers.of_every_request("token"),
    route_class=StrictRoute,
)


@router.get(
    "",
    response_description="The tokens, without their texts",
    summary="List a user's personal tokens",
    response_model=list[PersonalTokenPublic],
    responses=answers.LIST,
)
async def list_tokens(
    request: Request,
    engine: Engine,
    user_id: UserInPath,
    listing: Annotated[PersonalTokenListing, Query()],
    prefer: Prefer = None,
    if_match: IfListMatches = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """List the user's tokens: all of them, oldest first, unless the parameters say otherwise."""
    answers.refuse_etags_of_lists(if_match)
    is_counted = answers.wants_count(listing, prefer)
    page = await service.list_tokens(engine, user_id, listing, counted=is_counted)
    return answers.page_of(request, listing, page, if_none_match)


@router.post(
    "",
    response_description="The new token; no other answer has its text",
    summary="Make a personal token for a script",
    status_code=201,
    response_model=NewPersonalToken,
    responses=answers.BODY
    | TOKEN_NOT_CREATED
    | {201: {"headers": answers.CREATED[201]["headers"] | {"Cache-Control": NO_STORE}}},
)
async def create_token(
    request: Request,
    engine: Engine,
    user_id: UserInPath,
    token: PersonalTokenCreate,
    idempotency_key: NoKeyInHeader = None,  # noqa: ARG001 - refused if it is sent
    if_match: IfListMatches = None,
    if_none_match: IfListHasNone = None,
) -> Response:
    """Make a token that can do what a token of the sign-in can, but cannot manage tokens.

    On `/docs`, put the answer's `token` into Authorize. A user may have 50 tokens. A request with
    an `Idempotency-Key` is refused, because the service does not keep the token's text.
    """
    answers.refuse_etags_of_lists(if_match)
    if if_none_match is not None:
        page = await service.list_tokens(engine, user_id, PersonalTokenListing())
        answers.refuse_known_list(page, if_none_match)
    row, text = await service.create_token(engine, user_id, token)
    more = to_json({"tasks": f"{path_beside(request)}/tasks", "token": text})
    location = path_of_new(request, row)
    answer = tagged(row[:-1] + b"," + more[1:], etag(row), 201, [(b"location", location)])
    answer.headers["Cache-Control"] = "no-store"
    return answer


@router.get(
    "/{token_id}",
    response_description="The token, without its text",
    summary="Get a personal token",
    response_model=PersonalTokenPublic,
    responses=OF_ONE_TOKEN | answers.or_not_modified(answers.ONE),
)
async def get_token(
    engine: Engine,
    user_id: UserInPath,
    token_id: IdInPath,
    if_match: IfMatch = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    token = await service.get_token(engine, user_id, token_id)
    return answers.row_unless_known(token, if_match, if_none_match)


@router.delete(
    "/{token_id}",
    response_description="The token has ended",
    summary="End a personal token",
    response_model=Message,
    responses=answers.of_deleted("token"),
)
async def end_token(
    engine: Engine,
    known_tokens: TokensKnown,
    user_id: UserInPath,
    token_id: IdInPath,
    if_match: IfMatch = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """End a token and its streams: at once in one worker, within 30 seconds in the others."""
    wanted = condition(if_match, if_none_match)
    await service.end_token(engine, user_id, token_id, wanted)
    known_tokens.forget(user_id, token_id)
    return answers.message(answers.deleted("token"))
