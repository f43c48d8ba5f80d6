"""Every error as `application/problem+json`: RFC 9457."""

import logging
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, TypeAlias

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.routing import Match, Route

from src.exceptions import (
    ConditionNotMet,
    DatabaseUnavailable,
    KeyReused,
    KeysUnavailable,
    NotAllowed,
    NotAuthenticated,
    Stopping,
    TaskNotFound,
)
from src.http.problem_schema import Problem

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 2
MAX_BODY_BYTES = 128 * 1024
PATCH_TYPES = ("application/json", "application/merge-patch+json")
ACCEPT_PATCH = {"Accept-Patch": ", ".join(PATCH_TYPES)}

Responses: TypeAlias = dict[int | str, dict[str, Any]]

# RFC 9110's phrases; Python before 3.13 has the older ones.
_PHRASES = {413: "Content Too Large", 422: "Unprocessable Content"}

_DETAILS = {
    404: "There is nothing at this path",
    405: "This path does not take that method",
}
BROKEN_QUERY = "The query must be percent-encoded UTF-8"
ENCODED = "Send the body as it is, without a Content-Encoding"
BROKEN_PATH = "The path must be percent-encoded UTF-8"
KEY_REUSED = "Idempotency-Key: was used for another task"
LIST_IS_KNOWN = "The list has one of the ETags in If-None-Match"
LIST_IS_WEAK = (
    "If-Match: a list's ETags are weak, and none of them matches; If-None-Match takes them"
)
NOT_AS_ASKED = "The task is not what If-Match or If-None-Match asks for"
TASK_CHANGED = "The task has changed since; get it again"
TASK_NOT_FOUND = "Task not found"
TOO_LARGE = f"The body may have {MAX_BODY_BYTES} bytes at most"
KEYS_UNAVAILABLE = "The keys that tokens are checked with cannot be fetched just now"
NOT_ALLOWED = "These tasks are another user's"
NOT_AUTHENTICATED = "Send a token, as in Authorization: Bearer header.claims.signature"
STOPPING = "This process is about to stop; ask another"
UNEXPECTED = "Something went wrong here; the log has it under X-Request-ID"
UNAVAILABLE = "The database cannot be reached just now; try again in a moment"
WRONG_MEDIA_TYPE = "Send the body as JSON, with the header Content-Type: application/json"

_KEY_REUSED = {
    "loc": ["header", "Idempotency-Key"],
    "msg": "was used for another task",
    "type": "key_reused",
}

# RFC 6750 §3
_NOT_IN_A_DESCRIPTION = re.compile(r"[^ !#-\[\]-~]")

logger = logging.getLogger(__name__)


def problem(
    status: int, detail: str, headers: Mapping[str, str] | None = None, **members: object
) -> Response:
    """Build the response; `detail` is one sentence that a person may be shown."""
    content = _members(status, detail) | members
    return JSONResponse(content, status, headers, media_type=MEDIA_TYPE)


def documented(
    status: int,
    description: str,
    detail: str,
    headers: Mapping[str, object] | None = None,
    **members: object,
) -> Responses:
    """Describe the response for the contract, with an example."""
    example = {"application/json": {"example": _members(status, detail) | members}}
    described = {"model": Problem, "description": description, "content": example}
    return {status: described | ({"headers": headers} if headers else {})}


def _members(status: int, detail: str) -> dict[str, object]:
    title = _PHRASES.get(status) or HTTPStatus(status).phrase
    return {"type": "about:blank", "title": title, "status": status, "detail": detail}


def answer(request: Request, error: Exception) -> Response:  # noqa: PLR0911 - a table
    """Turn whatever was raised into a response; what nobody expected is logged, and a 500."""
    match error:
        case TaskNotFound():
            return problem(404, TASK_NOT_FOUND)
        case ConditionNotMet():
            ruled_out = "if-none-match" in request.headers
            return problem(412, NOT_AS_ASKED if ruled_out else TASK_CHANGED)
        case KeyReused():
            return problem(422, KEY_REUSED, errors=[_KEY_REUSED])
        case DatabaseUnavailable():
            logger.warning("The database is unavailable: %r", error.__cause__ or error)
            return problem(503, UNAVAILABLE, {"Retry-After": str(RETRY_AFTER_SECONDS)})
        case NotAuthenticated():
            return _not_authenticated(error)
        case NotAllowed():
            return problem(403, NOT_ALLOWED)
        case KeysUnavailable():
            return problem(503, KEYS_UNAVAILABLE, {"Retry-After": str(RETRY_AFTER_SECONDS)})
        case Stopping():
            return problem(503, STOPPING, {"Retry-After": str(RETRY_AFTER_SECONDS)})
        case RequestValidationError():
            return _invalid(request, error)
        case HTTPException(status_code=405):
            return _method_not_allowed(request)
        case HTTPException():
            detail = _DETAILS.get(error.status_code, error.detail)
            return problem(error.status_code, detail, error.headers)
        case ClientDisconnect():
            return problem(400, "The request ended before its body did")
    logger.error("Unexpected error in request %s", request.scope["request_id"], exc_info=error)
    return problem(500, UNEXPECTED)


def _not_authenticated(error: NotAuthenticated) -> Response:
    """Say how to authenticate, and what is wrong with the token if there is one: RFC 6750 §3."""
    if not error.args:
        return problem(401, NOT_AUTHENTICATED, {"WWW-Authenticate": "Bearer"})
    description = _NOT_IN_A_DESCRIPTION.sub("'", str(error))
    challenge = f'Bearer error="invalid_token", error_description="{description}"'
    return problem(401, str(error), {"WWW-Authenticate": challenge})


def _invalid(request: Request, error: RequestValidationError) -> Response:
    if isinstance(error.body, bytes):
        accept = ACCEPT_PATCH if request.method == "PATCH" else {}
        return problem(415, WRONG_MEDIA_TYPE, accept)
    errors = [{name: item[name] for name in ("loc", "msg", "type")} for item in error.errors()]
    return problem(422, "; ".join(map(_sentence, errors)), errors=errors)


def _sentence(error: dict[str, Any]) -> str:
    where, *path = error["loc"]
    if error["loc"] == ("body",) and error["type"] != "json_invalid":
        return "Send a JSON object as the body"
    if error["type"] == "uuid_parsing":
        return f"{path[0]}: must be a UUID"
    name = ".".join(map(str, path)) or where
    return f"{name}: {error['msg']}"


def _method_not_allowed(request: Request) -> Response:
    """Answer OPTIONS with 204, any other method with 405; both name every method of the path.

    RFC 9110 §10.2.1, §15.5.6; OPTIONS names the types of a patch, too: RFC 5789 §3.1.
    """
    methods = _methods(request)
    allow = {"Allow": ", ".join(methods)}
    if request.method == "OPTIONS":
        accept = ACCEPT_PATCH if "PATCH" in methods else {}
        return Response(status_code=204, headers=allow | accept)
    return problem(405, _DETAILS[405], allow)


def _methods(request: Request) -> list[str]:
    methods = {"OPTIONS"}
    for route in request.app.routes:
        if isinstance(route, Route) and route.matches(request.scope)[0] is not Match.NONE:
            methods |= route.methods or set()
    if "GET" in methods:
        methods.add("HEAD")
    return sorted(methods)
