"""What clients ask of the feed of changes, and what they get.

A position says where a client is in a feed. Its text is opaque to clients, and no other database
accepts it.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, WithJsonSchema
from pydantic_core import PydanticCustomError, to_json

from src.schemas.fields import EXAMPLE_ID, WholeNumber
from src.schemas.task import TaskPublic

_ZERO = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Position:
    """The number of a change and its time, in microseconds since 1970.

    A restored database gives the same numbers again, but at other times. Before the first change,
    the number is 0 and the time is the database's `feed_epoch`.
    """

    seq: int
    at: int

    @property
    def time(self) -> datetime:
        return _ZERO + timedelta(microseconds=self.at)


MAX_SEQ = 2**63 - 1
"""The greatest number that PostgreSQL's `bigint` takes."""

_LAST = (datetime.max.replace(tzinfo=UTC) - _ZERO) // timedelta(microseconds=1)
_READ = TypeAdapter(
    tuple[Annotated[int, Field(ge=0, le=MAX_SEQ)], Annotated[int, Field(ge=0, le=_LAST)]]
)


def position_text(position: Position) -> str:
    return urlsafe_b64encode(to_json((position.seq, position.at))).decode().rstrip("=")


def read_position(text: str) -> Position:
    """Raises ValueError for a text that `position_text` never returns."""
    padded = text.encode("ascii") + b"=" * (-len(text) % 4)
    position = Position(*_READ.validate_json(urlsafe_b64decode(padded)))
    if position_text(position) != text:
        raise ValueError("written in another way")
    return position


MAX_CHANGES = 1000

TOKEN = position_text(Position(42, 1763710200123456))


def _read_token(text: str) -> Position | None:
    """Raises PydanticCustomError. An empty text counts as absent."""
    try:
        return read_position(text) if text else None
    except ValueError:
        raise PydanticCustomError("token", "must be the `next` of an earlier answer") from None


Token = Annotated[
    Position | None,
    BeforeValidator(_read_token),
    WithJsonSchema({"type": "string", "examples": [TOKEN]}),
]


class Since(BaseModel):
    model_config = ConfigDict(frozen=True)

    since: Token = Field(
        default=None,
        description="Only changes after this token, which is the `next` of an earlier answer. "
        "Unset: no changes, and the current token.",
        examples=[TOKEN],
    )
    limit: Annotated[int, WholeNumber(1, MAX_CHANGES, is_text=True)] = Field(
        default=MAX_CHANGES,
        description="How many changes to return at most. If `more` is true, ask again.",
        examples=[100],
    )


class DeletedTask(BaseModel):
    id: UUID
    deleted: Literal[True]


class ChangesPage(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "changes": [{"id": EXAMPLE_ID, "deleted": True}],
                "next": TOKEN,
                "more": False,
            }
        }
    )

    changes: list[TaskPublic | DeletedTask]
    next: str = Field(description="The `since` of the next request.")
    more: bool = Field(description="Whether there are more changes to read now.")
