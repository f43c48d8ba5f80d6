"""What clients send and what they get."""

import re
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Literal, TypeAlias, get_args
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictStr,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

from src.database.cursor import Cursor, decode, encode, kinds_of

MAX_PAGE = 1000

Sort: TypeAlias = Literal[
    "created_at", "-created_at", "updated_at", "-updated_at", "title", "-title"
]

# What `str.strip` removes: \s matches more or less than that in other languages.
_SPACE = r"\t-\r\u001c-\u0020\u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_INK = rf"[^{_SPACE}\u0000]"

# An example, after a task that does not exist.
CURSOR = encode(
    "-updated_at",
    b'{"id":"019aa3c5-5d3e-7c1f-9d0a-6b1f2c3d4e5f","updated_at":"2026-11-21T09:30:00+00:00"}',
)


def _has_characters(minimum: int, maximum: int) -> Callable[[str], str]:
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
    AfterValidator(_has_characters(1, 255)),
    Field(
        description="The owner of the tasks: any text, in a URL as percent-encoded UTF-8.",
        examples=["ada"],
        json_schema_extra={"minLength": 1, "maxLength": 255, "pattern": "^[^\\u0000]*$"},
    ),
]

Title = Annotated[
    StrictStr,
    AfterValidator(str.strip),
    AfterValidator(_has_characters(1, 500)),
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
    AfterValidator(_has_characters(0, 5000)),
    Field(
        examples=["Two litres, whole"],
        json_schema_extra={"maxLength": 5000, "pattern": "^[^\\u0000]*$"},
    ),
]


class TaskCreate(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={"example": {"title": "Buy milk", "description": "Two litres, whole"}}
    )

    title: Title
    description: Description | None = None


class TaskUpdate(TypedDict, total=False):
    """Only the fields that are sent change; `null` clears a description."""

    __pydantic_config__ = ConfigDict(  # type: ignore[misc]  # where pydantic looks for it
        json_schema_extra={"example": {"title": "Buy oat milk", "completed": True}}
    )

    title: Title
    description: Description | None
    completed: StrictBool


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


def _either(text: str) -> bool:
    if text not in {"true", "false"}:
        raise PydanticCustomError("true_or_false", "must be true or false")
    return text == "true"


def _page_size(text: str) -> int:
    if not re.fullmatch("[0-9]{1,4}", text) or not 1 <= int(text) <= MAX_PAGE:
        raise PydanticCustomError(
            "page_size", "must be a whole number from 1 to {maximum}", {"maximum": MAX_PAGE}
        )
    return int(text)


def _decoded(text: str) -> Cursor:
    try:
        return decode(text, _KINDS)
    except ValueError:
        raise PydanticCustomError("cursor", "must be taken from a Link") from None


class TaskListing(BaseModel):
    """Which tasks to list, and in which order."""

    model_config = ConfigDict(frozen=True)

    completed: Annotated[bool | SkipJsonSchema[None], BeforeValidator(_either)] = Field(
        default=None,
        description="Only tasks that are completed, or only those that are not.",
        examples=[False],
    )
    q: Annotated[str, AfterValidator(_has_characters(0, 500))] = Field(
        default="",
        description="Only tasks with this text in their title or description, in upper or lower "
        "case.",
        examples=["milk"],
        json_schema_extra={"maxLength": 500, "pattern": "^[^\\u0000]*$"},
    )
    sort: Sort = Field(
        default="created_at",
        description="The field to order by; a - before it reverses the order.",
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

    @field_validator("cursor")
    @classmethod
    def _of_this_order(cls, cursor: Cursor | None, info: ValidationInfo) -> Cursor | None:
        if cursor is not None and cursor.sort != info.data.get("sort"):
            raise PydanticCustomError("cursor", "belongs to a list in another order")
        return cursor


class TaskPublic(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": "019aa3c5-5d3e-7c1f-9d0a-6b1f2c3d4e5f",
                "user_id": "ada",
                "title": "Buy milk",
                "description": "Two litres, whole",
                "completed": False,
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
    created_at: datetime
    updated_at: datetime


_KINDS = kinds_of(TaskPublic, get_args(Sort))


class Message(BaseModel):
    message: str
