"""From the connection string that a console gives to what SQLAlchemy and asyncpg take."""

import logging
import ssl
from typing import Any

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

logger = logging.getLogger(__name__)

# libpq's words that asyncpg does not know and does not need: it sends the endpoint by SNI, speaks
# only SCRAM-SHA-256, and this service runs on poolers as it is.
_NOT_NEEDED = {"channel_binding", "gssencmode", "options", "pgbouncer"}


def parse(connection_string: str) -> tuple[URL, dict[str, Any]]:
    """Return SQLAlchemy's URL and asyncpg's arguments for a libpq connection string.

    Raises ValueError, with a sentence that shows no password, when it is not one.
    """
    try:
        url = make_url(connection_string.strip())
        backend = url.get_backend_name()
    except (ArgumentError, ValueError):
        raise ValueError(
            "must look like postgresql://user:password@host/database?sslmode=require"
        ) from None
    if backend not in {"postgres", "postgresql"}:
        raise ValueError(f"must start with postgresql://, not {backend}://")
    query = {
        name: value if isinstance(value, str) else value[-1] for name, value in url.query.items()
    }
    arguments: dict[str, Any] = {"ssl": _ssl(query.pop("sslmode", None), query)}
    if timeout := query.pop("connect_timeout", None):
        arguments["timeout"] = _seconds(timeout)
    if application_name := query.pop("application_name", None):
        arguments["server_settings"] = {"application_name": application_name}
    host = query.pop("host", None)
    for name in query.keys() - _NOT_NEEDED:
        logger.warning("DATABASE_URL: the parameter %s is not known here and is left out", name)
    url = url.set(drivername="postgresql+asyncpg", query={"host": host} if host else {})
    return url, arguments


def _seconds(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise ValueError("connect_timeout must be a number of seconds") from None


def _ssl(mode: str | None, query: dict[str, str]) -> ssl.SSLContext | bool:
    """Encrypt and verify unless the string says otherwise: nothing falls back to plain text."""
    root = query.pop("sslrootcert", None)
    if mode in {None, "disable", "allow", "prefer"} and root is None:
        return False
    if mode not in {None, "require", "verify-ca", "verify-full"}:
        raise ValueError("sslmode must be disable, require, verify-ca or verify-full")
    return ssl.create_default_context(cafile=root if root != "system" else None)
