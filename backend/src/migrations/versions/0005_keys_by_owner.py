"""The index finds expired keys by owner: no request deletes another user's keys."""

from alembic import op

revision = "0005_keys_by_owner"
down_revision = "0004_priority_due_date_tags"


def upgrade() -> None:
    op.drop_index("idempotency_keys_by_age", "idempotency_keys")
    op.create_index("idempotency_keys_by_age", "idempotency_keys", ["user_id", "created_at"])
