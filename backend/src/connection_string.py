"""From the connection string that a console gives to what SQLAlchemy and asyncpg take."""

import logging
import ssl
from functools import cache
from typing import Any

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

logger = logging.getLogger(__name__)

# libpq's words that asyncpg does not know and does not need: it sends the endpoint by SNI, speaks
# only SCRAM-SHA-256, and this service runs on poolers as it is.
_NOT_NEEDED = {"channel_binding", "gssencmode", "options", "pgbouncer"}


@cache
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
    if url.port is not None and not 0 < url.port < 65536:
        raise ValueError("must have a port from 1 to 65535")
    query = {
        name: value if isinstance(value, str) else value[-1] for name, value in url.query.items()
    }
    server_settings = {"timezone": "UTC"}
    arguments: dict[str, Any] = {
        "ssl": _ssl(query.pop("sslmode", None), query),
        "server_settings": server_settings,
    }
    if timeout := query.pop("connect_timeout", None):
        arguments["timeout"] = _seconds(timeout)
    if application_name := query.pop("application_name", None):
        server_settings["application_name"] = application_name
    if query.keys() & {"sslcert", "sslkey"}:
        raise ValueError("must not name a client certificate: sslcert and sslkey are not taken")
    url = url.set(
        drivername="postgresql+asyncpg",
        username=query.pop("user", url.username),
        password=query.pop("password", url.password),
        query={"host": query.pop("host")} if "host" in query else {},
    )
    for name in query.keys() - _NOT_NEEDED:
        logger.warning("DATABASE_URL: the parameter %s is not known here and is left out", name)
    return url, arguments


def _seconds(value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0
    if not 0 < seconds < 3600:
        raise ValueError("must have a connect_timeout of more than 0 and less than 3600 seconds")
    return seconds


def _ssl(mode: str | None, query: dict[str, str]) -> ssl.SSLContext | bool:
    """Encrypt and verify unless the string says otherwise: nothing falls back to plain text."""
    root = query.pop("sslrootcert", None)
    if mode in {None, "disable", "allow", "prefer"} and root is None:
        return False
    if mode not in {None, "require", "verify-ca", "verify-full"}:
        raise ValueError("must have an sslmode of disable, require, verify-ca or verify-full")
    try:
        return ssl.create_default_context(cafile=root if root != "system" else None)
    except OSError:
        raise ValueError("must have a file of certificates as its sslrootcert") from None
