"""Every change of a task is logged, by the database itself, so that no writer can leave it out."""

import sqlalchemy as sa
from alembic import op

from src.migrations import colocate
from src.migrations.rights import keep_private

revision = "0006_feed"
down_revision = "0005_keys_by_owner"

# Users are always counted in the same order, so that statements over several users cannot deadlock.
# Citus cannot join a transition table with another table. So with Citus the function loops, which
# takes twice as long. One statement in 50 deletes up to 100 old changes of its users, the oldest
# first: while the change that a token names is there, every later change is there, too.
LOG_CHANGES = """
CREATE FUNCTION log_changes() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    of_user record;
BEGIN
    IF current_setting('citus.shard_count', true) IS NULL THEN
        WITH counted AS (
            SELECT user_id, count(*) AS number FROM changed GROUP BY user_id
        ), feed AS (
            INSERT INTO feeds AS feed (user_id, seq)
            SELECT user_id, number FROM counted ORDER BY user_id
            ON CONFLICT (user_id) DO UPDATE SET seq = feed.seq + excluded.seq
            RETURNING user_id, seq
        )
        INSERT INTO changes (user_id, seq, task_id)
        SELECT user_id, feed.seq + 1 - row_number() OVER (PARTITION BY user_id), id
        FROM changed JOIN feed USING (user_id);
    ELSE
        FOR of_user IN
            SELECT user_id, count(*) AS number, array_agg(id) AS ids
            FROM changed GROUP BY user_id ORDER BY user_id
        LOOP
            WITH feed AS (
                INSERT INTO feeds AS feed (user_id, seq) VALUES (of_user.user_id, of_user.number)
                ON CONFLICT (user_id) DO UPDATE SET seq = feed.seq + of_user.number
                RETURNING seq
            )
            INSERT INTO changes (user_id, seq, task_id)
            SELECT of_user.user_id, feed.seq - of_user.number + place, id
            FROM feed, unnest(of_user.ids) WITH ORDINALITY AS task (id, place);
        END LOOP;
    END IF;
    IF random() < 0.02 THEN
        FOR of_user IN SELECT DISTINCT user_id FROM changed LOOP
            DELETE FROM changes WHERE user_id = of_user.user_id AND seq < (
                SELECT coalesce(min(seq) FILTER (WHERE at > now() - interval '30 days'), max(seq))
                FROM (
                    SELECT seq, at FROM changes WHERE user_id = of_user.user_id
                    ORDER BY seq LIMIT 101
                ) AS oldest
            );
        END LOOP;
    END IF;
    RETURN NULL;
END $$
"""

ON_INSERT = """
CREATE TRIGGER log_inserts AFTER INSERT ON tasks
REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION log_changes()
"""
ON_UPDATE = """
CREATE TRIGGER log_updates AFTER UPDATE ON tasks
REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION log_changes()
"""
ON_DELETE = """
CREATE TRIGGER log_deletes AFTER DELETE ON tasks
REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION log_changes()
"""

# The service never changes a task's key, and never truncates `tasks`, but someone may by hand.
# Where Citus spreads `tasks`, the trigger's table is a shard of `tasks`.
LOG_LEAVING = """
CREATE FUNCTION log_leaving() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    last bigint;
BEGIN
    INSERT INTO feeds AS feed (user_id, seq) VALUES (OLD.user_id, 1)
    ON CONFLICT (user_id) DO UPDATE SET seq = feed.seq + 1
    RETURNING seq INTO last;
    INSERT INTO changes (user_id, seq, task_id) VALUES (OLD.user_id, last, OLD.id);
    RETURN NULL;
END $$
"""
ON_LEAVING = """
CREATE TRIGGER log_leaving AFTER UPDATE OF user_id, id ON tasks FOR EACH ROW
WHEN (OLD.user_id <> NEW.user_id OR OLD.id <> NEW.id) EXECUTE FUNCTION log_leaving()
"""
DELETE_FIRST = """
CREATE FUNCTION delete_first() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('DELETE FROM %s', TG_RELID::regclass);
    RETURN NULL;
END $$
"""
ON_TRUNCATE = """
CREATE TRIGGER delete_first BEFORE TRUNCATE ON tasks
FOR EACH STATEMENT EXECUTE FUNCTION delete_first()
"""

# A random constant of this database. Copies of the database have it, too. The token of a client
# that has seen no change has this number, so that no other database knows the token.
FEED_EPOCH = """
DO $do$ BEGIN
    EXECUTE format(
        'CREATE FUNCTION feed_epoch() RETURNS bigint IMMUTABLE LANGUAGE sql'
        ' AS $$ SELECT %s::bigint $$',
        floor(random() * 1e15)::bigint
    );
END $do$
"""


def upgrade() -> None:
    op.create_table(
        "feeds",
        sa.Column("user_id", sa.String(255), primary_key=True),
        sa.Column("seq", sa.BigInteger, nullable=False),
        postgresql_with={"fillfactor": 50},
    )
    op.create_table(
        "changes",
        sa.Column("user_id", sa.String(255), nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("task_id", sa.Uuid, nullable=False),
        sa.Column(
            "at",
            sa.DateTime(timezone=True),
            nullable=False,
            server_default=sa.func.clock_timestamp(),
        ),
        sa.PrimaryKeyConstraint("user_id", "seq"),
    )
    for table in ("feeds", "changes"):
        keep_private(op.get_bind(), table)
        colocate(op.get_bind(), table)
    for statement in (
        FEED_EPOCH,
        LOG_CHANGES,
        ON_INSERT,
        ON_UPDATE,
        ON_DELETE,
        LOG_LEAVING,
        ON_LEAVING,
        DELETE_FIRST,
        ON_TRUNCATE,
    ):
        op.execute(statement)
