"""From the raw path to the endpoint: FastAPI describes it, pydantic validates, nothing else runs.

FastAPI reads an endpoint's signature once, for the contract and for the call. `DirectRoute` keeps
both, but makes the call itself: solving dependencies, exit stacks and a second layer of exception
handling would cost more than a small request's own work.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from email.message import Message as Headers
from inspect import iscoroutinefunction, signature
from typing import Any, NotRequired, TypeAlias, get_origin, get_type_hints
from urllib.parse import parse_qsl, unquote_to_bytes

from fastapi import APIRouter, Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.asyncexitstack import AsyncExitStackMiddleware
from fastapi.routing import APIRoute, request_response
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import from_json
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.types import Receive, Scope, Send
from typing_extensions import TypedDict

from src.framework.web.problems import BROKEN_QUERY, ENCODED, MAX_BODY_BYTES, PATCH_TYPES, too_large

_ABOUT_BODY = ("content-encoding", "content-length", "content-type", "transfer-encoding")
_BROKEN_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_KEPT_ESCAPE = re.compile(rb"%(0[Aa]|25|2[Ff])")

Dependency: TypeAlias = Callable[[Request], Awaitable[object]]


def decode_path(scope: Scope) -> str:
    """Return the path without a trailing slash, and decoded except for %2F, %25 and %0A.

    This tells a slash inside a segment from one between segments, and a line feed at the end of the
    path from its end; `Segment` decodes the rest.
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
    """A path parameter that may hold any text, even slashes: see `decode_path`."""

    regex = "[^/]+"

    def convert(self, value: str) -> str:
        if "%" not in value:
            return value
        return re.sub("%2[Ff]", "/", re.sub("%0[Aa]", "\n", value)).replace("%25", "%")

    def to_string(self, value: str) -> str:
        return value.replace("%", "%25").replace("/", "%2F").replace("\n", "%0A")


register_url_convertor("segment", Segment())


