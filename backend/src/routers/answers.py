"""What every resource answers, and how the contract documents it.

`noun` is what a sentence calls one row: the router's tag without its s.
"""

from collections.abc import Sequence

from fastapi import HTTPException, Request, Response
from pydantic_core import to_json

from src.framework.sql.etag import etag
from src.framework.sql.rows import RowPage
from src.framework.web.bodies import LATER
from src.framework.web.conditions import matches
from src.framework.web.contract import example, header, headers
from src.framework.web.links import page_link, path_of, path_of_new
from src.framework.web.preferences import preferences
from src.framework.web.problems import (
    BROKEN_PATH,
    UNEXPECTED,
    WRONG_MEDIA_TYPE,
    Responses,
    documented,
    too_large,
)
from src.framework.web.responses import Fields, JSONArray, JSONBytes, conditional, etag_in, tagged
from src.framework.web.routing import LONG_PATH
from src.routers import problems
from src.schemas.other_names import names_of_place
from src.schemas.paging import Listing, cursor_text

LENGTH = "must have {} to {} characters"

BODY = (
    documented(413, "The body is too large", too_large())
    | documented(415, "The body is not declared as JSON", WRONG_MEDIA_TYPE)
    | documented(
        429, "The user sends too many large bodies at once", LATER, headers=headers("Retry-After")
    )
)
PATCH_BODY = BODY | documented(
    415,
    "The body is not declared as JSON or a merge patch",
    WRONG_MEDIA_TYPE,
    headers=headers("Accept-Patch"),
)
CREATED: Responses = {201: {"headers": headers("Cache-Control", "ETag", "Location")}}
UPDATED: Responses = {200: {"headers": headers("Cache-Control", "Content-Location", "ETag")}}
ONE: Responses = {200: {"headers": headers("Cache-Control", "ETag")}}


SCOPE_CHALLENGE = header(
    "If the token may only read, the scope that it lacks: RFC 6750 §3.1",
    'Bearer error="insufficient_scope", scope="write"',
    required=False,
)


def or_not_modified(of_200: Responses, **more: object) -> Responses:
    return {
        200: of_200[200] | more,
        304: of_200[200] | {"description": "The client has this state already"},
    }


LIST = or_not_modified(
    {200: {"headers": headers("Cache-Control", "ETag", "Link", "X-Total-Count")}}
)


def documented_error(
    status: int, description: str, loc: Sequence[str | int], msg: str, kind: str = "string_length"
) -> Responses:
    """Document a problem that names one error of the request."""
    detail = f"{'.'.join(map(str, loc[1:]))}: {msg}"
    error = {"loc": loc, "msg": msg, "type": kind}
    return documented(status, f"{description}; `errors` says which", detail, errors=[error])


def of_every_request(noun: str) -> Responses:
    return (
        documented(400, "The path or the query cannot be read", BROKEN_PATH)
        | documented_error(422, "A value is invalid", ["path", "user_id"], LENGTH.format(1, 255))
        | documented(
            401,
            "The token is missing or invalid",
            problems.NOT_AUTHENTICATED,
            headers=headers("WWW-Authenticate"),
        )
        | documented(
            403,
            "The path is another user's, or the token may not do this",
            problems.not_the_owner(noun, "ada", f"/api/ada/{noun}s"),
            headers={"WWW-Authenticate": SCOPE_CHALLENGE},
        )
        | documented(414, "The path or the query is too long", LONG_PATH)
        | documented(500, "An unexpected error", UNEXPECTED)
        | documented(
            503,
            "The database or the key server cannot be reached",
            problems.UNAVAILABLE,
            headers=headers("Retry-After"),
        )
    )


def not_created(loc: Sequence[str | int], msg: str) -> Responses:
    """Document 422 and 429 where a key may be sent, with this error as the example of 422."""
    description = "A value is invalid, or the key was used for another request"
    return documented_error(422, description, loc, msg) | documented(
        429,
        "The user has 10,000 idempotency keys that have not expired, or sends too many large "
        "bodies at once",
        problems.TOO_MANY_KEYS,
        headers=headers("Retry-After"),
    )


