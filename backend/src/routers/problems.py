"""The answer to each error, in sentences that you can show to a user."""

import logging
import re
from urllib.parse import quote

from fastapi import Request, Response

from src.framework.auth.exceptions import KeysUnavailable, NotAuthenticated, NotTheOwner
from src.framework.condition import ConditionNotMet
from src.framework.spool import NoRoom
from src.framework.sql.exceptions import (
    BatchRefused,
    DatabaseUnavailable,
    KeyReused,
    MembersRefused,
    NotFound,
    TooManyKeys,
)
from src.framework.web.links import path_beside
from src.framework.web.problems import HANDLERS, Handler, problem, problem_with_errors, unavailable
from src.schemas.further import ONE_TOO_MANY, TOO_LONG
from src.schemas.task_listing import MUST_BE_ZONE
from src.services.exceptions import (
    ChangesGone,
    NoSignIn,
    OfSignInOnly,
    ReadOnlyToken,
    TokenRefused,
    TooManyListeners,
    TooManyTokens,
    UnknownTimeZone,
)

CHANGES_GONE = (
    "The service no longer has the changes since this token; get a new token, then the list"
)
KEY_REUSED = "was used for another request; send a new key"
KEYS_UNAVAILABLE = "The service cannot fetch the keys to check your token; try again in a moment"
LIST_IS_KNOWN = "If-None-Match matches the list; send the request without If-None-Match"
LIST_IS_WEAK = "If-Match cannot use the ETag of a list; send the request without If-Match"
NO_SIGN_IN = "Anyone may act for any user here (AUTH_MODE=open), so no request needs a token"
NO_ROOM = "The list is too long to send just now; request pages with limit"
NOT_AUTHENTICATED = "Send a token, as in Authorization: Bearer header.claims.signature"
OF_SIGN_IN_ONLY = "A personal token cannot manage tokens; use a token of the sign-in"
READ_ONLY = "This token may only read; use a token with the scope write"
TOO_MANY_KEYS = (
    "Idempotency-Key: you have sent 10,000 keys in 24 hours; "
    "wait, or send the request without a key"
)
TOO_MANY_LISTENERS = "You have too many streams and long polls; end a stream, or try again later"
TOO_MANY_TOKENS = "has 50 tokens, and a user may have no more; end a token first"
UNAVAILABLE = "The database cannot be reached just now; try again in a moment"

logger = logging.getLogger(__name__)

# RFC 6750 §3
_NOT_IN_A_DESCRIPTION = re.compile(r"[^ !#-\[\]-~]")


def changed(noun: str) -> str:
    return f"The {noun} has changed since you read it; get it again"


def not_found(noun: str) -> str:
    return f"{noun.capitalize()} not found"


def not_the_owner(noun: str, user: str, path: str) -> str:
    return f"These {noun}s belong to another user; you are {user}, and your {noun}s are at {path}"


def _noun(request: Request) -> str:
    """Return what the resource calls one of its rows."""
    tag: str = request.scope["route"].tags[0]
    return tag.removesuffix("s")


async def _not_authenticated(_request: Request, error: NotAuthenticated | TokenRefused) -> Response:
    """Say how to authenticate, and what is wrong with the token if there is one: RFC 6750 §3."""
    if not error.args:
        return problem(401, NOT_AUTHENTICATED, {"WWW-Authenticate": "Bearer"})
    description = _NOT_IN_A_DESCRIPTION.sub("'", str(error))
    challenge = f'Bearer error="invalid_token", error_description="{description}"'
    return problem(401, str(error), {"WWW-Authenticate": challenge})


async def _read_only(_request: Request, _error: ReadOnlyToken) -> Response:
    """Say which scope the request needs: RFC 6750 §3.1."""
    challenge = f'Bearer error="insufficient_scope", error_description="{READ_ONLY}", scope="write"'
    return problem(403, READ_ONLY, {"WWW-Authenticate": challenge})


async def _of_sign_in_only(_request: Request, _error: OfSignInOnly) -> Response:
    return problem(403, OF_SIGN_IN_ONLY)


async def _no_sign_in(_request: Request, _error: NoSignIn) -> Response:
    return problem(403, NO_SIGN_IN)


