"""Who else may use our tables: nobody, until an operator grants it."""

from collections.abc import Sequence

from sqlalchemy import Connection, text

EVERYONE = ("anon", "anonymous", "authenticated")
"""The roles, beside PUBLIC, that a host gives to anyone who finds the host's own HTTP API."""

_NEW = """
SELECT DISTINCT CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END
FROM pg_catalog.pg_class, pg_catalog.aclexplode(relacl)
WHERE oid = to_regclass(:table) AND grantee <> relowner
"""

_OLD = """
SELECT 'PUBLIC' UNION ALL
SELECT quote_ident(rolname) FROM pg_catalog.pg_roles AS role, pg_catalog.pg_class AS relation
WHERE relation.oid = to_regclass(:table) AND role.oid <> relowner AND rolname = ANY(:everyone)
"""


def keep_private(connection: Connection, table: str) -> None:
    """Revoke the rights on a new table that default privileges gave to other roles."""
    holders = connection.scalars(text(_NEW), {"table": table}).all()
    _revoke(connection, table, holders)


def revoke_from_everyone(connection: Connection, table: str) -> None:
    """Revoke the rights of PUBLIC and EVERYONE on a table; other roles keep their rights."""
    values = {"table": table, "everyone": list(EVERYONE)}
    _revoke(connection, table, connection.scalars(text(_OLD), values).all())


def _revoke(connection: Connection, table: str, holders: Sequence[str]) -> None:
    for holder in holders:
        # A role that got its right from the holder loses the right, too.
        connection.exec_driver_sql(f"REVOKE ALL ON {table} FROM {holder} CASCADE")
