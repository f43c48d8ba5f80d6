"""A table of notes."""

import sqlalchemy as sa
from alembic import op

from src.migrations import colocate

revision = "0008_notes"
down_revision = "0007_batches"


def upgrade() -> None:
    op.create_table(
        "notes",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.String(255), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("colour", sa.String(20)),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "id"),
    )
    op.create_index("notes_in_order", "notes", ["user_id", "created_at", "id"])
    colocate(op.get_bind(), "notes")
