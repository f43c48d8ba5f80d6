"""Facts about Citus, which spreads a table's rows over several servers."""

import asyncpg

IS_INSTALLED = "to_regclass('pg_catalog.pg_dist_partition') IS NOT NULL"

IS_DISTRIBUTED = "EXISTS (SELECT FROM pg_catalog.pg_dist_partition WHERE partmethod = 'h')"
"""Whether any table's rows are distributed. PostgreSQL refuses this unless Citus `IS_INSTALLED`."""

KNOWS_A_TABLE = "EXISTS (SELECT FROM pg_catalog.pg_dist_partition)"
"""Whether Citus distributes a table, or is about to.

While Citus copies the rows, the table's method is `n`. From the beginning of the copy, Citus
refuses generic plans, which are made once for all values.
"""

WRONG_TIME_ZONES = """
SELECT format('%s:%s', nodename, nodeport) AS place
FROM run_command_on_workers('SHOW timezone') WHERE success AND result NOT IN ('UTC', 'Etc/UTC')
"""

FOR_MIGRATIONS = (
    # A table and whatever refers to it change over the same connections to the other servers.
    "citus.multi_shard_modify_mode = 'sequential'",
    # Triggers are as safe as the statements in them: colocated rows are on the same server.
    "citus.enable_unsafe_triggers = on",
)
"""A transaction sets these before it alters tables. PostgreSQL without Citus ignores them."""

COLOCATE = """
SELECT create_distributed_table(:table, 'user_id', colocate_with => :other)
FROM pg_catalog.pg_dist_partition WHERE logicalrelid = to_regclass(:other) AND partmethod = 'h'
"""

REFUSALS = (
    asyncpg.FeatureNotSupportedError,
    asyncpg.InternalServerError,
    asyncpg.SerializationError,
)
"""The classes of the errors below. Other errors have these classes, too."""


def cannot_plan(error: Exception) -> bool:
    """Whether Citus refused a generic plan, which is made once for all values."""
    return str(error).startswith("could not create distributed plan")


def has_moved(error: Exception) -> bool:
    """Whether the rows moved to another server before the statement ran. It was not applied."""
    is_gone = str(error).startswith("could not find valid entry for shard")
    return is_gone or isinstance(error, asyncpg.SerializationError)


def cannot_reach_worker(error: Exception) -> bool:
    """Whether the coordinator lost another server, while we still have the coordinator.

    The other server may have applied the statement.
    """
    is_lost = isinstance(error, asyncpg.PostgresConnectionError) and error.severity == "ERROR"
    return is_lost or str(error).startswith("could not commit transaction for shard")
