"""Users have tokens of their own for scripts; the table has the SHA-256 of each."""

import sqlalchemy as sa
from alembic import op

from src.migrations import colocate
from src.migrations.rights import keep_private

revision = "0009_personal_tokens"
down_revision = "0008_any_writer"


def upgrade() -> None:
    op.create_table(
        "personal_tokens",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.String(255), nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("scope", sa.String(5), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_used_at", sa.DateTime(timezone=True)),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "id"),
    )
    keep_private(op.get_bind(), "personal_tokens")
    colocate(op.get_bind(), "personal_tokens")
