"""What clients ask of a list, and by which names."""

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import PydanticCustomError

from src.framework.sql.cursor import Cursor, decode, encode, kinds_of
from src.schemas.task import MAX_TAGS, Priority, Tag, TaskPublic, has_characters, instant

MAX_PAGE = 1000
MAX_NUMBER = 2**31 - 1

Sort: TypeAlias = Literal[
    "created_at",
    "-created_at",
    "updated_at",
    "-updated_at",
    "title",
    "-title",
    "priority",
    "-priority",
    "due_date",
    "-due_date",
]

_KINDS = kinds_of(TaskPublic, get_args(Sort))

# An example, after a task that does not exist.
CURSOR = encode(
    "-updated_at",
    b'{"id":"019aa3c5-5d3e-7c1f-9d0a-6b1f2c3d4e5f","updated_at":"2026-11-21T09:30:00+00:00"}',
)


class OtherName(NamedTuple):
    """The name that a parameter has here, and the schema of the other one."""

    name: str
    schema: Mapping[str, object]


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


def _or_empty(example: object, **schema: object) -> dict[str, object]:
    """Describe a parameter that counts as absent when it has no value."""
    return {"anyOf": [schema, {"type": "string", "maxLength": 0}], "examples": [example]}


_TEXT = {"type": "string", "examples": ["milk"], "maxLength": 500, "pattern": "^[^\\u0000]*$"}
_SIZE = _or_empty(20, type="integer", minimum=1, maximum=MAX_PAGE)
_NUMBER = _or_empty(0, type="integer", minimum=0, maximum=MAX_NUMBER)
_DIRECTION = _or_empty("desc", type="string", enum=["asc", "desc"])
_COMPLETION = _or_empty("pending", type="string", enum=[*_STATUS])

_COLUMN = _or_empty("title", type="string", enum=[*get_args(Sort)])

OTHER_NAMES = {
    "order": OtherName("sort", _DIRECTION),
    "page": OtherName("offset", _or_empty(2, type="integer", minimum=1, maximum=MAX_NUMBER)),
    "page_size": OtherName("limit", _SIZE),
    "per_page": OtherName("limit", _SIZE),
    "search": OtherName("q", _TEXT),
    "skip": OtherName("offset", _NUMBER),
    "sort_by": OtherName("sort", _COLUMN),
    "sort_order": OtherName("sort", _DIRECTION),
    "status": OtherName("completed", _COMPLETION),
    "status_filter": OtherName("completed", _COMPLETION),
    "tag": OtherName("tags", {"type": "string", "examples": ["home"]}),
}
"""What clients call our parameters. Two that contradict each other are refused."""

Sent: TypeAlias = dict[str, Any]
"""What a query has: a text for each name, or several."""


_ONCE = OTHER_NAMES.keys() - {"tag"}
_NEVER_EMPTY = {"completed", "cursor", "limit", "sort"}


def _in_our_words(sent: Sent) -> Sent:
    """Translate other names into ours. A parameter without a value is absent, as in forms.

    Raises ValidationError for names that contradict each other, and for words nobody knows.
    """
    given = {
        name: text[-1] if name in _ONCE and isinstance(text, list) else text
        for name, text in sent.items()
        if name in _NEVER_EMPTY or text not in ("", [""])
    }
    ours = {name: text for name, text in given.items() if name not in OTHER_NAMES}
    if "sort" in ours:
        ours["sort"] = _column(ours["sort"])
    directions = {name: given.pop(name) for name in ("order", "sort_order") if name in given}
    page = given.pop("page", None)
    for other in OTHER_NAMES:
        if other in given:
            _add(ours, other, given[other])
    for other, direction in directions.items():
        _turn(ours, other, direction)
    if page is not None:
        _add(ours, "page", _offset(page, ours.get("limit")))
    return {name: text for name, text in ours.items() if text is not _ANY}


def _add(ours: Sent, other: str, text: Any) -> None:  # noqa: ANN401 - a text, or several
    name = OTHER_NAMES[other].name
    if name == "completed":
        text = _meaning(other, text, _STATUS)
    elif name == "sort":
        text = _column(text)
    elif name == "tags":
        ours[name] = [*_several(ours.get(name, [])), *_several(text)]
        return
    if ours.setdefault(name, text) != text:
        raise _wrong(other, f"contradicts {name}")