def of_one(noun: str) -> Responses:
    """Document 404 and 412."""
    return documented(404, f"The user has no such {noun}", problems.not_found(noun)) | documented(
        412, f"The {noun} does not meet If-Match or If-None-Match", problems.changed(noun)
    )


def deleted(noun: str) -> dict[str, str]:
    return {"message": f"{noun.capitalize()} deleted successfully"}


def of_deleted(noun: str) -> Responses:
    content = example(deleted(noun))
    return of_one(noun) | {200: {"headers": headers("Cache-Control"), "content": content}}


def refuse_etags_of_lists(if_match: str | None) -> None:
    """A list always exists, and its ETags are weak, so none matches strongly: RFC 9110 §13.1.1."""
    if if_match not in {None, "*"}:
        raise HTTPException(412, problems.LIST_IS_WEAK)


def refuse_known_list(page: RowPage, if_none_match: str) -> None:
    page.rows.close()
    if matches(etag_in(JSONArray(page.rows)), if_none_match):
        raise HTTPException(412, problems.LIST_IS_KNOWN)


def wants_count(listing: Listing, prefer: str | None) -> bool:
    asks = prefer is not None and preferences(prefer).get("count") == "exact"
    return asks or listing.counted


def page_of(
    request: Request, listing: Listing, page: RowPage, if_none_match: str | None
) -> Response:
    """Answer a page, with links to the pages beside it, and with the total if it was counted."""
    fields = []
    if links := _links(request, listing, page.last):
        fields.append((b"link", ", ".join(links).encode()))
    if page.total is not None:
        fields.append((b"x-total-count", b"%d" % page.total))
        if not listing.counted:
            fields.append((b"preference-applied", b"count=exact"))
    return conditional(JSONArray(page.rows, fields), if_none_match)


_FIRST = {"page": 1, "page_index": 0}
"""The number of the first page."""


def _links(request: Request, listing: Listing, last: bytes | None) -> list[str]:
    """Link the next page, and the page before if the request asks for a page by number."""
    if not request.scope["query_string"]:
        return []
    if listing.offset is None:
        if last is None:
            return []
        return [page_link(request, "next", {"cursor": cursor_text(listing.order, last)})]
    query = request.query_params
    names = names_of_place(query, listing.spellings)
    # A parameter without a value counts as absent.
    sent = {name: means for name, means in names.items() if query[name]}
    has_end = not {"end", "range"}.isdisjoint(sent.values())
    by = min(sent, key=lambda name: (names[name] not in _FIRST, name != "offset"))
    is_page = names[by] in _FIRST and not has_end
    step = 1 if is_page else listing.limit
    if step is None:  # everything that follows is in this answer
        return []
    first, number = (_FIRST[names[by]], int(query[by])) if is_page else (0, listing.offset)

    def link(relation: str, number: int) -> str:
        place: dict[str, object] = {by: number}
        if has_end:
            place = {"offset": number, "limit": listing.limit}
            if listing.counted:  # `offset` and `limit` do not ask for the number of all rows
                place["count"] = "exact"
        return page_link(request, relation, place, instead_of=names)

    links = []
    if last is not None:
        links.append(link("next", number + step))
    if number > first:
        links.append(link("prev", max(first, number - step)))
    return links


def message(content: dict[str, str]) -> Response:
    return JSONBytes(to_json(content))


def row(content: bytes, status: int = 200, fields: Fields = ()) -> Response:
    """Answer a row with its ETag."""
    return tagged(content, etag(content), status, fields)


def row_unless_known(content: bytes, if_match: str | None, if_none_match: str | None) -> Response:
    """Answer a row to a GET, or 304. Raises ConditionNotMet."""
    return conditional(row(content), if_none_match, if_match)


def new_row(request: Request, content: bytes) -> Response:
    return row(content, 201, [(b"location", path_of_new(request, content))])


def updated_row(request: Request, content: bytes) -> Response:
    """Answer a row to a PUT: the ETag belongs to the row in the answer, not to the request."""
    return row(content, 200, [(b"content-location", path_of(request).encode())])
