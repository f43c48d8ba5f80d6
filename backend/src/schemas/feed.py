"""What clients ask of the feed of changes, and what they get."""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from src.framework.sql.position import Position, decode, encode
from src.schemas.listing import whole_number
from src.schemas.task import TaskPublic

MAX_CHANGES = 1000

TOKEN = encode(Position(42, 1763710200123456))


def read_token(text: str) -> Position | None:
    """Raises PydanticCustomError. An empty text counts as absent."""
    try:
        return decode(text) if text else None
    except ValueError:
        raise PydanticCustomError("token", "must be a token of this feed") from None


Token = Annotated[
    Position | None,
    BeforeValidator(read_token),
    WithJsonSchema({"type": "string", "examples": [TOKEN]}),
]


class Since(BaseModel):
    model_config = ConfigDict(frozen=True)

    since: Token = Field(
        default=None,
        description="Only changes after this token, the `next` of an earlier answer. Unset: no "
        "changes, and the current token.",
        examples=[TOKEN],
    )
    limit: Annotated[
        int,
        BeforeValidator(whole_number(1, MAX_CHANGES)),
    ] = Field(
        default=MAX_CHANGES,
        description="The most changes to return. If `more` is true, ask again.",
        examples=[100],
        json_schema_extra={"minimum": 1, "maximum": MAX_CHANGES},
    )


class DeletedTask(BaseModel):
    id: UUID
    deleted: Literal[True]


class ChangesPage(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "changes": [{"id": "019aa3c5-5d3e-7c1f-9d0a-6b1f2c3d4e5f", "deleted": True}],
                "next": TOKEN,
                "more": False,
            }
        }
    )

    changes: list[TaskPublic | DeletedTask]
    next: str = Field(description="The token to ask with next time.")
    more: bool = Field(description="Whether there are more changes to read now.")