def _turn(ours: Sent, other: str, direction: str) -> None:
    """Let the list be in this direction."""
    sign = _meaning(other, direction, {"asc": "", "desc": "-"})
    sort = ours.get("sort", "created_at")
    if not sign and sort.startswith("-"):
        raise _wrong(other, "contradicts sort")
    ours["sort"] = sign + sort.removeprefix("-")


def _offset(page: str, limit: str | None) -> str:
    """Return the offset of a page. Without a limit, all tasks are on the first page."""
    try:
        number = whole_number(1, MAX_NUMBER)(page)
    except PydanticCustomError as error:
        raise _wrong("page", error.message()) from None
    size = MAX_NUMBER
    with suppress(PydanticCustomError):  # a wrong limit is refused as such
        size = _page_size(limit) if limit else size
    return str(min((number - 1) * size, MAX_NUMBER))


def _meaning(other: str, text: str, words: Mapping[str, Any]) -> Any:  # noqa: ANN401 - of any words
    if text.lower() not in words:
        raise _wrong(other, f"must be one of {', '.join(words)}")
    return words[text.lower()]


def _wrong(other: str, message: str) -> ValidationError:
    error = PydanticCustomError("other_name", message)
    return ValidationError.from_exception_data(
        "TaskListing", [{"type": error, "loc": (other,), "input": None}]
    )


def _column(sort: str) -> str:
    name = sort.removeprefix("-")
    return sort.removesuffix(name) + _SORTED_BY.get(name, name)


def _several(texts: Any) -> list[str]:  # noqa: ANN401 - a text, or several
    return texts if isinstance(texts, list) else [texts]


def _texts(texts: Any) -> list[str]:  # noqa: ANN401 - a text, or several
    """Read a list that is joined by commas, sent in several parameters, or both.

    PostgreSQL would compare each repeat with each row, so there are none. Raises
    PydanticCustomError for more than a task has.
    """
    parts = ",".join(_several(texts)).split(",")
    distinct = [*dict.fromkeys(part.strip() for part in parts if part.strip())]
    if len(distinct) > MAX_TAGS:
        raise PydanticCustomError(
            "too_many", "must have at most {maximum} different values", {"maximum": MAX_TAGS}
        )
    return distinct


def _ranks(texts: object) -> list[str]:
    ranks = dict.fromkeys(text.lower() for text in _texts(texts))
    return [rank for rank in ranks if rank != "all"]


def _either(text: str) -> bool:
    if text not in {"true", "false"}:
        raise PydanticCustomError("true_or_false", "must be true or false")
    return text == "true"


