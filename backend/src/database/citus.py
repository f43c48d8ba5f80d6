"""What the service has to know of Citus, which spreads a table's rows over several servers."""

import asyncpg

IS_INSTALLED = "to_regclass('pg_catalog.pg_dist_partition') IS NOT NULL"

IS_DISTRIBUTED = "EXISTS (SELECT FROM pg_catalog.pg_dist_partition WHERE partmethod = 'h')"
"""Whether any table's rows are distributed. An error unless Citus `IS_INSTALLED`."""


def cannot_plan(error: asyncpg.InternalServerError) -> bool:
    """Whether a plan that is made once, for all values, was refused."""
    return str(error).startswith("could not create distributed plan")


def has_moved(error: asyncpg.InternalServerError) -> bool:
    """Whether the rows moved to another server before the statement ran. It was not applied."""
    return str(error).startswith("could not find valid entry for shard")
