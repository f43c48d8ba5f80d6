"""The `personal_tokens` table."""

from datetime import datetime
from uuid import UUID

from sqlmodel import Field, PrimaryKeyConstraint, SQLModel


class PersonalToken(SQLModel, table=True):
    """A user's token for scripts. The table has only the hash of the token's text.

    No answer shows the hash. A user has at most 50 tokens, so the index of the key is enough to
    find a token by its hash.
    """

    __tablename__ = "personal_tokens"
    __table_args__ = (PrimaryKeyConstraint("user_id", "id"),)

    id: UUID
    user_id: str = Field(max_length=255)
    name: str = Field(max_length=100)
    scope: str = Field(max_length=5)
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None
    hash: bytes = Field(sa_column_kwargs={"info": {"hidden": True}})
