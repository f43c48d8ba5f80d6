"""What clients send and what they get."""

import re
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, TypeAlias, get_args
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    StrictBool,
    StrictStr,
    ValidationError,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

MAX_TAGS = 20

Priority: TypeAlias = Literal["low", "medium", "high", "urgent"]

# What `str.strip` removes: \s matches more or less than that in other languages.
_SPACE = r"\t-\r\u001c-\u0020\u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_INK = rf"[^{_SPACE}\u0000]"
_WORD = rf"[^{_SPACE}\u0000,]"

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")

# RFC 3339 §5.6; an offset and seconds may be missing, as what a form's fields give has neither.
_TIME = re.compile(
    rf"{_DAY.pattern}[Tt ][0-9]{{2}}:[0-9]{{2}}"
    r"(:[0-9]{2}(\.[0-9]+)?)?([Zz]|[+-][0-9]{2}:[0-9]{2})?"
)


def has_characters(minimum: int, maximum: int) -> Callable[[str], str]:
    """Accept text with this many characters (not bytes) that PostgreSQL can store."""

    def check(text: str) -> str:
        if not minimum <= len(text) <= maximum:
            raise PydanticCustomError(
                "string_length",
                "must have {minimum} to {maximum} characters",
                {"minimum": minimum, "maximum": maximum},
            )
        if "\0" in text:
            raise PydanticCustomError("string_nul", "must not contain the NUL character")
        return text

    return check


UserId = Annotated[
    str,
    AfterValidator(has_characters(1, 255)),
    Field(
        description="The owner of the tasks: any text, in a URL as percent-encoded UTF-8.",
        examples=["ada"],
        json_schema_extra={"minLength": 1, "maxLength": 255, "pattern": "^[^\\u0000]*$"},
    ),
]

Title = Annotated[
    StrictStr,
    AfterValidator(str.strip),
    AfterValidator(has_characters(1, 500)),
    Field(
        description="1 to 500 characters; white space around it is removed.",
        examples=["Buy milk"],
        json_schema_extra={
            "pattern": rf"^[{_SPACE}]*{_INK}([^\u0000]{{0,498}}{_INK})?[{_SPACE}]*$",
        },
    ),
]

Description = Annotated[
    StrictStr,
    AfterValidator(has_characters(0, 5000)),
    Field(
        examples=["Two litres, whole"],
        json_schema_extra={"maxLength": 5000, "pattern": "^[^\\u0000]*$"},
    ),
]


def _without_default(schema: dict[str, Any]) -> None:
    """Generated clients would require a field with a default."""
    schema.pop("default", None)


def _or_null(schema: dict[str, Any]) -> None:
    array = {"type": schema.pop("type"), "items": schema.pop("items"), "maxItems": MAX_TAGS}
    schema["anyOf"] = [array, {"type": "null"}]


def _rank(value: object) -> object:
    if value is None or value == "":
        return "medium"
    return value.strip().lower() if isinstance(value, str) else value


def instant(text: str) -> datetime:
    """Read a time, in UTC if it has no offset; of a day, its first moment in UTC.

    Raises PydanticCustomError for anything else, and for what neither Python nor PostgreSQL holds.
    """
    with suppress(ValueError, OverflowError):
        if _DAY.fullmatch(text) or _TIME.fullmatch(text):
            time = datetime.fromisoformat(text.upper())
            return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
    raise PydanticCustomError(
        "time", "must be a day such as 2026-12-24 or a time such as 2026-12-24T09:30:00+01:00"
    )


_ENDLESS = {time.replace(tzinfo=UTC) for time in (datetime.min, datetime.max)}  # noqa: DTZ901 - of UTC


def _due(value: object) -> object:
    if value is None or value == "":
        return None
    time = instant(value if isinstance(value, str) else "")
    # asyncpg takes the first and the last moment that Python has for -infinity and infinity.
    return instant("") if time in _ENDLESS else time


def _few(tags: object) -> object:
    """Stop before each of very many is read."""
    if isinstance(tags, list) and len(tags) > MAX_TAGS:
        raise PydanticCustomError("tags", "must have at most {maximum} tags", {"maximum": MAX_TAGS})
    return [] if tags is None else tags


def _distinct(tags: list[str]) -> list[str]:
    return [*dict.fromkeys(tags)]


