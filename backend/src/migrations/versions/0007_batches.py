"""A key of a batch keeps its answer, and has no task of its own.

No row is rewritten, and an earlier release goes on writing.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007_batches"
down_revision = "0006_feed"


def upgrade() -> None:
    op.add_column("idempotency_keys", sa.Column("answer", sa.JSON()))
    op.alter_column("idempotency_keys", "task_id", nullable=True)
