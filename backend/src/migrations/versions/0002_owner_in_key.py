"""The owner becomes part of the key, descriptions become text, and times have a time zone."""

import sqlalchemy as sa
from alembic import op

revision = "0002_owner_in_key"
down_revision = "0001_earlier_table"


def upgrade() -> None:
    key = sa.inspect(op.get_bind()).get_pk_constraint("tasks")
    op.drop_constraint(str(key["name"]), "tasks")
    op.drop_index("ix_tasks_user_id")
    op.create_primary_key("tasks_pkey", "tasks", ["user_id", "id"])
    # One statement, so that the table is rewritten once.
    op.execute(
        """
        ALTER TABLE tasks
            ALTER description TYPE text,
            ALTER created_at TYPE timestamptz USING created_at AT TIME ZONE 'UTC',
            ALTER updated_at TYPE timestamptz USING updated_at AT TIME ZONE 'UTC'
        """
    )
