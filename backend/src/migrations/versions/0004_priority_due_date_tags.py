"""Tasks get a priority, a due date and tags.

Each has a constant default, so that no row is rewritten and an earlier release goes on writing.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ENUM

revision = "0004_priority_due_date_tags"
down_revision = "0003_pages_and_keys"


def upgrade() -> None:
    priority = ENUM("low", "medium", "high", "urgent", name="task_priority")
    priority.create(op.get_bind())
    op.add_column("tasks", sa.Column("priority", priority, nullable=False, server_default="medium"))
    op.add_column("tasks", sa.Column("due_date", sa.DateTime(timezone=True)))
    op.add_column(
        "tasks", sa.Column("tags", sa.ARRAY(sa.Text), nullable=False, server_default="{}")
    )
