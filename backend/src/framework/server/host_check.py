"""Which names a service without tokens answers to, on a connection to a loopback address.

A browser lets a page of any site send requests to that site's name, which may resolve to 127.0.0.1
(DNS rebinding). Beyond loopback, a service without tokens answers anyone, whatever name is used.
"""

import re
from collections.abc import Callable, Collection
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import TypeAlias

from starlette.types import ASGIApp, Scope

from src.framework.addresses import is_loopback
from src.framework.web.problems import problem

MISDIRECTED = (
    "A service without tokens refuses this Host; use localhost, a name that ends in .localhost, "
    "an address in 127.0.0.0/8, or [::1]"
)

# A name may have 253 characters, and a port five.
MAX_HOST_BYTES = 260

_HOST = re.compile(
    r"(?:\[(?P<ipv6>[\da-f.]*:[\da-f:.]*)\]|(?P<name>[\w.-]+?)\.?)(?::\d*)?", re.A | re.I
)

Refusal: TypeAlias = Callable[[Scope, bytes | None], ASGIApp | None]


def host_check(allowed: Collection[str]) -> Refusal:
    """Return a function that answers 421 (RFC 9110 §15.5.20) to a Host that is not allowed.

    The function allows `localhost`, names below it (RFC 6761 §6.3), loopback addresses, and the
    names in `allowed`. There, `*.name` stands for all names below `name`.
    """

    @lru_cache(maxsize=64)
    def is_own(host: bytes) -> bool:
        found = _HOST.fullmatch(host.decode("latin-1"))
        if found is None:
            return False
        name = (found["ipv6"] or found["name"]).lower()
        is_local = f".{name}".endswith(".localhost") or is_loopback(name)
        return is_local or any(fnmatchcase(name, pattern) for pattern in allowed)

    def refusal(scope: Scope, host: bytes | None) -> ASGIApp | None:
        address, _ = scope.get("server") or ("", None)
        if host is None or not is_loopback(address):
            return None
        return None if len(host) <= MAX_HOST_BYTES and is_own(host) else problem(421, MISDIRECTED)

    return refusal
