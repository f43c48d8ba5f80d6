"""What clients send of a note and what they get."""

from datetime import datetime
from typing import Annotated, Literal, TypeAlias, get_args
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

from src.schemas.fields import EXAMPLE_ID, Characters
from src.schemas.paging import Listing, kinds_of

Text = Annotated[str, Characters(1, 2000), Field(examples=["Milk is out"])]
Colour: TypeAlias = Literal["blue", "green", "red"]
Sort: TypeAlias = Literal["created_at", "-created_at", "colour", "-colour"]


class NoteCreate(BaseModel):
    model_config = ConfigDict(json_schema_extra={"example": {"text": "Milk is out"}})

    text: Text
    colour: Colour | None = None


class NoteUpdate(TypedDict, total=False):
    """Absent fields stay as they are; `null` clears a field."""

    __pydantic_config__ = ConfigDict(json_schema_extra={"example": {"colour": "red"}})  # type: ignore[misc]  # where pydantic looks for it

    text: Text
    colour: Colour | None


class NotePublic(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": EXAMPLE_ID,
                "user_id": "ada",
                "text": "Milk is out",
                "colour": "red",
                "created_at": "2026-11-21T09:30:00.123456+00:00",
                "updated_at": "2026-11-21T09:30:00.123456+00:00",
            }
        }
    )

    id: UUID
    user_id: str
    text: str
    colour: Colour | None
    created_at: datetime
    updated_at: datetime


class NoteListing(Listing):
    kinds = kinds_of(NotePublic, get_args(Sort))

    sort: Sort = Field(default="created_at", description="The field to order by; - reverses it.")
    colour: Colour | None = Field(None, description="Only of this colour.", examples=["red"])
