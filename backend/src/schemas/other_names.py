"""What clients call a list's parameters, beside the names that these have here."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple, TypeAlias

from pydantic import ValidationError
from pydantic_core import PydanticCustomError

from src.schemas.fields import WholeNumber

MAX_PAGE = 1000
MAX_NUMBER = 2**31 - 1

SIZE = WholeNumber(1, MAX_PAGE, is_text=True)
NUMBER = WholeNumber(0, MAX_NUMBER, is_text=True)


class OtherName(NamedTuple):
    """The name that a parameter has here, and the schema of the other one."""

    name: str
    schema: Mapping[str, object]


OtherNames: TypeAlias = Mapping[str, OtherName]
"""Two that contradict each other are refused."""

Query: TypeAlias = dict[str, Any]
"""What a query has: a text for each name, or several."""

_ANY = object()

_STATUS = {
    "all": _ANY,
    "active": "false",
    "incomplete": "false",
    "open": "false",
    "pending": "false",
    "todo": "false",
    "complete": "true",
    "completed": "true",
    "done": "true",
}
_SORTED_BY = {"created": "created_at", "due": "due_date", "updated": "updated_at"}


def or_empty(example: object, **schema: object) -> dict[str, object]:
    """Describe a parameter that counts as absent when it has no value."""
    return {"anyOf": [schema, {"type": "string", "maxLength": 0}], "examples": [example]}


_TEXT = {"type": "string", "examples": ["milk"], "maxLength": 500, "pattern": "^[^\\u0000]*$"}
_SIZE = or_empty(20, type="integer", minimum=1, maximum=MAX_PAGE)
NUMBER_OR_EMPTY = or_empty(0, type="integer", minimum=0, maximum=MAX_NUMBER)
_PAGE = or_empty(2, type="integer", minimum=1, maximum=MAX_NUMBER)
_DIRECTION = or_empty("desc", type="string", enum=["asc", "desc"])
_COMPLETION = or_empty("pending", type="string", enum=[*_STATUS])


def names_of_pages(sorts: Iterable[str]) -> OtherNames:
    """Return the other names for what every list has: its pages and its order."""
    columns = [*sorts]
    return {
        "order": OtherName("sort", _DIRECTION),
        "page": OtherName("offset", _PAGE),
        "page_size": OtherName("limit", _SIZE),
        "per_page": OtherName("limit", _SIZE),
        "skip": OtherName("offset", NUMBER_OR_EMPTY),
        "sort_by": OtherName("sort", or_empty(columns[-1], type="string", enum=columns)),
        "sort_order": OtherName("sort", _DIRECTION),
    }


NAMES_OF_FILTERS: OtherNames = {
    "search": OtherName("q", _TEXT),
    "status": OtherName("completed", _COMPLETION),
    "status_filter": OtherName("completed", _COMPLETION),
    "tag": OtherName("tags", {"type": "string", "examples": ["home"]}),
}
"""Those for the filters of a list of tasks."""

_REPEATABLE = {"tag"}
_NEVER_EMPTY = {"completed", "cursor", "limit", "sort"}


def described(names: OtherNames) -> list[dict[str, object]]:
    """Describe these parameters for the contract."""
    return [
        {
            "name": name,
            "in": "query",
            "deprecated": True,
            "description": f"Means `{other.name}`.",
            "schema": other.schema,
        }
        for name, other in names.items()
    ]


def in_our_words(query: Query, names: OtherNames) -> Query:
    """Translate other names into ours. A parameter without a value is absent, as in forms.

    Raises ValidationError for names that contradict each other, and for words nobody knows.
    """
    once = names.keys() - _REPEATABLE
    sent = {
        name: text[-1] if name in once and isinstance(text, list) else text
        for name, text in query.items()
        if name in _NEVER_EMPTY or text not in ("", [""])
    }
    ours = {name: text for name, text in sent.items() if name not in names}
    if "sort" in ours:
        ours["sort"] = _column(ours["sort"])
    sent = {name: text for name, text in sent.items() if name in names}
    directions = {name: sent.pop(name) for name in ("order", "sort_order") if name in sent}
    page = sent.pop("page", None)
    for other in names:
        if other in sent:
            _add(ours, other, names[other].name, sent[other])
    for other, direction in directions.items():
        _turn(ours, other, direction)
    if page is not None:
        _add(ours, "page", "offset", _offset(page, ours.get("limit")))
    return {name: text for name, text in ours.items() if text is not _ANY}


def _add(ours: Query, other: str, name: str, text: Any) -> None:  # noqa: ANN401 - a text, or several
    if name == "completed":
        text = _meaning(other, text, _STATUS)
    elif name == "sort":
        text = _column(text)
    elif name == "tags":
        ours[name] = [*several(ours.get(name, [])), *several(text)]
        return
    if ours.setdefault(name, text) != text:
        raise _wrong(other, f"contradicts {name}")


def _turn(ours: Query, other: str, direction: str) -> None:
    """Let the list be in this direction."""
    sign = _meaning(other, direction, {"asc": "", "desc": "-"})
    sort = ours.get("sort", "created_at")
    if not sign and sort.startswith("-"):
        raise _wrong(other, "contradicts sort")
    ours["sort"] = sign + sort.removeprefix("-")


def _offset(page: str, limit: str | None) -> str:
    """Return the offset of a page. Without a limit, all rows are on the first page."""
    try:
        number = WholeNumber(1, MAX_NUMBER, is_text=True).read(page)
    except PydanticCustomError as error:
        raise _wrong("page", error.message()) from None
    size = MAX_NUMBER
    with suppress(PydanticCustomError):  # a wrong limit is refused as such
        size = SIZE.read(limit) if limit else size
    return str(min((number - 1) * size, MAX_NUMBER))


def _meaning(other: str, text: str, words: Mapping[str, Any]) -> Any:  # noqa: ANN401 - of any words
    if text.lower() not in words:
        raise _wrong(other, f"must be one of {', '.join(words)}")
    return words[text.lower()]


def _wrong(other: str, message: str) -> ValidationError:
    error = PydanticCustomError("other_name", message)
    return ValidationError.from_exception_data(
        "Listing", [{"type": error, "loc": (other,), "input": None}]
    )


def _column(sort: str) -> str:
    name = sort.removeprefix("-")
    return sort.removesuffix(name) + _SORTED_BY.get(name, name)


def several(texts: Any) -> list[str]:  # noqa: ANN401 - a text, or several
    return texts if isinstance(texts, list) else [texts]
