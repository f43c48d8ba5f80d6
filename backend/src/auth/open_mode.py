"""Whom a service without tokens answers: on loopback, whoever calls it by a name of loopback.

A browser lets a page of any site send requests to a name of that site's own, which may lead to
127.0.0.1 (DNS rebinding). So no other name is taken there.
"""

import re
from functools import lru_cache
from ipaddress import ip_address

from starlette.types import ASGIApp, Scope

from src.http.problems import problem

MISDIRECTED = (
    "On this address, without tokens, only localhost, names that end in .localhost, 127.0.0.0/8 "
    "and [::1] are taken as Host"
)

# A name may have 253 characters, and a port five.
MAX_HOST_BYTES = 260

_HOST = re.compile(
    r"(?:\[(?P<ipv6>[\da-f.]*:[\da-f:.]*)\]|(?P<name>[\w.-]+?)\.?)(?::\d*)?", re.A | re.I
)


def refusal(scope: Scope, host: bytes | None) -> ASGIApp | None:
    """Return 421 for a Host that leads to loopback and is none of its names (RFC 9110 §15.5.20).

    What counts is the address at which the connection was accepted.
    """
    server = scope["server"]
    if server is None or host is None or not is_loopback(server[0]) or _is_own_name(host):
        return None
    return problem(421, MISDIRECTED)


@lru_cache(maxsize=64)
def is_loopback(address: str) -> bool:
    """Whether this is in 127.0.0.0/8, mapped into IPv6 or not, or is ::1."""
    try:
        ip = ip_address(address)
    except ValueError:  # a Unix socket
        return False
    return (getattr(ip, "ipv4_mapped", None) or ip).is_loopback


def _is_own_name(host: bytes) -> bool:
    return len(host) <= MAX_HOST_BYTES and _is_loopback_name(host)


@lru_cache(maxsize=64)
def _is_loopback_name(host: bytes) -> bool:
    """Whether this is `localhost`, a name below it (RFC 6761 §6.3), or a loopback address."""
    found = _HOST.fullmatch(host.decode("latin-1").strip(" \t"))
    if found is None:
        return False
    name = (found["ipv6"] or found["name"]).lower()
    return f".{name}".endswith(".localhost") or is_loopback(name)
