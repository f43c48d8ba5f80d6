"""Whom a service without tokens answers.

On loopback: whoever calls it by a name of loopback. A browser lets a page of any site send requests
to a name of that site's own, which may lead to 127.0.0.1 (DNS rebinding).

Beyond loopback: anybody, where AUTH_MODE=open is written out; otherwise the service ends as soon as
it is known to listen there, and answers nobody until then.
"""

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from functools import lru_cache

from starlette.types import ASGIApp, Scope

from src.addresses import is_loopback
from src.exceptions import DO_NOT_RESTART, CannotStart
from src.http.listening import Address, listening_addresses
from src.http.problems import problem

EXPOSED = (
    "It listens on %s, beyond this machine, and would answer anybody: "
    "set AUTH_JWKS_URL or AUTH_SECRET, or AUTH_MODE=open to let anyone act for any user"
)
MISDIRECTED = (
    "On this address, without tokens, only localhost, names that end in .localhost, 127.0.0.0/8 "
    "and [::1] are taken as Host"
)

WATCH_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12)
"""Pauses between looks at what listens: servers may bind their sockets after start-up."""

END_SECONDS = 0.05
"""How long the answers to requests that came before the end have to leave."""

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
        """Return 403 if the service is exposed, or 421 if Host is none of loopback's names.

        The latter only when the connection was accepted on loopback (RFC 9110 §15.5.20).
        """
        address, port = scope["server"] or ("", None)  # of a Unix socket, there is no port
        if not self.is_on_purpose:
            if port not in self.ports:
                self._look_at(listening_addresses())
                self.ports.add(port)
            if port is not None:
                self._look_at([(address, port)])
            if self.exposed_at is not None:
                return problem(403, self._sentence())
        if host is None or not is_loopback(address):
            return None
        if len(host) <= MAX_HOST_BYTES and _is_loopback_name(host):
            return None
        return problem(421, MISDIRECTED)

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Look at what listens as the service starts, and again once it has started.

        Raises CannotStart if it is exposed; once it has started, that ends the process.
        """
        if self.is_on_purpose:
            yield
            return
        self._look_at(listening_addresses(or_bound=True))
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
            self._look_at(listening_addresses())
        await self.found.wait()
        await asyncio.sleep(END_SECONDS)
        asyncio.get_running_loop().call_soon(sys.exit, DO_NOT_RESTART)

    def _look_at(self, addresses: Iterable[Address]) -> None:
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
