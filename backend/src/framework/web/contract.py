"""What FastAPI cannot express in the OpenAPI document."""

from collections.abc import Mapping
from itertools import chain
from typing import Any, TypeAlias

from src.framework.web.problems import PATCH_TYPES, PROBLEM_JSON

Header: TypeAlias = dict[str, object]


def header(
    description: str, example: object = None, *, kind: str = "string", required: bool = True
) -> Header:
    """Describe a header of an answer."""
    return {"description": description, "required": required, "schema": {"type": kind}} | (
        {} if example is None else {"example": example}
    )


_HEADERS = {
    "Accept-Patch": header("The media types that a patch may have", ", ".join(PATCH_TYPES)),
    "Cache-Control": header("Private to this user; revalidate before reuse", "private, no-cache"),
    "Content-Location": header(
        "The path of the resource; the body and ETag are the resource's state now: RFC 9110 §8.7"
    ),
    "ETag": header(
        "Identifies this state, for If-Match and If-None-Match; a list's ETag is for If-None-Match "
        "only",
        '"5d41402abc4b2a76"',
    ),
    "Link": header("The pages before and after this one: RFC 8288", required=False),
    "Location": header("The path of the new resource"),
    "Preference-Applied": header(
        "The preference that the service followed: RFC 7240 §3", "wait=25", required=False
    ),
    "Retry-After": header("Seconds to wait before trying again", 2, kind="integer"),
    "Vary": header("The request headers that the answer depends on", "Origin"),
    "X-Total-Count": header(
        "The number of rows on all pages, if the request asked for it",
        42,
        required=False,
        kind="integer",
    ),
    "WWW-Authenticate": header(
        "How to authenticate, and what is wrong with the token that was sent: RFC 6750", "Bearer"
    ),
    "X-Request-ID": header("The request's id in the log", "5a980d428deac0aadac05c417271eb03"),
}

_REQUEST_ID_DESCRIPTION = (
    "The request's id in the log: at most 128 letters, digits and _.:/+=@-. Any other text is "
    "replaced."
)
_REQUEST_ID = {
    "name": "X-Request-ID",
    "in": "header",
    "description": _REQUEST_ID_DESCRIPTION,
    "schema": {
        "type": "string",
        "description": _REQUEST_ID_DESCRIPTION,
        "examples": ["checkout-42"],
    },
}


def headers(*names: str) -> dict[str, object]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def example(content: object) -> dict[str, object]:
    return {"application/json": {"example": content}}


def finish_openapi(
    contract: dict[str, Any], header_examples: Mapping[str, str], *, with_tokens: bool
) -> None:
    """Add headers and the errors' media type, and drop derived titles."""
    components = contract["components"]
    components["headers"] = _HEADERS | {
        name: _HEADERS[name] | {"example": text} for name, text in header_examples.items()
    }
    components["parameters"] = {"X-Request-ID": _REQUEST_ID}
    if not with_tokens:
        components.pop("securitySchemes", None)
    for schema in components["schemas"].values():
        properties = schema.get("properties", {})  # an Enum has none
        _drop_titles(schema, *properties.values())
        _add_enums(*properties.values())
        if "example" in schema:  # pydantic sorts the example
            example = schema["example"]
            schema["example"] = {name: example[name] for name in properties if name in example}
            schema["example"] |= example  # members of `additionalProperties` come last
            for each in properties.values():  # the schema's example has these examples
                each.pop("examples", None)
    _move_examples(contract)
    for operations in contract["paths"].values():
        if "requestBody" in operations.get("patch", {}):
            content = operations["patch"]["requestBody"]["content"]
            _drop_titles(content["application/json"]["schema"])
            content |= dict.fromkeys(PATCH_TYPES, content["application/json"])
    for operation in chain.from_iterable(map(dict.values, contract["paths"].values())):
        responses = operation["responses"]
        if with_tokens:
            operation.setdefault("security", [])  # needs no token: OAS 3.1 §4.8.10.1
        else:
            operation.pop("security", None)
            responses.pop("401", None)
            responses.pop("403", None)
        parameters = operation.setdefault("parameters", [])
        _drop_titles(*(parameter["schema"] for parameter in parameters))
        parameters.append({"$ref": "#/components/parameters/X-Request-ID"})
        operation["responses"] = dict(sorted(responses.items()))
        for status, response in responses.items():
            response["headers"] = response.get("headers", {}) | headers("Vary", "X-Request-ID")
            content = response.get("content", {})
            _drop_titles(*(each["schema"] for each in content.values()))
            if status >= "400":
                content[PROBLEM_JSON] = content.pop("application/json")


def _move_examples(contract: dict[str, Any]) -> None:
    """Move a schema's example to the body: schemas that contain the schema need no example."""
    sent = []
    for operation in chain.from_iterable(map(dict.values, contract["paths"].values())):
        for body in operation.get("requestBody", {}).get("content", {}).values():
            name = body["schema"].get("$ref", "").rpartition("/")[2]
            if "example" in (schema := contract["components"]["schemas"].get(name, {})):
                body["example"] = schema["example"]
                sent.append(schema)
    for schema in sent:
        schema.pop("example", None)


def _add_enums(*schemas: dict[str, Any]) -> None:
    """Write each constant text also as an enum: some generators read only one of the two."""
    for schema in schemas:
        if isinstance(schema.get("const"), str):
            schema["enum"] = [schema["const"]]


def _drop_titles(*schemas: dict[str, Any]) -> None:
    """Drop the titles that pydantic derives from names."""
    for schema in schemas:
        schema.pop("title", None)