def whole_number(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch("[0-9]{1,10}", text) or not least <= int(text) <= most:
            raise PydanticCustomError(
                "whole_number",
                "must be a whole number from {least} to {most}",
                {"least": least, "most": most},
            )
        return int(text)

    return parse


_page_size = whole_number(1, MAX_PAGE)


def _first_moment(text: str) -> datetime:
    # The + of an offset arrives as a space from whoever does not encode it.
    return instant(re.sub(" (?=[0-9]{2}:[0-9]{2}$)", "+", text))


def _last_moment(text: str) -> datetime:
    time = _first_moment(text)
    is_day = len(text) == len("2026-12-24")
    return time + timedelta(days=1, microseconds=-1) if is_day else time


def _decoded(text: str) -> Cursor:
    try:
        return decode(text, _KINDS)
    except ValueError:
        raise PydanticCustomError("cursor", "must be taken from a Link") from None


_DAY_OR_TIME = WithJsonSchema(
    {
        "anyOf": [
            {"type": "string", "format": "date-time"},
            {"type": "string", "format": "date"},
            {"type": "string", "maxLength": 0},
        ],
        "examples": ["2026-12-24"],
    }
)


class TaskListing(BaseModel):
    """Which tasks to list, and in which order."""

    model_config = ConfigDict(frozen=True)

    completed: Annotated[bool | SkipJsonSchema[None], BeforeValidator(_either)] = Field(
        default=None,
        description="Only tasks that are completed, or only those that are not.",
        examples=[False],
    )
    q: Annotated[str, AfterValidator(has_characters(0, 500))] = Field(
        default="",
        description="Only tasks with this text in their title or description, in upper or lower "
        "case.",
        examples=["milk"],
        json_schema_extra={"maxLength": 500, "pattern": "^[^\\u0000]*$"},
    )
    priority: Annotated[
        tuple[Priority, ...],
        BeforeValidator(_ranks),
        WithJsonSchema(
            {
                "type": "array",
                "items": {"enum": [*get_args(Priority), "all", ""]},
                "maxItems": MAX_TAGS,
                "examples": [["high", "urgent"]],
            }
        ),
    ] = Field(
        default=(),
        description="Only tasks with one of these priorities: joined by commas, or repeated.",
        examples=[["high", "urgent"]],
    )
    tags: Annotated[
        tuple[Tag, ...],
        BeforeValidator(_texts),
        WithJsonSchema(
            {
                "type": "array",
                "items": {"type": "string", "pattern": "^[^\\u0000]{0,50}$"},
                "maxItems": MAX_TAGS,
                "examples": [["home"]],
            }
        ),
    ] = Field(
        default=(),
        description="Only tasks with all of these tags: joined by commas, or repeated.",
        examples=[["home"]],
    )
    due_date_from: Annotated[
        datetime | SkipJsonSchema[None], BeforeValidator(_first_moment), _DAY_OR_TIME
    ] = Field(
        default=None,
        description="Only tasks that are due then or later.",
        examples=["2026-12-01"],
    )
    due_date_to: Annotated[
        datetime | SkipJsonSchema[None], BeforeValidator(_last_moment), _DAY_OR_TIME
    ] = Field(
        default=None,
        description="Only tasks that are due then or earlier; a day includes all of it.",
        examples=["2026-12-31"],
    )
    overdue: Annotated[
        bool | None, BeforeValidator(_either), WithJsonSchema(_or_empty(True, type="boolean"))
    ] = Field(
        default=None,
        description="Only tasks that were due before now and are not completed, or only the "
        "others.",
        examples=[True],
    )
    sort: Sort = Field(
        default="created_at",
        description="The field to order by; a - before it reverses the order. Priorities go from "
        "low to urgent; tasks without a due date always come last.",
        examples=["-updated_at"],
    )
    limit: Annotated[int | SkipJsonSchema[None], BeforeValidator(_page_size)] = Field(
        default=None,
        description="The most tasks to return; Link has the next page, if any. Unset: all.",
        examples=[100],
        json_schema_extra={"minimum": 1, "maximum": MAX_PAGE},
    )
    cursor: Annotated[
        Cursor | None,
        BeforeValidator(_decoded),
        WithJsonSchema({"type": "string", "examples": [CURSOR]}),
    ] = Field(
        default=None, description="Only tasks after it; take it from Link.", examples=[CURSOR]
    )
    offset: Annotated[
        int | None, BeforeValidator(whole_number(0, MAX_NUMBER)), WithJsonSchema(_NUMBER)
    ] = Field(
        default=None,
        description="How many tasks to skip first. A cursor is faster, and stays right while tasks "
        "come and go.",
        examples=[0],
    )

    @model_validator(mode="before")
    @classmethod
    def _in_our_words(cls, sent: object) -> object:
        return _in_our_words(sent) if isinstance(sent, dict) and sent else sent

    @field_validator("cursor")
    @classmethod
    def _of_this_order(cls, cursor: Cursor | None, info: ValidationInfo) -> Cursor | None:
        if cursor is not None and cursor.sort != info.data.get("sort"):
            raise PydanticCustomError("cursor", "belongs to a list in another order")
        return cursor

    @field_validator("offset")
    @classmethod
    def _without_cursor(cls, offset: int | None, info: ValidationInfo) -> int | None:
        if offset and info.data.get("cursor") is not None:
            raise PydanticCustomError("cursor", "contradicts cursor")
        return offset
