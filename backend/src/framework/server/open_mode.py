"""Who may call a service without tokens.

On loopback: anyone who calls it by a loopback name. A browser lets a page of any site send requests
to that site's name, which may resolve to 127.0.0.1 (DNS rebinding).

Beyond loopback: anyone, if AUTH_MODE=open is set explicitly. Otherwise the service ends as soon as
it finds that it listens there, and refuses every request until then.
"""

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from functools import lru_cache

from starlette.types import ASGIApp, Scope

from src.framework.addresses import is_loopback
from src.framework.exceptions import DO_NOT_RESTART, CannotStart
from src.framework.server.listening import Address, listening_addresses
from src.framework.web.problems import problem

EXPOSED = (
    "The service listens on %s, which other machines can reach, and would answer anyone: "
    "set AUTH_JWKS_URL or AUTH_SECRET, or AUTH_MODE=open to let anyone act for any user"
)
MISDIRECTED = (
    "Without tokens, this address accepts only localhost, names that end in .localhost, "
    "127.0.0.0/8 and [::1] as Host"
)

WATCH_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12)
"""Pauses between checks of the listening sockets: servers may bind theirs after start-up."""

END_SECONDS = 0.05
"""Time for answers under way to leave before the process ends."""

# A name may have 253 characters, and a port five.
MAX_HOST_BYTES = 260

_HOST = re.compile(
    r"(?:\[(?P<ipv6>[\da-f.]*:[\da-f:.]*)\]|(?P<name>[\w.-]+?)\.?)(?::\d*)?", re.A | re.I
)


class OpenMode:
    def __init__(self, is_on_purpose: bool) -> None:
        self.is_on_purpose = is_on_purpose
        self.ports: set[int | None] = set()
        self.exposed_at: Address | None = None
        self.found = asyncio.Event()

    def refusal(self, scope: Scope, host: bytes | None) -> ASGIApp | None:
        """Return 403 if the service is exposed, or 421 if Host is not a loopback name.

        421 (RFC 9110 §15.5.20) is only for connections that were accepted on loopback.
        """
        address, port = scope["server"] or ("", None)  # a Unix socket has no port
        if not self.is_on_purpose:
            if port not in self.ports:
                self._check(listening_addresses())
                self.ports.add(port)
            if port is not None:
                self._check([(address, port)])
            if self.exposed_at is not None:
                return problem(403, self._sentence())
        if host is None or not is_loopback(address):
            return None
        if len(host) <= MAX_HOST_BYTES and _is_loopback_name(host):
            return None
        return problem(421, MISDIRECTED)

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Check the listening sockets at start-up, and for ten seconds after it.

        Raises CannotStart if the service is exposed. After start-up, this ends the process.
        """
        if self.is_on_purpose:
            yield
            return
        self._check(listening_addresses(or_bound=True))
        watching = asyncio.create_task(self._watch())
        try:
            if self.exposed_at is None:
                yield
        finally:
            watching.cancel()
            if self.exposed_at is not None:
                raise CannotStart(self._sentence())

    async def _watch(self) -> None:
        for seconds in WATCH_SECONDS:
            with suppress(TimeoutError):
                await asyncio.wait_for(self.found.wait(), seconds)
            self._check(listening_addresses())
        await self.found.wait()
        await asyncio.sleep(END_SECONDS)
        asyncio.get_running_loop().call_soon(sys.exit, DO_NOT_RESTART)

    def _check(self, addresses: Iterable[Address]) -> None:
        for address in addresses:
            if self.exposed_at is None and not is_loopback(address[0]):
                self.exposed_at = address
                self.found.set()

    def _sentence(self) -> str:
        address, port = self.exposed_at or ("", 0)
        return EXPOSED % (f"[{address}]:{port}" if ":" in address else f"{address}:{port}")


@lru_cache(maxsize=64)
def _is_loopback_name(host: bytes) -> bool:
    """Whether this is `localhost`, a name below it (RFC 6761 §6.3), or a loopback address."""
    found = _HOST.fullmatch(host.decode("latin-1").strip(" \t"))
    if found is None:
        return False
    name = (found["ipv6"] or found["name"]).lower()
    return f".{name}".endswith(".localhost") or is_loopback(name)