def _names_value(place: str, name: str, message: str, kind: str) -> Handler:
    """Return a handler that answers 422, and names one value of the request."""

    async def handle(_request: Request, _error: Exception) -> Response:
        return problem_with_errors(422, [{"loc": [place, name], "msg": message, "type": kind}])

    return handle


async def _changes_gone(request: Request, _error: ChangesGone) -> Response:
    link = f'<{path_beside(request)}>; rel="collection"'  # RFC 6573
    return problem(410, CHANGES_GONE, {"Link": link})


async def _condition_not_met(request: Request, _error: ConditionNotMet) -> Response:
    noun = _noun(request)
    if "if-none-match" in request.headers:
        return problem(412, f"The {noun} does not meet If-Match or If-None-Match")
    return problem(412, changed(noun))


async def _unavailable(_request: Request, error: DatabaseUnavailable) -> Response:
    logger.warning("The database is unavailable: %s", error)
    return unavailable(UNAVAILABLE)


async def _no_room(_request: Request, error: NoRoom) -> Response:
    logger.warning("No room on the disk for a long list: %r", error.__cause__)
    return unavailable(NO_ROOM)


async def _too_many_keys(_request: Request, error: TooManyKeys) -> Response:
    return problem(429, TOO_MANY_KEYS, {"Retry-After": str(max(1, error.seconds))})


async def _too_many_listeners(_request: Request, _error: TooManyListeners) -> Response:
    return problem(429, TOO_MANY_LISTENERS, {"Retry-After": "30"})


async def _batch_refused(request: Request, error: BatchRefused) -> Response:
    """Answer 412 if any row has changed, or else 404; name each operation at fault."""
    noun = _noun(request)
    has_changed = {"msg": changed(noun), "type": "changed"}
    is_missing = {"msg": not_found(noun), "type": "not_found"}
    errors = [
        {"loc": ["body", "operations", n]} | (has_changed if n in error.changed else is_missing)
        for n in sorted([*error.missing, *error.changed])
    ]
    return problem_with_errors(412 if error.changed else 404, errors)


async def _members_refused(_request: Request, error: MembersRefused) -> Response:
    place = [] if error.number is None else ["operations", error.number, "task"]
    message = ONE_TOO_MANY if error.is_many else TOO_LONG
    named = [error.member] if error.member else []
    found = {"loc": ["body", *place, *named], "msg": message, "type": "further_member"}
    return problem_with_errors(422, [found])


async def _not_the_owner(request: Request, error: NotTheOwner) -> Response:
    """Say who the token's user is, as its holder knows anyway, and where that user's rows are."""
    user = error.user.encode(errors="replace").decode()  # JSON has no lone surrogates
    before, _, after = request.scope["route"].path_format.partition("{user_id}/")
    collection = after.partition("/")[0]
    path = f"{request.scope['root_path']}{before}{quote(user, safe='')}/{collection}"
    return problem(403, not_the_owner(_noun(request), user, path))


async def _not_found(request: Request, _error: NotFound) -> Response:
    return problem(404, not_found(_noun(request)))


async def _keys_unavailable(_request: Request, _error: KeysUnavailable) -> Response:
    return unavailable(KEYS_UNAVAILABLE)


EXCEPTION_HANDLERS: dict[int | type[Exception], Handler] = HANDLERS | {
    BatchRefused: _batch_refused,
    ChangesGone: _changes_gone,
    ConditionNotMet: _condition_not_met,
    DatabaseUnavailable: _unavailable,
    KeyReused: _names_value("header", "Idempotency-Key", KEY_REUSED, "key_reused"),
    KeysUnavailable: _keys_unavailable,
    MembersRefused: _members_refused,
    NoRoom: _no_room,
    NoSignIn: _no_sign_in,
    NotAuthenticated: _not_authenticated,
    NotFound: _not_found,
    OfSignInOnly: _of_sign_in_only,
    ReadOnlyToken: _read_only,
    TokenRefused: _not_authenticated,
    TooManyListeners: _too_many_listeners,
    NotTheOwner: _not_the_owner,
    TooManyKeys: _too_many_keys,
    TooManyTokens: _names_value("path", "user_id", TOO_MANY_TOKENS, "too_many_tokens"),
    UnknownTimeZone: _names_value("query", "time_zone", MUST_BE_ZONE, "time_zone"),
}
