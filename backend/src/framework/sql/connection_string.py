"""Translates a libpq connection string, as consoles show it, for SQLAlchemy and asyncpg.

`sslmode=require`, `verify-ca` and `verify-full` mean the same: the connection is encrypted, and
both the certificate and its host name are verified, against the system's CAs or `sslrootcert`.
`disable`, or no TLS parameter, means plain text. Without `disable`, plain text that leaves the
machine causes a warning in the log. `allow` and `prefer` would let the server choose, so `parse`
refuses them. It also refuses any TLS parameter that would have no effect. A Unix socket is never
encrypted.

PGHOST, PGPORT, PGDATABASE, PGSSLMODE and `~/.postgresql` are ignored. Only a user or password that
the string leaves out may come from PGUSER, PGPASSWORD or `~/.pgpass`.
"""

import logging
import re
import ssl
from functools import cache
from typing import Any
from urllib.parse import unquote

from sqlalchemy import URL

from src.framework.addresses import is_on_this_machine

logger = logging.getLogger(__name__)

_QUOTED = re.compile(r"""(?:psql\s+)?(['"]?)(.*)\1\Z""", re.DOTALL)

# The last @ before the first / or ? ends the password.
_STRING = re.compile(
    r"(?P<scheme>[\w+]+)://"
    r"(?:(?P<user>[^:/?]*)(?::(?P<password>[^/?]*))?@)?"
    r"(?P<host>\[[^/?@]*\]|[^:/?@]*)(?::(?P<port>[^/?@]*))?"
    r"(?:/(?P<database>[^?@]*))?"
    r"(?:\?(?P<query>.*))?"
)
_BROKEN = re.compile(r"\s|%00|%(?![0-9A-Fa-f]{2})")

_SHAPE = (
    "must look like postgresql://user:password@host/database?sslmode=require, "
    "with %40 for @, %2F for /, %3F for ? and %25 for % in a name, password or value"
)

# Parameters of Prisma and libpq that the service does not need: it works through poolers, and a
# verified certificate protects as channel binding would.
_NOT_NEEDED = {"channel_binding", "gssencmode", "pgbouncer"}

_NEED_TLS = {"channel_binding": "require", "gssencmode": "require", "sslnegotiation": "direct"}


@cache
def parse(
    connection_string: str, setting: str = "The connection string"
) -> tuple[URL, dict[str, Any]]:
    """Return SQLAlchemy's URL and asyncpg's arguments for a libpq connection string.

    The string may have quotes or `psql` around it. Logs a warning that names each ignored
    parameter. Raises ValueError, with a sentence that shows no password, for an invalid string.
    """
    parts = _split(connection_string)
    query = _parameters(parts["query"])
    host = query.pop("host", unquote(parts["host"].strip("[]")))
    port = query.pop("port", parts["port"]) or "5432"
    database = query.pop("dbname", unquote(parts["database"]))
    if "," in host + port:
        raise ValueError("must name one host, not several")
    url = URL.create(
        "postgresql+asyncpg",
        username=query.pop("user", unquote(parts["user"])),
        password=query.pop("password", unquote(parts["password"])),
        host=host,
        port=_port(port),
        database=database,
    )
    if not host:
        raise ValueError(
            "must name a host, or a socket's folder as in postgresql:///database?host=/tmp"
        )
    if not database:
        raise ValueError("must name a database, as in postgresql://user:password@host/database")
    is_plain_on_purpose = query.get("sslmode") == "disable" or is_on_this_machine(host)
    arguments = _tls(query)
    arguments["server_settings"] = _server_settings(query)
    if timeout := query.pop("connect_timeout", None):
        arguments["timeout"] = _seconds(timeout)
    for name in query.keys() - _NOT_NEEDED:
        logger.warning("%s: the service ignores the unknown parameter %s", setting, name)
    if not arguments["ssl"] and not is_plain_on_purpose:
        logger.warning(
            "%s: the connection is not encrypted; set sslmode=require to encrypt the connection, "
            "or sslmode=disable to end this warning",
            setting,
        )
    return url, arguments


def _split(connection_string: str) -> dict[str, str]:
    text = _QUOTED.sub(r"\2", connection_string.strip())
    parts = _STRING.fullmatch(text)
    if parts is None or not _is_decodable(text):
        raise ValueError(_SHAPE)
    if parts["host"] and "@" in (parts["query"] or ""):  # the password has an unescaped ? or /
        raise ValueError(_SHAPE)
    if parts["scheme"].lower().split("+")[0] not in {"postgres", "postgresql"}:
        raise ValueError("must start with postgresql://")
    return parts.groupdict(default="")


def _is_decodable(text: str) -> bool:
    try:
        unquote(text, errors="strict")
    except UnicodeDecodeError:
        return False
    return not _BROKEN.search(text)


def _parameters(query: str) -> dict[str, str]:
    parameters: dict[str, str] = {}
    for pair in filter(None, query.split("&")):
        name, equals, value = pair.partition("=")
        if not equals or not re.fullmatch(r"[\w.-]+", name):
            raise ValueError(_SHAPE)
        if name == "ssl":  # as in URLs for JDBC, or for asyncpg under SQLAlchemy
            name, value = "sslmode", "require" if value == "true" else value
        if name in parameters:
            raise ValueError(f"must have {name} only once")
        parameters[name] = unquote(value)
    return parameters


def _port(text: str) -> int:
    if not re.fullmatch("[0-9]+", text):
        raise ValueError(_SHAPE)
    if not re.fullmatch("[0-9]{1,5}", text) or not 0 < int(text) < 65536:
        raise ValueError("must have a port from 1 to 65535")
    return int(text)


def _tls(query: dict[str, str]) -> dict[str, Any]:
    mode, root = query.pop("sslmode", None), query.pop("sslrootcert", None)
    if mode not in {None, "disable", "require", "verify-ca", "verify-full"}:
        raise ValueError(
            "must have an sslmode of disable, require, verify-ca or verify-full "
            "(allow and prefer would let the server choose)"
        )
    if mode == "disable" and root:
        raise ValueError("must not have an sslrootcert with sslmode=disable")
    context = _verifying(root) if root or mode not in {None, "disable"} else False
    for name, value in _NEED_TLS.items():
        if query.get(name) == value and not context:
            raise ValueError(f"must have sslmode=require with {name}={value}")
    negotiation = query.pop("sslnegotiation", "postgres")
    if negotiation not in {"postgres", "direct"}:
        raise ValueError("must have an sslnegotiation of postgres or direct")
    for name in query:
        if re.search("ssl|tls", name, re.IGNORECASE):
            raise ValueError(
                f"must not have {name}; for TLS, the service takes only sslmode, sslrootcert and "
                "sslnegotiation, and no client certificates"
            )
    return {"ssl": context, "direct_tls": negotiation == "direct"}


def _verifying(root: str | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=None if root == "system" else root)
    except OSError:
        raise ValueError("must name a file of certificates as its sslrootcert") from None
    context.set_alpn_protocols(["postgresql"])
    return context


def _server_settings(query: dict[str, str]) -> dict[str, str]:
    settings = {"timezone": "UTC"}
    if application_name := query.pop("application_name", None):
        settings["application_name"] = application_name
    # Neon's options for the endpoint, which SNI already names.
    options = [
        word
        for word in query.pop("options", "").split()
        if not word.startswith(("endpoint=", "project="))
    ]
    if options:
        settings["options"] = " ".join(options)
    return settings


def _seconds(value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0
    if not 0 < seconds < 3600:
        raise ValueError("must have a connect_timeout of more than 0 and less than 3600 seconds")
    return seconds