def _without_comma(tag: str) -> str:
    if "," in tag:
        raise PydanticCustomError("tag_comma", "must not contain a comma")
    return tag


SentPriority = Annotated[
    Priority,
    BeforeValidator(_rank),
    Field(description="In any case; `null` and an empty text mean `medium`.", examples=["high"]),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "enum": [*get_args(Priority)]},
                {"type": "string", "maxLength": 0},
                {"type": "null"},
            ],
        }
    ),
]

SentDueDate = Annotated[
    datetime | None,
    PlainValidator(_due),
    Field(
        description="A time (RFC 3339; in UTC if it has no offset) or a day, which is its first "
        "moment in UTC. `null` and an empty text clear it. Answers are in UTC: their first ten "
        "characters are the day that was sent.",
        examples=["2026-12-24"],
    ),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "format": "date-time"},
                {"type": "string", "format": "date"},
                {"type": "string", "maxLength": 0},
                {"type": "null"},
            ],
        }
    ),
]

Tag = Annotated[
    StrictStr,
    AfterValidator(str.strip),
    AfterValidator(_without_comma),
    AfterValidator(has_characters(1, 50)),
    Field(
        json_schema_extra={
            "pattern": rf"^[{_SPACE}]*{_WORD}([^\u0000,]{{0,48}}{_WORD})?[{_SPACE}]*$",
        },
    ),
]

SentTags = Annotated[
    list[Tag],
    BeforeValidator(_few),
    AfterValidator(_distinct),
    Field(
        description="Up to 20 of 1 to 50 characters without a comma, kept in this order, without "
        "repeats and the white space around them. `null` means none.",
        examples=[["home", "errands"]],
        json_schema_extra=_or_null,
    ),
]


class TaskCreate(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "title": "Buy milk",
                "description": "Two litres, whole",
                "priority": "high",
                "due_date": "2026-12-24",
                "tags": ["home", "errands"],
            }
        }
    )

    title: Title
    description: Description | None = None
    completed: StrictBool = Field(default=False, json_schema_extra=_without_default)
    priority: SentPriority = Field(default="medium", json_schema_extra=_without_default)
    due_date: SentDueDate = None
    tags: SentTags = Field(default_factory=list)


class TaskUpdate(TypedDict, total=False):
    """Only the fields that are sent change; `null` clears or resets."""

    __pydantic_config__ = ConfigDict(  # type: ignore[misc]  # where pydantic looks for it
        json_schema_extra={"example": {"title": "Buy oat milk", "completed": True}}
    )

    title: Title
    description: Description | None
    completed: StrictBool
    priority: SentPriority
    due_date: SentDueDate
    tags: SentTags


class Completion(TypedDict):
    """Sets `completed` instead of toggling it, so that the request can be repeated."""

    completed: StrictBool


def _none_for_empty(body: object) -> object:
    """Without `completed`, refuse other members: the client meant to set something."""
    if not isinstance(body, dict) or "completed" in body:
        return body
    if not body:
        return None
    missing = PydanticCustomError(
        "missing", 'is missing; send {"completed": true}, or no body to toggle'
    )
    raise ValidationError.from_exception_data(
        "Completion", [{"type": missing, "loc": ("completed",), "input": body}]
    )


def _or_toggle(schema: dict[str, Any]) -> None:
    schema["anyOf"].append({"$ref": "#/components/schemas/Toggle"})
    schema["example"] = {"completed": True}


CompletionOrNone = Annotated[
    Completion | None, BeforeValidator(_none_for_empty), Field(json_schema_extra=_or_toggle)
]
"""An empty object counts as None."""


class TaskPublic(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": "019aa3c5-5d3e-7c1f-9d0a-6b1f2c3d4e5f",
                "user_id": "ada",
                "title": "Buy milk",
                "description": "Two litres, whole",
                "completed": False,
                "priority": "high",
                "due_date": "2026-12-24T00:00:00+00:00",
                "tags": ["home", "errands"],
                "created_at": "2026-11-21T09:30:00.123456+00:00",
                "updated_at": "2026-11-21T09:30:00.123456+00:00",
            }
        }
    )

    id: UUID
    user_id: str
    title: str
    description: str | None
    completed: bool
    priority: Priority
    due_date: datetime | None
    tags: list[str]
    created_at: datetime
    updated_at: datetime


class Message(BaseModel):
    message: str
