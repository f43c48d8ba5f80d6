"""A task has the time when it was completed.

The column has no default, so PostgreSQL rewrites no row, and an earlier release can go on writing.
A task that was completed before this migration has no time, because nobody knows that time. The
triggers have no WHEN: PostgreSQL would parse the condition again for each statement, and that
takes longer than a call of the function.
"""

import sqlalchemy as sa
from alembic import op

revision = "0012_completed_at"
down_revision = "0011_further"

KEEP_COMPLETED_AT = """
CREATE FUNCTION keep_completed_at() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.completed <> OLD.completed AND NEW.completed <> (NEW.completed_at IS NOT NULL) THEN
        NEW.completed_at := CASE WHEN NEW.completed THEN
            greatest(NEW.updated_at, CASE NEW.updated_at WHEN OLD.updated_at THEN now() END)
        END;
    END IF;
    RETURN NEW;
END $$
"""
ON_COMPLETION = """
CREATE TRIGGER keep_completed_at BEFORE UPDATE OF completed ON tasks FOR EACH ROW
EXECUTE FUNCTION keep_completed_at()
"""

KEEP_DAYS_WHOLE = """
CREATE OR REPLACE FUNCTION keep_days_whole() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.due_date = date_trunc('day', NEW.due_date, 'UTC') THEN
        RETURN NEW;
    END IF;
    NEW.all_day := false;
    RETURN NEW;
END $$
"""
ON_DUE_DATE = """
CREATE TRIGGER keep_days_whole BEFORE UPDATE OF due_date, all_day ON tasks FOR EACH ROW
EXECUTE FUNCTION keep_days_whole()
"""


def upgrade() -> None:
    op.add_column("tasks", sa.Column("completed_at", sa.DateTime(timezone=True)))
    for statement in (KEEP_COMPLETED_AT, ON_COMPLETION, KEEP_DAYS_WHOLE):
        op.execute(statement)
    op.execute("DROP TRIGGER keep_days_whole ON tasks")
    op.execute(ON_DUE_DATE)
