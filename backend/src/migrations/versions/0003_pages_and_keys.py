"""An index in the order of lists, and a table of idempotency keys."""

import sqlalchemy as sa
from alembic import op

from src.migrations.rights import keep_private

revision = "0003_pages_and_keys"
down_revision = "0002_owner_in_key"


def upgrade() -> None:
    op.create_index("tasks_in_order", "tasks", ["user_id", "created_at", "id"])
    op.create_table(
        "idempotency_keys",
        sa.Column("user_id", sa.String(255), nullable=False),
        sa.Column("key", sa.String(255), nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("task_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "key"),
    )
    op.create_index("idempotency_keys_by_age", "idempotency_keys", ["created_at"])
    keep_private(op.get_bind(), "idempotency_keys")
