"""The `idempotency_keys` table."""

from datetime import datetime
from uuid import UUID

from sqlmodel import JSON, Field, Index, PrimaryKeyConstraint, SQLModel


class IdempotencyKey(SQLModel, table=True):
    """A user's idempotency key, and the task that it created or the answer to its batch."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (
        PrimaryKeyConstraint("user_id", "key"),
        Index("idempotency_keys_by_age", "user_id", "created_at"),
    )

    user_id: str = Field(max_length=255)
    key: str = Field(max_length=255)
    fingerprint: str = Field(max_length=64)
    task_id: UUID | None
    created_at: datetime
    answer: list[object] | None = Field(sa_type=JSON)
