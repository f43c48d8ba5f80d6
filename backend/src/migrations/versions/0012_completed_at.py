"""A task has the time when it was completed.

The column has no default, so that no row is rewritten and an earlier release goes on writing. The
tasks of before have no time, because nobody knows when they were completed. The trigger sets and
clears the time for writers that do not know the column, such as an earlier release.
"""

import sqlalchemy as sa
from alembic import op

revision = "0012_completed_at"
down_revision = "0011_further"

KEEP_COMPLETED_AT = """
CREATE FUNCTION keep_completed_at() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.completed_at := CASE WHEN NEW.completed THEN greatest(NEW.updated_at, now()) END;
    RETURN NEW;
END $$
"""
ON_CREATE = """
CREATE TRIGGER keep_completed_at_first BEFORE INSERT ON tasks FOR EACH ROW
WHEN (NEW.completed <> (NEW.completed_at IS NOT NULL))
EXECUTE FUNCTION keep_completed_at()
"""
ON_CHANGE = """
CREATE TRIGGER keep_completed_at BEFORE UPDATE OF completed, completed_at ON tasks FOR EACH ROW
WHEN (
    NEW.completed <> (NEW.completed_at IS NOT NULL)
    AND (NEW.completed <> OLD.completed OR NOT NEW.completed)
)
EXECUTE FUNCTION keep_completed_at()
"""


def upgrade() -> None:
    op.add_column("tasks", sa.Column("completed_at", sa.DateTime(timezone=True)))
    for statement in (KEEP_COMPLETED_AT, ON_CREATE, ON_CHANGE):
        op.execute(statement)
