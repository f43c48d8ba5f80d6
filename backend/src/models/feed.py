"""The tables of the feed. A trigger of `tasks` writes them: see migration 0006."""

from datetime import datetime
from uuid import UUID

from sqlmodel import BigInteger, Field, PrimaryKeyConstraint, SQLModel, func


class Feed(SQLModel, table=True):
    """The number of a user's last change.

    Whoever changes a task holds this row until the commit, so that a user's changes are numbered in
    the order in which they become visible.
    """

    __tablename__ = "feeds"

    user_id: str = Field(max_length=255, primary_key=True)
    seq: int = Field(sa_type=BigInteger)


class Change(SQLModel, table=True):
    """A change of a user's task. The numbers have no gaps. The oldest changes are deleted."""

    __tablename__ = "changes"
    __table_args__ = (PrimaryKeyConstraint("user_id", "seq"),)

    user_id: str = Field(max_length=255)
    seq: int = Field(sa_type=BigInteger)
    task_id: UUID
    at: datetime = Field(sa_column_kwargs={"server_default": func.clock_timestamp()})
