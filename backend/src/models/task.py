"""The `tasks` table."""

from datetime import datetime
from uuid import UUID

from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlmodel import Enum, Field, Index, PrimaryKeyConstraint, SQLModel, Text

PRIORITIES = ("low", "medium", "high", "urgent")
"""From the lowest rank to the highest. PostgreSQL sorts by rank."""


class Task(SQLModel, table=True):
    """A user's task.

    The owner is part of the key: no task can be found without its owner. Both indexes begin with
    the owner. `tasks_in_order` has the default order of a list, so that PostgreSQL reads a page
    without sorting.
    """

    __tablename__ = "tasks"
    __table_args__ = (
        PrimaryKeyConstraint("user_id", "id"),
        Index("tasks_in_order", "user_id", "created_at", "id"),
    )

    id: UUID
    user_id: str = Field(max_length=255)
    title: str = Field(max_length=500)
    description: str | None = Field(sa_type=Text)
    completed: bool
    priority: str = Field(
        sa_type=Enum(*PRIORITIES, name="task_priority"),
        sa_column_kwargs={"server_default": "medium"},
    )
    tags: list[str] = Field(sa_type=ARRAY(Text), sa_column_kwargs={"server_default": "{}"})
    further: dict[str, object] | None = Field(sa_type=JSONB)
    all_day: bool = Field(
        sa_column_kwargs={"server_default": "false", "info": {"goes_with": "due_date"}}
    )
    completed_at: datetime | None = Field(sa_column_kwargs={"info": {"since": "completed"}})
    due_date: datetime | None
    created_at: datetime
    updated_at: datetime
