"""The trigger looks for old changes only if the user's first change is old.

The search for old changes took a twentieth of PostgreSQL's time for a write.
"""

from importlib import import_module

from alembic import op

from src.migrations import run_in_schema

revision = "0013_young_changes"
down_revision = "0012_completed_at"

GUARD = """\
            CONTINUE WHEN now() - interval '30 days' < (
                SELECT at FROM {schema}.changes WHERE user_id = of_user.user_id
                ORDER BY seq LIMIT 1
            );
"""

earlier = import_module("src.migrations.versions.0008_any_writer")
before, delete, after = earlier.LOG_CHANGES.partition("            DELETE FROM")
LOG_CHANGES = before + GUARD + delete + after


def upgrade() -> None:
    run_in_schema(op.get_bind(), LOG_CHANGES)
