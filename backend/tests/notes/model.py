"""The `notes` table."""

from datetime import datetime
from uuid import UUID

from sqlmodel import Field, Index, PrimaryKeyConstraint, Text

from tests.notes import Base


class Note(Base, table=True):
    __tablename__ = "notes"
    __table_args__ = (
        PrimaryKeyConstraint("user_id", "id"),
        Index("notes_in_order", "user_id", "created_at", "id"),
    )

    id: UUID
    user_id: str = Field(max_length=255)
    text: str = Field(sa_type=Text)
    colour: str | None = Field(max_length=20)
    created_at: datetime
    updated_at: datetime
