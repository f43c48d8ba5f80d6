"""The answer to each error of the application and its rooms."""

import logging
import re

from fastapi import Request, Response

from src.framework.auth.exceptions import KeysUnavailable, NotAuthenticated, NotTheOwner
from src.framework.spool import NoRoom
from src.framework.sql.exceptions import DatabaseUnavailable
from src.framework.web.conditions import ConditionNotMet
from src.framework.web.links import path_beside
from src.framework.web.problems import HANDLERS, Handler, invalid, later, problem
from src.services.exceptions import BatchRefused, ChangesGone, KeyReused, TaskNotFound

CHANGES_GONE = "The changes since this token are no longer known; get a new token, then the list"
KEY_REUSED = "Idempotency-Key: was used for another request"
KEYS_UNAVAILABLE = "The keys to check tokens with cannot be fetched just now; try again in a moment"
LIST_IS_KNOWN = "The list has one of the ETags in If-None-Match"
LIST_IS_WEAK = "If-Match: a list's ETags are weak and never match here; send them in If-None-Match"
NO_ROOM = "The list is too long to send just now; request pages with limit"
NOT_AS_ASKED = "The task does not meet If-Match or If-None-Match"
NOT_AUTHENTICATED = "Send a token, as in Authorization: Bearer header.claims.signature"
NOT_THE_OWNER = "These tasks belong to another user"
OTHER_CAPITALS = (
    f"{NOT_THE_OWNER}: capitals count, and the token's user differs from the path's in them only"
)
TASK_CHANGED = "The task has changed since; get it again"
TASK_NOT_FOUND = "Task not found"
UNAVAILABLE = "The database cannot be reached just now; try again in a moment"

_KEY_REUSED = {
    "loc": ["header", "Idempotency-Key"],
    "msg": "was used for another request",
    "type": "key_reused",
}

_CHANGED = {"msg": TASK_CHANGED, "type": "changed"}
_MISSING = {"msg": TASK_NOT_FOUND, "type": "not_found"}

logger = logging.getLogger(__name__)

# RFC 6750 §3
_NOT_IN_A_DESCRIPTION = re.compile(r"[^ !#-\[\]-~]")


async def _not_authenticated(_request: Request, error: NotAuthenticated) -> Response:
    """Say how to authenticate, and what is wrong with the token if there is one: RFC 6750 §3."""
    if not error.args:
        return problem(401, NOT_AUTHENTICATED, {"WWW-Authenticate": "Bearer"})
    description = _NOT_IN_A_DESCRIPTION.sub("'", str(error))
    challenge = f'Bearer error="invalid_token", error_description="{description}"'
    return problem(401, str(error), {"WWW-Authenticate": challenge})


async def _changes_gone(request: Request, _error: ChangesGone) -> Response:
    link = f'<{path_beside(request)}>; rel="collection"'  # RFC 6573
    return problem(410, CHANGES_GONE, {"Link": link})


async def _condition_not_met(request: Request, _error: ConditionNotMet) -> Response:
    return problem(412, NOT_AS_ASKED if "if-none-match" in request.headers else TASK_CHANGED)


async def _unavailable(_request: Request, error: DatabaseUnavailable) -> Response:
    logger.warning("The database is unavailable: %r", error.__cause__ or error)
    return later(UNAVAILABLE)


async def _no_room(_request: Request, error: NoRoom) -> Response:
    logger.warning("No room on the disk for a long list: %r", error.__cause__)
    return later(NO_ROOM)


async def _key_reused(_request: Request, _error: KeyReused) -> Response:
    return problem(422, KEY_REUSED, errors=[_KEY_REUSED])


async def _batch_refused(_request: Request, error: BatchRefused) -> Response:
    """Answer 412 if any task has changed, or else 404; name each operation at fault."""
    errors = [
        {"loc": ["body", "operations", n]} | (_CHANGED if n in error.changed else _MISSING)
        for n in sorted([*error.missing, *error.changed])
    ]
    return invalid(412 if error.changed else 404, errors)


async def _not_the_owner(_request: Request, error: NotTheOwner) -> Response:
    return problem(403, OTHER_CAPITALS if error.only_capitals_differ else NOT_THE_OWNER)


async def _not_found(_request: Request, _error: TaskNotFound) -> Response:
    return problem(404, TASK_NOT_FOUND)


async def _keys_unavailable(_request: Request, _error: KeysUnavailable) -> Response:
    return later(KEYS_UNAVAILABLE)


EXCEPTION_HANDLERS: dict[int | type[Exception], Handler] = HANDLERS | {
    BatchRefused: _batch_refused,
    ChangesGone: _changes_gone,
    ConditionNotMet: _condition_not_met,
    DatabaseUnavailable: _unavailable,
    KeyReused: _key_reused,
    KeysUnavailable: _keys_unavailable,
    NoRoom: _no_room,
    NotAuthenticated: _not_authenticated,
    NotTheOwner: _not_the_owner,
    TaskNotFound: _not_found,
}
