"""The `tasks` table."""

from datetime import datetime
from uuid import UUID

from sqlmodel import Field, PrimaryKeyConstraint, SQLModel, Text


class Task(SQLModel, table=True):
    """A user's task.

    The owner is part of the key: no task can be found without its owner, and the key's index
    serves every statement.
    """

    __tablename__ = "tasks"
    __table_args__ = (PrimaryKeyConstraint("user_id", "id"),)

    id: UUID
    user_id: str = Field(max_length=255)
    title: str = Field(max_length=500)
    description: str | None = Field(sa_type=Text)
    completed: bool
    created_at: datetime
    updated_at: datetime