class DirectRoute(APIRoute):
    """A route to an endpoint that returns a Response.

    The endpoint may take path parameters, headers, one frozen query model without required fields,
    a JSON body, the request, and the results of async functions of the request. The router's own
    `dependencies` run first, before the body is read.
    Raises TypeError for an endpoint that takes anything else.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:  # noqa: ANN401 - APIRoute's
        super().__init__(path, endpoint, **options)
        self.guards = _guards(self)
        self.given_by = _dependencies(self)
        self.default_query = _default_query(self)
        self.repeatable = _repeatable(self)
        self.max_bytes = MAX_BODY_BYTES if self.max_body_size is None else self.max_body_size
        names = [field.alias for field in self.dependant.header_params]
        names += _ABOUT_BODY if self.body_field is not None else ()
        self.headers = {name.lower().encode(): name for name in names}
        self.validate = _inputs(self).validator.validate_python

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the endpoint.

        Raises RequestValidationError, with every error of the request at once, and HTTPException
        400, 405, 413 or 415.
        """
        if self.methods is None or scope["method"] not in self.methods:
            raise HTTPException(405)
        if scope["app"].dependency_overrides:
            await self._handle_as_fastapi_does(scope, receive, send)
            return
        request = Request(scope, receive)
        for guard in self.guards:
            await guard(request)
        headers = _headers(scope["headers"], self.headers)
        given: dict[str, object] = {"path": scope["path_params"], "header": headers}
        if self.default_query is not None and scope["query_string"]:
            given["query"] = _query(scope["query_string"], self.repeatable)
        if self.body_field is not None and (body := await _read(request, headers, self.max_bytes)):
            given["body"] = _json(body, headers.get("content-type", ""), scope["method"])
        try:
            inputs = self.validate(given, from_attributes=True)  # as FastAPI does
        except ValidationError as error:
            raise RequestValidationError(error.errors(include_url=False)) from None
        values = inputs["path"]
        values.update(inputs["header"])
        if self.default_query is not None:
            name, default = self.default_query
            values[name] = inputs.get("query", default)
        if self.body_field is not None and "body" in inputs:
            values[self.body_field.name] = inputs["body"]
        for name, dependency in self.given_by.items():
            values[name] = await dependency(request)
        if self.dependant.request_param_name is not None:
            values[self.dependant.request_param_name] = request
        response: Response = await self.endpoint(**values)
        await response(scope, receive, send)

    async def _handle_as_fastapi_does(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let FastAPI solve the dependencies: an override may be of any kind."""
        self.dependency_overrides_provider = scope["app"]
        app = AsyncExitStackMiddleware(request_response(self.get_route_handler()))
        await app(scope, receive, send)


class DirectRoutes:
    """Finds a DirectRoute by its path and then its method; the router finds all others.

    The router tries every route in turn, which for the last ones takes longer than answering.
    """

    def __init__(self, router: APIRouter) -> None:
        self.router = router
        self.paths: list[tuple[re.Pattern[str], dict[str, Route]]] = []
        for route in router.routes:
            if not isinstance(route, Route):
                break
            if not self.paths or self.paths[-1][0] != route.path_regex:
                self.paths.append((route.path_regex, {}))
            for method in route.methods or ():
                self.paths[-1][1].setdefault(method, route)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not scope["root_path"]:
            for pattern, routes in self.paths:
                if (found := pattern.match(scope["path"])) is None:
                    continue
                route = routes.get(scope["method"])
                if isinstance(route, DirectRoute):
                    convertors = route.param_convertors
                    scope["path_params"] = {
                        name: convertors[name].convert(value)
                        for name, value in found.groupdict().items()
                    }
                    scope["router"], scope["route"] = self.router, route
                    scope["endpoint"] = route.endpoint
                    await route.handle(scope, receive, send)
                    return
                break
        await self.router(scope, receive, send)


def _guards(route: APIRoute) -> list[Dependency]:
    nameless = [each for each in route.dependant.dependencies if each.name is None]
    for dependency in nameless:
        if not _takes_only_the_request(dependency):
            raise TypeError(f"a DirectRoute does not support {dependency.call}")
    return [each.call for each in nameless if each.call is not None]


def _dependencies(route: APIRoute) -> dict[str, Dependency]:
    return {
        dependency.name: dependency.call
        for dependency in route.dependant.dependencies
        if dependency.name is not None
        and dependency.call is not None
        and _takes_only_the_request(dependency)
    }


def _takes_only_the_request(dependency: Dependant) -> bool:
    """Whether this is an async callable whose only parameter is the request."""
    call: Any = dependency.call
    request = dependency.request_param_name or dependency.http_connection_param_name
    is_async = iscoroutinefunction(call) or iscoroutinefunction(type(call).__call__)
    return is_async and list(signature(call).parameters) == [request]


def _default_query(route: APIRoute) -> tuple[str, BaseModel] | None:
    """Return the name of the query model, and its value for a request without a query.

    All such requests share that value, so it has to be frozen.
    """
    for field in route.dependant.query_params:
        model = field.field_info.annotation
        if isinstance(model, type) and issubclass(model, BaseModel):
            with suppress(ValidationError):  # it has required fields
                return (field.name, model()) if model.model_config.get("frozen") else None
    return None


def _repeatable(route: APIRoute) -> dict[str, bool]:
    """Return whether each parameter of the query takes several values."""
    return {
        name: get_origin(field.annotation) in {list, tuple}
        for query in route.dependant.query_params
        if isinstance(model := query.field_info.annotation, type) and issubclass(model, BaseModel)
        for name, field in model.model_fields.items()
    }


def _inputs(route: "DirectRoute") -> TypeAdapter[dict[str, Any]]:
    """Build one validator for the whole request; error locations match FastAPI's."""
    hints = get_type_hints(route.endpoint, include_extras=True)
    asked = route.dependant
    path = {field.name: hints[field.name] for field in asked.path_params}
    headers = {field.name: hints[field.name] for field in asked.header_params}
    query = None if route.default_query is None else route.default_query[0]
    body = None if route.body_field is None else route.body_field.name
    known = {*path, *headers, *route.given_by, query, body, asked.request_param_name, "return"}
    if unknown := hints.keys() - known:
        names = ", ".join(unknown)
        raise TypeError(f"{route.endpoint.__name__}: a DirectRoute does not support {names}")
    # In the order of FastAPI's errors.
    fields = {"path": _typed_dict("Path", path)}
    if query is not None:
        fields["query"] = NotRequired[hints[query]]
    fields["header"] = _typed_dict("Headers", headers, total=False)
    if route.body_field is not None and body is not None:
        is_required = route.body_field.field_info.is_required()
        fields["body"] = hints[body] if is_required else NotRequired[hints[body]]
    return TypeAdapter(_typed_dict("Inputs", fields))


def _typed_dict(name: str, fields: dict[str, Any], total: bool = True) -> Any:  # noqa: ANN401 - a type
    return TypedDict(name, fields, total=total)  # type: ignore[operator]  # from the fields that FastAPI found


def _query(query_string: bytes, repeatable: Mapping[str, bool]) -> dict[str, str | list[str]]:
    """Return lists for repeatable parameters, the last value of others, and all of unknown ones.

    Raises HTTPException 400 for what is not percent-encoded UTF-8 (RFC 3986 §2.1).
    """
    try:
        pairs = parse_qsl(query_string.decode(), keep_blank_values=True, errors="strict")
    except ValueError:
        raise HTTPException(400, BROKEN_QUERY) from None
    texts: dict[str, list[str]] = {}
    for name, text in pairs:
        texts.setdefault(name, []).append(text)
    return {
        name: found if repeatable.get(name, len(found) > 1) else found[-1]
        for name, found in texts.items()
    }


def _headers(sent: list[tuple[bytes, bytes]], names: dict[bytes, str]) -> dict[str, str]:
    """Return the headers that the endpoint takes.

    Repeated fields form one list (RFC 9110 §5.3); of those about the body, which are not lists, the
    first counts. httptools keeps the white space at a value's end, which is not part of it (§5.5).
    """
    found: dict[str, str] = {}
    for name, value in sent:
        if name in names:
            alias, text = names[name], value.decode("latin-1").strip(" \t")
            if alias not in found:
                found[alias] = text
            elif alias not in _ABOUT_BODY:
                found[alias] += f", {text}"
    return found


async def _read(request: Request, headers: dict[str, str], max_bytes: int) -> bytes:
    """Read the body, with or without a Content-Length.

    Raises HTTPException 415 for an encoded body (RFC 9110 §8.4) and 413 above `max_bytes`, and
    ClientDisconnect.
    """
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise HTTPException(415, ENCODED, {"Accept-Encoding": "identity"})
    length = headers.get("content-length")
    if length is None and "transfer-encoding" not in headers:  # RFC 9112 §6.3
        return b""
    if int(length or 0) > max_bytes:
        raise HTTPException(413, too_large(max_bytes))
    body = bytearray()  # bytes would be copied with each chunk
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_bytes:
            raise HTTPException(413, too_large(max_bytes))
    return bytes(body)


def _json(body: bytes, content_type: str, method: str) -> object:
    """Parse a body as strict JSON (RFC 8259) of limited depth.

    Raises RequestValidationError. Its `body` is bytes if the Content-Type is not JSON or, for
    PATCH, a merge patch (RFC 5789 §2.2).
    """
    if content_type != "application/json" and not _is_json(content_type, method):
        raise RequestValidationError([], body=body)
    try:
        return from_json(body, allow_inf_nan=False)
    except ValueError as error:
        message = f"must be valid JSON: {error}"
        raise RequestValidationError(
            [{"loc": ("body",), "msg": message, "type": "json_invalid"}]
        ) from None


def _is_json(content_type: str, method: str) -> bool:
    headers = Headers()
    headers["content-type"] = content_type
    if method == "PATCH":
        return headers.get_content_type() in PATCH_TYPES
    subtype = headers.get_content_subtype()
    return headers.get_content_maintype() == "application" and (
        subtype == "json" or subtype.endswith("+json")
    )
