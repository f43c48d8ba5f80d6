"""What the contract says that FastAPI has no words for."""

from itertools import chain
from typing import Any

from src.http.problems import MEDIA_TYPE, PATCH_TYPES


def _header(
    description: str, example: object, *, kind: str = "string", required: bool = True
) -> dict[str, object]:
    return {
        "description": description,
        "required": required,
        "schema": {"type": kind},
        "example": example,
    }


_HEADERS = {
    "Accept-Patch": _header("What a patch may be declared as", ", ".join(PATCH_TYPES)),
    "Cache-Control": _header("For this user alone, and to be asked for anew", "private, no-cache"),
    "Content-Location": _header(
        "The task's path: the answer is the task as it is now (RFC 9110 §8.7), and ETag is of it",
        "/api/ada/tasks/019aa3c5-5d3e-7c1f-9d0a-6b1f2c3d4e5f",
    ),
    "ETag": _header(
        "Which state this is, for If-Match and If-None-Match; a list's is weak, for the latter",
        '"5d41402abc4b2a76"',
    ),
    "Link": _header(
        "The next page, if there is one: RFC 8288",
        '</api/ada/tasks?limit=100&cursor=WyJjcmVhdGVk>; rel="next"',
        required=False,
    ),
    "Location": _header(
        "The new task's path", "/api/ada/tasks/019aa3c5-5d3e-7c1f-9d0a-6b1f2c3d4e5f"
    ),
    "X-Total-Count": _header(
        "How many there are in all, where it was asked for", 42, required=False, kind="integer"
    ),
    "Retry-After": _header("Seconds after which to try again", 2, kind="integer"),
    "Vary": _header("The headers of the request that the answer depends on", "Origin"),
    "WWW-Authenticate": _header(
        "What to send, and what is wrong with what was sent: RFC 6750", "Bearer"
    ),
    "X-Request-ID": _header("What the log calls the request", "5a980d428deac0aadac05c417271eb03"),
}

_REQUEST_ID_DESCRIPTION = (
    "What the log will call the request: 1 to 128 letters, digits or any of _.:/+=@-. "
    "Anything else is replaced."
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

# Named, as client generators want it, and as no model could be: an empty object is read as None.
_TOGGLE = {
    "type": "object",
    "maxProperties": 0,
    "description": "Toggles, as null and no body do.",
}


def headers(*names: str) -> dict[str, object]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def example(content: object) -> dict[str, object]:
    return {"application/json": {"example": content}}


def complete(contract: dict[str, Any], *, with_tokens: bool) -> None:
    """Add the headers of every answer, and the errors' media type; take away what says nothing."""
    components = contract["components"]
    components["headers"] = _HEADERS
    components["parameters"] = {"X-Request-ID": _REQUEST_ID}
    if not with_tokens:
        components.pop("securitySchemes", None)
    for schema in components["schemas"].values():
        _drop_titles(schema, *schema["properties"].values())
        if "example" in schema:  # pydantic sorts it
            names = [name for name in schema["properties"] if name in schema["example"]]
            schema["example"] = {name: schema["example"][name] for name in names}
    components["schemas"]["Toggle"] = _TOGGLE
    for operations in contract["paths"].values():
        if "patch" in operations:
            content = operations["patch"]["requestBody"]["content"]
            _drop_titles(content["application/json"]["schema"])
            content |= dict.fromkeys(PATCH_TYPES, content["application/json"])
    for operation in chain.from_iterable(map(dict.values, contract["paths"].values())):
        responses = operation["responses"]
        if not with_tokens:
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
                content[MEDIA_TYPE] = content.pop("application/json")


def _drop_titles(*schemas: dict[str, Any]) -> None:
    """Take away what pydantic makes of the names, which are there anyway."""
    for schema in schemas:
        schema.pop("title", None)
