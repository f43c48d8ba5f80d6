"""Creates the earlier version's table, unless that version has created the table."""

import sqlalchemy as sa
from alembic import op

from src.migrations.rights import keep_private

revision = "0001_earlier_table"
down_revision = None


def upgrade() -> None:
    connection = op.get_bind()
    schema = connection.exec_driver_sql("SELECT current_schema()").scalar_one()
    is_new = not sa.inspect(connection).has_table("tasks", schema=schema)
    op.create_table(
        "tasks",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("user_id", sa.String(255), nullable=False),
        sa.Column("title", sa.String(500), nullable=False),
        sa.Column("description", sa.String),
        sa.Column("completed", sa.Boolean, nullable=False),
        sa.Column("created_at", sa.DateTime, nullable=False),
        sa.Column("updated_at", sa.DateTime, nullable=False),
        if_not_exists=True,
    )
    # If another table has an index of this name, it is another program's. PostgreSQL refuses ours.
    indexes = sa.inspect(connection).get_indexes("tasks", schema=schema)
    if "ix_tasks_user_id" not in {index["name"] for index in indexes}:
        op.create_index("ix_tasks_user_id", "tasks", ["user_id"])
    for table in ["task_api_version", *(["tasks"] if is_new else [])]:
        keep_private(connection, table)
