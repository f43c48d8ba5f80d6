"""The triggers find their tables whatever the writer's search_path is, and other roles lose rights.

The functions are as in 0006, with these differences. The functions name the schema. If someone
deletes a user's row of `feeds`, the numbers go on after the last number of the log. A batch deletes
as many old changes as it adds, or more. The newest of the old changes stays, because a client may
have just got the token of that change.
"""

from alembic import op

from src.migrations import run_in_schema
from src.migrations.rights import revoke_from_everyone

revision = "0008_any_writer"
down_revision = "0007_batches"

LOG_CHANGES = """
CREATE OR REPLACE FUNCTION log_changes() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    of_user record;
    total bigint := 0;
    last bigint;
    logged bigint;
BEGIN
    IF current_setting('citus.shard_count', true) IS NULL THEN
        WITH counted AS (
            SELECT user_id, count(*) AS number FROM changed GROUP BY user_id
        ), feed AS (
            INSERT INTO {schema}.feeds AS feed (user_id, seq)
            SELECT user_id, number FROM counted ORDER BY user_id
            ON CONFLICT (user_id) DO UPDATE SET seq = feed.seq + excluded.seq
            RETURNING user_id, seq
        )
        INSERT INTO {schema}.changes (user_id, seq, task_id)
        SELECT user_id, feed.seq + 1 - row_number() OVER (PARTITION BY user_id), id
        FROM changed JOIN feed USING (user_id);
        GET DIAGNOSTICS total = ROW_COUNT;
    ELSE
        FOR of_user IN
            SELECT user_id, count(*) AS number, array_agg(id) AS ids
            FROM changed GROUP BY user_id ORDER BY user_id
        LOOP
            total := total + of_user.number;
            INSERT INTO {schema}.feeds AS feed (user_id, seq)
            VALUES (of_user.user_id, of_user.number)
            ON CONFLICT (user_id) DO UPDATE SET seq = feed.seq + of_user.number
            RETURNING seq INTO last;
            IF last = of_user.number THEN
                SELECT max(seq) INTO logged FROM {schema}.changes WHERE user_id = of_user.user_id;
                IF logged IS NOT NULL THEN
                    last := last + logged;
                    UPDATE {schema}.feeds SET seq = last WHERE user_id = of_user.user_id;
                END IF;
            END IF;
            INSERT INTO {schema}.changes (user_id, seq, task_id)
            SELECT of_user.user_id, last - of_user.number + place, id
            FROM unnest(of_user.ids) WITH ORDINALITY AS task (id, place);
        END LOOP;
    END IF;
    IF random() * 50 < total THEN
        FOR of_user IN
            SELECT user_id, count(*) AS number FROM changed GROUP BY user_id
            HAVING random() * least(total, 50) < count(*)
        LOOP
            DELETE FROM {schema}.changes WHERE user_id = of_user.user_id AND seq < (
                SELECT coalesce(
                    min(seq) FILTER (WHERE at > now() - interval '30 days') - 1, max(seq)
                )
                FROM (
                    SELECT seq, at FROM {schema}.changes WHERE user_id = of_user.user_id
                    ORDER BY seq LIMIT 101 + 2 * of_user.number
                ) AS oldest
            );
        END LOOP;
    END IF;
    RETURN NULL;
END $$
"""

LOG_LEAVING = """
CREATE OR REPLACE FUNCTION log_leaving() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    last bigint;
BEGIN
    INSERT INTO {schema}.feeds AS feed (user_id, seq) VALUES (OLD.user_id, 1)
    ON CONFLICT (user_id) DO UPDATE SET seq = feed.seq + 1
    RETURNING seq INTO last;
    INSERT INTO {schema}.changes (user_id, seq, task_id) VALUES (OLD.user_id, last, OLD.id);
    RETURN NULL;
END $$
"""

# The service never deletes from `feeds`, and never truncates it, but someone may by hand. While a
# user's changes are in the log, the user's next change has a greater number. After someone empties
# both tables, the next change does not have the number 1, which a client may take for the first.
KEEP_COUNTING = """
CREATE FUNCTION keep_counting() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('citus.shard_count', true) IS NOT NULL THEN
        RETURN NULL;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO {schema}.feeds (user_id, seq)
        SELECT user_id, max(seq) FROM {schema}.changes
        WHERE user_id IN (SELECT user_id FROM gone) GROUP BY user_id;
    ELSE
        INSERT INTO {schema}.feeds (user_id, seq)
        SELECT user_id, max(seq) FROM (
            SELECT user_id, seq FROM {schema}.changes
            UNION ALL SELECT user_id, 1 FROM {schema}.tasks
        ) AS known GROUP BY user_id;
    END IF;
    RETURN NULL;
END $$
"""
ON_DELETED_FEED = """
CREATE TRIGGER keep_counting AFTER DELETE ON feeds
REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION keep_counting()
"""
ON_NO_FEEDS = """
CREATE TRIGGER keep_counting_all AFTER TRUNCATE ON feeds
FOR EACH STATEMENT EXECUTE FUNCTION keep_counting()
"""

TABLES = ("tasks", "feeds", "changes", "idempotency_keys", "task_api_version")


def upgrade() -> None:
    connection = op.get_bind()
    functions = (LOG_CHANGES, LOG_LEAVING, KEEP_COUNTING)
    run_in_schema(connection, *functions, ON_DELETED_FEED, ON_NO_FEEDS)
    for table in TABLES:
        revoke_from_everyone(connection, table)
