"""From the raw path to the endpoint: FastAPI describes, pydantic validates, no more in between.

FastAPI reads the signature of an endpoint once, for the contract and for the call. `JSONRoute`
keeps that reading and the contract, but makes the call itself: solving dependencies, exit stacks
and a second round of exception handling cost more than the statement that the request is for.
"""

import re
from collections.abc import Awaitable, Callable
from email.message import Message as Headers
from inspect import iscoroutinefunction, signature
from typing import Any, TypeAlias, get_type_hints
from urllib.parse import unquote_to_bytes

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send
from typing_extensions import TypedDict

from src.problems import MAX_BODY_BYTES, TOO_LARGE

_BROKEN_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_KEPT_ESCAPE = re.compile(rb"%(0[Aa]|25|2[Ff])")

PIECE_VALUES = 500
"""How many values of an array are sent together."""

Dependency: TypeAlias = Callable[[Request], Awaitable[object]]


def decode_path(scope: Scope) -> str:
    """Return the path, decoded but for %2F, %25 and %0A, and without a slash at its end.

    So a slash inside a segment is not taken for one between segments, and a line feed at the end
    of a path not for its end; `Segment` decodes the rest.
    Raises ValueError for a path that is not percent-encoded UTF-8 (RFC 3986 §2.1).
    """
    raw: bytes = scope["raw_path"]
    if b"%" in raw:
        if _BROKEN_ESCAPE.search(raw):
            raise ValueError("broken escape")
        path = unquote_to_bytes(_KEPT_ESCAPE.sub(rb"%25\1", raw)).decode()
    else:
        path = raw.decode()
    return path.rstrip("/") or "/"


class Segment(Convertor[str]):
    """A path parameter that may hold any text, slashes too: see `decode_path`."""

    regex = "[^/]+"

    def convert(self, value: str) -> str:
        if "%" not in value:
            return value
        return re.sub("%2[Ff]", "/", re.sub("%0[Aa]", "\n", value)).replace("%25", "%")

    def to_string(self, value: str) -> str:
        return value.replace("%", "%25").replace("/", "%2F").replace("\n", "%0A")


register_url_convertor("segment", Segment())


class JSONRoute(APIRoute):
    """A route to an endpoint that answers a Response.

    The endpoint may take path parameters, a JSON body, the request, and what async functions of
    the request give. Those among `dependencies` of the router come first, before the body is read.
    Raises TypeError for one that asks for anything else.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:  # noqa: ANN401 - APIRoute's
        super().__init__(path, endpoint, **options)
        self.guards = _guards(self)
        self.given_by = _dependencies(self)
        self.validate = _inputs(self, self.given_by).validator.validate_python

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the endpoint.

        Raises RequestValidationError, with every error at once, for a request that is not as the
        endpoint says, and HTTPException for a body that is too large.
        """
        if self.methods is None or scope["method"] not in self.methods:
            raise HTTPException(405)
        request = Request(scope, receive)
        for guard in self.guards:
            await guard(request)
        given: dict[str, object] = {"path": scope["path_params"]}
        if self.body_field is not None and (body := await _read(request)):
            given["body"] = _json(request, body)
        try:
            inputs = self.validate(given, from_attributes=True)  # as FastAPI does
        except ValidationError as error:
            raise RequestValidationError(error.errors(include_url=False)) from None
        values = inputs["path"]
        if self.body_field is not None:
            values[self.body_field.name] = inputs["body"]
        for name, dependency in self.given_by.items():
            values[name] = await dependency(request)
        if self.dependant.request_param_name is not None:
            values[self.dependant.request_param_name] = request
        response: Response = await self.endpoint(**values)
        await response(scope, receive, send)


class JSONBytes(Response):
    """JSON as it is."""

    def __init__(self, content: bytes, status: int = 200, location: str | None = None) -> None:
        self.body = content
        self.status_code = status
        self.background = None
        self.raw_headers = _headers(len(content))
        if location is not None:
            self.raw_headers.append((b"location", location.encode()))


