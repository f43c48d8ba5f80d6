"""`Prefer: handling=strict` (RFC 7240 §4.4): unknown names are refused."""

from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from typing import Annotated, Any

from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.responses import Response

from src.framework.web.preferences import preferences

PREFER = "Prefer"

MOST_UNKNOWN = 20
"""How many unknown names an answer lists."""

MOST_OF_NAME = 100
"""How many characters of an unknown name an answer shows."""

FORBID: dict[str, Any] = {"extra": "forbid", "context": {"extra": "forbid"}}
"""Arguments for validators. A validator that calls another validator passes the context on."""


class Nothing(BaseModel):
    """No names at all."""


class StrictNames:
    """The names that an endpoint reads from a query and a body.

    The endpoint's own validators decide, so names that the validators translate are known, too.
    """

    def __init__(self, dependant: Dependant, body: Any) -> None:  # noqa: ANN401 - FastAPI's ModelField
        self.query: TypeAdapter[Any] = TypeAdapter(Nothing)
        self.single: set[str] = set()
        for field in dependant.query_params:
            model = field.field_info.annotation
            if isinstance(model, type) and issubclass(model, BaseModel):
                self.query = TypeAdapter(model)
            else:
                self.single.add(field.alias)
        self.body: TypeAdapter[Any] | None = None
        if body is not None:
            self.body = TypeAdapter(Annotated[body.field_info.annotation, body.field_info])

    def check(self, query: Iterable[tuple[str, str]], body: object) -> None:
        """Raises RequestValidationError for unknown names, each with the nearest known name."""
        texts = {name: text for name, text in query if name not in self.single}
        errors = [*_unknown("query", self.query, texts)]
        if self.body is not None:
            errors += _unknown("body", self.body, body)
        if errors:
            raise RequestValidationError(errors[:MOST_UNKNOWN])


def is_strict(prefer: str) -> bool:
    return preferences(prefer).get("handling", "").lower() == "strict"


def strictly_handled(response: Response) -> Response:
    """Say that the preference was applied, which an older service would not do (§3)."""
    applied = (b"preference-applied", b"handling=strict")
    response.raw_headers = [*response.raw_headers, applied]
    return response


def _unknown(place: str, adapter: TypeAdapter[Any], sent: object) -> Iterator[dict[str, Any]]:
    try:
        adapter.validator.validate_python(sent, **FORBID)
    except ValidationError as error:
        errors = error.errors(include_url=False, include_input=False)
    else:
        return
    schema = adapter.json_schema()
    found = [each["loc"] for each in errors if each["type"] == "extra_forbidden"]
    for *path, name in found[:MOST_UNKNOWN]:
        text = str(name)[:MOST_OF_NAME]
        known = [each for each in _names_at(schema, path) if each != text]
        near = get_close_matches(text.lower(), known, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]}?" if near else f"; known names are {', '.join(known)}"
        yield {
            "loc": (place, *path, text),
            "msg": f"is unknown{hint if known else ''}",
            "type": "unknown_name",
        }


def _names_at(schema: dict[str, Any], path: Sequence[str | int]) -> list[str]:
    """Return the names that an object at this place may have."""
    definitions = schema.get("$defs", {})
    places = [*_alternatives(schema, definitions)]
    for step in path:
        inner = [
            place["items"] if isinstance(step, int) else place["properties"][step]
            for place in places
            if ("items" in place if isinstance(step, int) else step in place.get("properties", ()))
        ]
        places = [each for place in inner for each in _alternatives(place, definitions)]
    return [*dict.fromkeys(name for place in places for name in place.get("properties", ()))]


def _alternatives(schema: dict[str, Any], definitions: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if "$ref" in schema:
        schema = definitions[schema["$ref"].rpartition("/")[2]]
    yield schema
    for each in schema.get("anyOf", ()):
        yield from _alternatives(each, definitions)
