"""Every error as `application/problem+json`: RFC 9457."""

import logging
from collections.abc import Callable, Coroutine, Mapping
from http import HTTPStatus
from inspect import iscoroutinefunction
from typing import Any, TypeAlias, cast

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.routing import Match

from src.framework.web.problem_schema import Problem

PROBLEM_JSON = "application/problem+json"
RETRY_AFTER_SECONDS = 2
MAX_BODY_BYTES = 128 * 1024
PATCH_TYPES = ("application/json", "application/merge-patch+json")
ACCEPT_PATCH = {"Accept-Patch": ", ".join(PATCH_TYPES)}

Handler: TypeAlias = Callable[[Request, Any], Coroutine[Any, Any, Response]]
Responses: TypeAlias = dict[int | str, dict[str, Any]]

# RFC 9110's phrases; Python before 3.13 has the older ones.
_PHRASES = {413: "Content Too Large", 414: "URI Too Long", 422: "Unprocessable Content"}

_DETAILS = {404: "There is nothing at this path", 405: "This path does not allow that method"}
BROKEN_QUERY = "The query must be percent-encoded UTF-8"
ENCODED = "Send the body without compression, and without Content-Encoding"
BROKEN_PATH = "The path must be percent-encoded UTF-8"
NO_OBJECT = "Send a JSON object as the body"
STOPPING = "The service is about to stop; try again in a moment"
UNEXPECTED = (
    "An unexpected error ended the request; find this answer's X-Request-ID in the service's log"
)
WRONG_MEDIA_TYPE = "Send the body as JSON, with the header Content-Type: application/json"

_PLAIN_WORDS = {
    "Field required": "is missing",
    "Input should be a valid boolean": "must be true or false",
    "Input should be a valid dictionary": "must be a JSON object",
    "Input should be a valid string": "must be a string",
}

logger = logging.getLogger(__name__)


def too_large(limit: int = MAX_BODY_BYTES) -> str:
    return f"The body may have at most {limit} bytes"


def problem(
    status: int, detail: str, headers: Mapping[str, str] | None = None, **members: object
) -> Response:
    """Build the response; `detail` is a sentence that you can show to a user."""
    content = _members(status, detail) | members
    return JSONResponse(content, status, headers, media_type=PROBLEM_JSON)


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


async def answer(request: Request, error: Exception) -> Response:
    """Answer with the application's handler for this error, as FastAPI does.

    An error without a handler is logged and answered with 500.
    """
    handlers = request.app.exception_handlers
    for kind in (getattr(error, "status_code", None), *type(error).__mro__, 500):
        if (handler := handlers.get(kind)) is None:
            continue
        if iscoroutinefunction(handler):
            return cast("Response", await handler(request, error))
        return cast("Response", await run_in_threadpool(handler, request, error))
    logger.error("Unexpected error in request %s", request.scope["request_id"], exc_info=error)
    return problem(500, UNEXPECTED)


def wrong_media_type(method: str) -> HTTPException:
    return HTTPException(415, WRONG_MEDIA_TYPE, ACCEPT_PATCH if method == "PATCH" else None)


def unavailable(detail: str) -> Response:
    """Answer 503 with Retry-After."""
    return problem(503, detail, {"Retry-After": str(RETRY_AFTER_SECONDS)})


async def _http_exception(request: Request, error: HTTPException) -> Response:
    if error.status_code == 405:
        return _method_not_allowed(request)
    detail = _DETAILS.get(error.status_code, error.detail)
    return problem(error.status_code, detail, error.headers)


async def _disconnected(_request: Request, _error: ClientDisconnect) -> Response:
    return problem(400, "The request ended before its body was complete")


async def _invalid(request: Request, error: RequestValidationError) -> Response:
    if isinstance(error.body, bytes):  # FastAPI parsed nothing
        return await _http_exception(request, wrong_media_type(request.method))
    errors = [
        {"loc": _place(item), "msg": _in_plain_words(item), "type": item["type"]}
        for item in error.errors()
    ]
    return problem_with_errors(422, errors)


def _place(error: dict[str, Any]) -> object:
    return ("body",) if error["type"] == "json_invalid" else error["loc"]


def problem_with_errors(status: int, errors: list[dict[str, Any]]) -> Response:
    """Answer with errors. Each error has its `loc` in the request, its `msg` and its `type`."""
    return problem(status, "; ".join(map(_sentence, errors)), errors=errors)


def _in_plain_words(error: dict[str, Any]) -> str:
    """Say what to send, instead of what went wrong inside pydantic."""
    if error["type"] == "json_invalid" and "ctx" in error:
        return str(error["ctx"]["error"])
    if error["loc"] == ("body",) and error["type"] != "json_invalid":
        return NO_OBJECT
    if error["type"] in {"model_type", "model_attributes_type"}:
        return "must be a JSON object"
    if error["type"].startswith("uuid_"):
        return "must be a UUID"
    message: str = error["msg"]
    return _PLAIN_WORDS.get(message) or message.replace("Input should be", "must be")


def _sentence(error: dict[str, Any]) -> str:
    where, *path = error["loc"]
    if error["msg"] == NO_OBJECT:
        return NO_OBJECT
    return f"{'.'.join(map(str, path)) or where}: {error['msg']}"


def _method_not_allowed(request: Request) -> Response:
    """Answer OPTIONS with 204 and any other method with 405; Allow lists the path's methods.

    RFC 9110 §10.2.1, §15.5.6. OPTIONS also lists the media types of a patch: RFC 5789 §3.1.
    """
    methods = _methods(request)
    allow = {"Allow": ", ".join(methods)}
    if request.method == "OPTIONS":
        accept = ACCEPT_PATCH if "PATCH" in methods else {}
        return Response(status_code=204, headers=allow | accept)
    return problem(405, _DETAILS[405], allow)


def _methods(request: Request) -> list[str]:
    methods = {"OPTIONS"}
    for route in iter_route_contexts(request.app.routes):
        if route.methods and route.matches(request.scope)[0] is not Match.NONE:
            methods |= route.methods
    if "GET" in methods:
        methods.add("HEAD")
    return sorted(methods)


HANDLERS: dict[int | type[Exception], Handler] = {
    ClientDisconnect: _disconnected,
    HTTPException: _http_exception,
    RequestValidationError: _invalid,
}
"""For FastAPI's `exception_handlers`."""