class JSONArray(Response):
    """An array of JSON values, each as it is, sent in pieces.

    A piece waits until the client has taken those before, while other requests have their turn.
    """

    def __init__(self, values: list[bytes]) -> None:
        self.values = values
        commas, brackets = max(len(values) - 1, 0), 2
        self.raw_headers = _headers(sum(map(len, values)) + commas + brackets)

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        before = b"["
        for start in range(0, len(self.values) - PIECE_VALUES, PIECE_VALUES):
            piece = before + b",".join(self.values[start : start + PIECE_VALUES])
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            before = b","
        rest = len(self.values) % PIECE_VALUES or PIECE_VALUES
        last = before + b",".join(self.values[-rest:]) + b"]"
        await send({"type": "http.response.body", "body": last})


def _headers(length: int) -> list[tuple[bytes, bytes]]:
    return [(b"content-length", b"%d" % length), (b"content-type", b"application/json")]


def _guards(route: APIRoute) -> list[Dependency]:
    guards = [each.call for each in route.dependant.dependencies if each.name is None]
    return [guard for guard in guards if guard is not None]


def _dependencies(route: APIRoute) -> dict[str, Dependency]:
    """Find those that are async functions of the request alone."""
    return {
        dependency.name: dependency.call
        for dependency in route.dependant.dependencies
        if dependency.name is not None
        and dependency.request_param_name is not None
        and iscoroutinefunction(dependency.call)
        and len(signature(dependency.call).parameters) == 1
    }


def _inputs(route: APIRoute, given_by: dict[str, Dependency]) -> TypeAdapter[dict[str, Any]]:
    """Build the one validator of all that a request brings: errors say where, as FastAPI's do."""
    hints = get_type_hints(route.endpoint, include_extras=True)
    path = {field.name: hints[field.name] for field in route.dependant.path_params}
    body = route.body_field.name if route.body_field is not None else None
    known = {*path, body, *given_by, route.dependant.request_param_name, "return"}
    if unknown := hints.keys() - known:
        raise TypeError(f"{route.endpoint.__name__}: a JSONRoute has no {', '.join(unknown)}")
    fields = {"path": _typed_dict("Path", path)}
    if body is not None:
        fields["body"] = hints[body]
    return TypeAdapter(_typed_dict("Inputs", fields))


def _typed_dict(name: str, fields: dict[str, Any]) -> Any:  # noqa: ANN401 - a type
    return TypedDict(name, fields)  # type: ignore[operator]  # made of what FastAPI found


async def _read(request: Request) -> bytes:
    """Read the body, whether its length is announced or not.

    Raises HTTPException 413 above MAX_BODY_BYTES, ClientDisconnect.
    """
    if int(request.headers.get("content-length", 0)) > MAX_BODY_BYTES:
        raise HTTPException(413, TOO_LARGE)
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise HTTPException(413, TOO_LARGE)
    return body


def _json(request: Request, body: bytes) -> object:
    """Read a body strictly as JSON: RFC 8259, with an end to nesting.

    Raises RequestValidationError; its `body` is bytes when the body is not called JSON.
    """
    content_type = request.headers.get("content-type", "")
    if content_type != "application/json" and not _is_json(content_type):
        raise RequestValidationError([], body=body)
    try:
        return from_json(body, allow_inf_nan=False)
    except ValueError as error:
        message = f"must be valid JSON: {error}"
        raise RequestValidationError(
            [{"loc": ("body",), "msg": message, "type": "json_invalid"}]
        ) from None


def _is_json(content_type: str) -> bool:
    headers = Headers()
    headers["content-type"] = content_type
    subtype = headers.get_content_subtype()
    return headers.get_content_maintype() == "application" and (
        subtype == "json" or subtype.endswith("+json")
    )
