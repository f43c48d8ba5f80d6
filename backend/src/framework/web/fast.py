"""The fast path calls an endpoint without FastAPI's layers. The fast path can be left out.

FastAPI reads each endpoint's signature once, for the contract and for its own call. `FastPath`
makes the same call, with one validator that is built beforehand. FastAPI answers everything else.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, NotRequired, get_origin, get_type_hints

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute, RouteContext, iter_route_contexts
from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.convertors import PathConvertor
from starlette.types import ASGIApp, Receive, Scope, Send
from typing_extensions import TypedDict

from src.framework.web.bodies import MANY_ERRORS, turn_to_work
from src.framework.web.routing import (
    ABOUT_BODY,
    StrictRoute,
    joined_headers,
    parsed_body,
    parsed_query,
    takes_only_the_request,
)
from src.framework.web.strict_names import PREFER, is_strict, strictly_handled


class FastPath:
    """Calls the endpoints of StrictRoutes, and `app` for everything else.

    `app` also answers while the application has `dependency_overrides` or a `root_path`.
    """

    def __init__(self, app: ASGIApp, application: FastAPI) -> None:
        self.app = app
        self.overrides = application.dependency_overrides
        self.paths: dict[int, list[tuple[re.Pattern[str], dict[str, DirectCall | None]]]] = {}
        """The paths by number of slashes. A path is compared only with paths of the same number."""
        for route in iter_route_contexts(application.routes):
            if route.path_format is None or route.methods is None or _has_slashes(route):
                break  # such as a mounted application: it may have any of the paths that follow
            paths = self.paths.setdefault(route.path_format.count("/"), [])
            if not paths or paths[-1][0] != route.path_regex:
                paths.append((route.path_regex, {}))
            call = None
            if isinstance(route.original_route, StrictRoute):
                with suppress(Unsupported):
                    call = DirectCall(route.original_route)
            for method in route.methods:
                paths[-1][1].setdefault(method, call)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not scope["root_path"] and not self.overrides:
            path, method = scope["path"], scope["method"]
            for pattern, calls in self.paths.get(path.count("/"), ()):
                if (match := pattern.match(path)) is None:
                    continue
                if (call := calls.get(method)) is None:
                    break
                scope["route"], scope["endpoint"] = call.route, call.endpoint
                scope["path_params"] = {
                    name: convert(match[name]) for name, convert in call.convertors
                }
                response = await call(Request(scope, receive))
                await response(scope, receive, send)
                return
        await self.app(scope, receive, send)


def _has_slashes(route: RouteContext) -> bool:
    """Whether a parameter of the path may have slashes."""
    return any(isinstance(each, PathConvertor) for each in route.param_convertors.values())


class Unsupported(Exception):
    """Only FastAPI can call this endpoint."""


class DirectCall:
    """Calls an endpoint that returns a Response.

    The endpoint may take path parameters, headers, one frozen query model without required fields,
    a JSON body, the request, and the results of async functions of the request.
    Raises Unsupported for an endpoint that takes anything else.
    """

    def __init__(self, route: StrictRoute) -> None:
        self.route = route
        self.endpoint: Callable[..., Awaitable[Response]] = route.endpoint
        dependencies = route.dependant.dependencies
        if not all(map(takes_only_the_request, dependencies)):
            raise Unsupported
        self.guards = route.guards
        self.convertors = [
            (name, convertor.convert) for name, convertor in route.param_convertors.items()
        ]
        self.dependencies: dict[str, Any] = {
            each.name: each.call for each in dependencies if each.name
        }
        self.default_query = _default_query(route)
        fields = type(self.default_query[1]).model_fields if self.default_query else {}
        self.repeatable = {
            name: get_origin(field.annotation) in {list, tuple} for name, field in fields.items()
        }
        self.body = None if route.body_field is None else route.body_field.name
        self.request = route.dependant.request_param_name
        names = [field.alias for field in route.dependant.header_params]
        names += (PREFER, *ABOUT_BODY) if self.body else (PREFER,)
        self.headers = {name.lower().encode(): name for name in names}
        self.validate = self._inputs().validator.validate_python

    async def __call__(self, request: Request) -> Response:
        """Read the request and call the endpoint.

        Raises RequestValidationError, with every error of the request at once, and HTTPException
        400, 413 or 415.
        """
        scope = request.scope
        for guard in self.guards:
            await guard(request)
        headers = joined_headers(scope["headers"], self.headers)
        sent: dict[str, object] = {"path": scope["path_params"], "header": headers}
        if self.default_query is not None and scope["query_string"]:
            sent["query"] = _texts(parsed_query(scope["query_string"]), self.repeatable)
        if self.body and (body := await self.route.read_body(request, headers)):
            sent["body"] = parsed_body(body, headers.get("content-type", ""), scope["method"])
            del body
        strict = PREFER in headers and is_strict(headers[PREFER])
        if strict:
            query = parsed_query(scope["query_string"])
            self.route.strict_names.check(query, sent.get("body"))
        try:
            inputs = self.validate(sent, from_attributes=True)  # as FastAPI does
        except ValidationError as error:
            if error.error_count() > MANY_ERRORS:
                await turn_to_work(scope)
            raise RequestValidationError(
                error.errors(include_url=False, include_input=False)
            ) from None
        sent.clear()  # frees what the endpoint does not take, before it waits
        values = inputs["path"]
        values.update(inputs["header"])
        if self.default_query is not None:
            name, default = self.default_query
            values[name] = inputs.get("query", default)
        if "body" in inputs:
            values[self.body] = inputs["body"]
        for name, dependency in self.dependencies.items():
            values[name] = await dependency(request)
        if self.request is not None:
            values[self.request] = request
        response = await self.endpoint(**values)
        return strictly_handled(response) if strict else response

    def _inputs(self) -> TypeAdapter[dict[str, Any]]:
        """Build one validator for the whole request; error locations match FastAPI's."""
        hints = get_type_hints(self.endpoint, include_extras=True)
        dependant = self.route.dependant
        path = {field.name: hints[field.name] for field in dependant.path_params}
        headers = {field.name: hints[field.name] for field in dependant.header_params}
        query = None if self.default_query is None else self.default_query[0]
        others = {*self.dependencies, query, self.body, self.request, "return"}
        if hints.keys() - path.keys() - headers.keys() - others:
            raise Unsupported
        # In the order of FastAPI's errors.
        fields = {"path": _typed_dict("Path", path)}
        if query is not None:
            fields["query"] = NotRequired[hints[query]]
        fields["header"] = _typed_dict("Headers", headers, total=False)
        if self.route.body_field is not None and self.body is not None:
            is_required = self.route.body_field.field_info.is_required()
            fields["body"] = hints[self.body] if is_required else NotRequired[hints[self.body]]
        return TypeAdapter(_typed_dict("Inputs", fields))


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


def _typed_dict(name: str, fields: dict[str, Any], total: bool = True) -> Any:  # noqa: ANN401 - a type
    return TypedDict(name, fields, total=total)  # type: ignore[operator]  # from the fields that FastAPI found


def _texts(pairs: list[tuple[str, str]], repeatable: Mapping[str, bool]) -> dict[str, Any]:
    """Return the last value of each name, or all values if the name is repeatable or unknown."""
    texts: dict[str, list[str]] = {}
    for name, text in pairs:
        texts.setdefault(name, []).append(text)
    return {
        name: values if repeatable.get(name, len(values) > 1) else values[-1]
        for name, values in texts.items()
    }
