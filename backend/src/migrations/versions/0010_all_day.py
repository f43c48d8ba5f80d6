"""A due date is a day or a moment.

The default is constant, so that no row is rewritten and an earlier release goes on writing. An
earlier release may replace a day by a moment. Then the trigger sets `all_day` to false.
"""

import sqlalchemy as sa
from alembic import op

revision = "0010_all_day"
down_revision = "0009_personal_tokens"

KEEP_DAYS_WHOLE = """
CREATE FUNCTION keep_days_whole() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.all_day := false;
    RETURN NEW;
END $$
"""
ON_CHANGE = """
CREATE TRIGGER keep_days_whole BEFORE UPDATE OF due_date, all_day ON tasks FOR EACH ROW
WHEN (
    NEW.all_day
    AND (NEW.due_date IS NULL OR NEW.due_date <> date_trunc('day', NEW.due_date, 'UTC'))
)
EXECUTE FUNCTION keep_days_whole()
"""


def upgrade() -> None:
    op.add_column(
        "tasks", sa.Column("all_day", sa.Boolean, nullable=False, server_default=sa.false())
    )
    op.execute(KEEP_DAYS_WHOLE)
    op.execute(ON_CHANGE)
