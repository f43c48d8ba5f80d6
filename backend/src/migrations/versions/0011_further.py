"""A task keeps members that the service does not know.

The column has no default, so that no row is rewritten and an earlier release goes on writing. The
functions apply what a request changes. Later releases keep the functions' names, because the
statements of this release call the functions.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from src.migrations import distribute_functions, run_in_schema

revision = "0011_further"
down_revision = "0010_all_day"

# With `merges`, the function follows RFC 7396. Otherwise, it replaces each member as a whole. An
# object without a null, and without an object to merge with, stays as it is: thousands of calls
# take long.
MERGE = """
CREATE FUNCTION merge_members(before jsonb, change jsonb, merges boolean) RETURNS jsonb
IMMUTABLE LANGUAGE plpgsql AS $$
BEGIN
    IF jsonb_typeof(before) <> 'object' THEN
        before := NULL;
    END IF;
    RETURN (
        SELECT coalesce(jsonb_object_agg(key, value), '{}') FROM (
            SELECT key, value FROM jsonb_each(before) WHERE NOT change ? key
            UNION ALL
            SELECT key, CASE
                WHEN merges AND jsonb_typeof(value) = 'object'
                AND (jsonb_typeof(before -> key) = 'object' OR value::text LIKE '%null%')
                THEN {schema}.merge_members(before -> key, value, true)
                ELSE value
            END
            FROM jsonb_each(change) WHERE jsonb_typeof(value) <> 'null'
        ) AS member
    );
END $$
"""

# Members that were beyond a limit before the change may stay beyond it, but not grow.
CHANGE = """
CREATE FUNCTION change_members(before jsonb, change jsonb, merges boolean, place integer)
RETURNS jsonb IMMUTABLE LANGUAGE plpgsql AS $$
DECLARE
    was jsonb := CASE jsonb_typeof(before) WHEN 'object' THEN before ELSE '{}' END;
    members jsonb := nullif({schema}.merge_members(was, change, merges), '{}');
    is_many boolean := (SELECT count(*) FROM jsonb_object_keys(members))
        > greatest(32, (SELECT count(*) FROM jsonb_object_keys(was)));
    is_long boolean := octet_length(members::text) > greatest(16384, octet_length(was::text));
BEGIN
    IF is_many OR is_long THEN
        RAISE EXCEPTION USING
            MESSAGE = CASE WHEN is_many THEN 'too many members' ELSE 'too long members' END,
            DETAIL = coalesce(place::text, ''),
            CONSTRAINT = 'further_members',
            COLUMN = (
                SELECT key FROM jsonb_each(change)
                ORDER BY is_many AND was ? key, octet_length(value::text) DESC LIMIT 1
            );
    END IF;
    RETURN members;
END $$
"""
FIT = """
CREATE FUNCTION members_fit(before jsonb, change jsonb, merges boolean) RETURNS boolean
IMMUTABLE LANGUAGE plpgsql AS $$
BEGIN
    PERFORM {schema}.change_members(before, change, merges, NULL);
    RETURN true;
EXCEPTION WHEN raise_exception THEN
    RETURN false;
END $$
"""


def upgrade() -> None:
    connection = op.get_bind()
    op.add_column("tasks", sa.Column("further", JSONB))
    run_in_schema(connection, MERGE, CHANGE, FIT)
    distribute_functions(
        connection,
        "merge_members(jsonb,jsonb,boolean)",
        "change_members(jsonb,jsonb,boolean,integer)",
        "members_fit(jsonb,jsonb,boolean)",
    )
