"""The key server's public keys (RFC 7517)."""

import asyncio
import json
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from time import monotonic
from urllib.parse import urlsplit

import httpx

from src.framework.addresses import is_on_this_machine
from src.framework.auth.exceptions import KeysUnavailable
from src.framework.auth.keys import VerifyingKey, public_key

REFRESH_SECONDS = 300.0
RETRY_SECONDS = 30.0
FETCH_SECONDS = 5.0
MAX_BYTES = 1024 * 1024
MAX_REDIRECTS = 3

SEARCHES = 5
"""How many searches for unknown keys are allowed without a pause."""

SEARCH_SECONDS = 5.0
"""The pause before each further search. Invented ids delay a new key by one pause at most."""

HEADERS = {
    "Accept": "application/json",
    # A small compressed answer could expand to a huge one.
    "Accept-Encoding": "identity",
    # Some firewalls refuse the default names of HTTP libraries.
    "User-Agent": "jwks-client",
}

logger = logging.getLogger(__name__)


class JWKS:
    """The key server's keys.

    The service fetches the keys at start-up and every REFRESH_SECONDS. For an unknown key, the
    service fetches the keys as often as SEARCHES and SEARCH_SECONDS allow. The service sends one
    request at a time. Known keys stay until the server answers with another set. When `stopping` is
    set, the service fetches nothing more. Log lines name the `setting` that has the URL.
    """

    def __init__(self, url: str, stopping: asyncio.Event, setting: str) -> None:
        self.url = url
        self.setting = setting
        self.stopping = stopping
        self.by_document: dict[str, VerifyingKey] = {}
        self.trusted: frozenset[VerifyingKey] = frozenset()
        self.fetching: asyncio.Task[None] | None = None
        self.searched_until = 0.0
        self.is_reachable = False

    def known(self, key_id: str | None) -> list[VerifyingKey]:
        """Return the keys that a token may be signed with.

        These keys have the token's key id. If no key has that id, return the keys without an id. A
        token without an id may be signed with any key (RFC 7515 §4.1.4: the id is a hint).
        """
        keys = list(self.by_document.values())
        if key_id is None:
            return keys
        return [key for key in keys if key.id == key_id] or [key for key in keys if key.id is None]

    async def find(self, key_id: str | None) -> list[VerifyingKey]:
        """Ask the server for its keys, if a search is left, and return the known keys.

        Raises KeysUnavailable when no key is known and the server does not answer, or is not asked
        because the service is stopping.
        """
        if self.fetching is not None or self._may_search():
            await self._fetch_together()
        known = self.known(key_id)
        if not known and not self.is_reachable:
            raise KeysUnavailable
        return known

    @asynccontextmanager
    async def kept_fresh(self) -> AsyncIterator[None]:
        """Fetch the keys, if the server answers, and refresh them in the background."""
        self._warn_if_plain()
        background = [asyncio.create_task(self._end_when_stopping())]
        try:
            await self._fetch_together()
            background.append(asyncio.create_task(self._refresh()))
            yield
        finally:
            if self.fetching is not None:
                background.append(self.fetching)
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)

    def _warn_if_plain(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme == "http" and not is_on_this_machine(parts.hostname or ""):
            logger.warning(
                "%s: the service fetches keys over plain HTTP. Anyone on the network path can "
                "replace the keys and act as any user; use https",
                self.setting,
            )

    async def _refresh(self) -> None:
        while True:
            await asyncio.sleep(REFRESH_SECONDS if self.is_reachable else RETRY_SECONDS)
            await self._fetch_together()

    async def _end_when_stopping(self) -> None:
        await self.stopping.wait()
        self.is_reachable = False
        if self.fetching is not None:
            self.fetching.cancel()

    def _may_search(self) -> bool:
        """Use up one search. SEARCHES are available at once. Each SEARCH_SECONDS adds a search."""
        now = monotonic()
        if self.searched_until > now + (SEARCHES - 1) * SEARCH_SECONDS:
            return False
        self.searched_until = max(self.searched_until, now) + SEARCH_SECONDS
        return True

    async def _fetch_together(self) -> None:
        """Share one fetch among all waiting requests; a cancelled request does not end it."""
        if self.stopping.is_set():
            return
        if self.fetching is None:
            self.fetching = asyncio.create_task(self._fetch())
        await asyncio.wait([self.fetching])

    async def _fetch(self) -> None:
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                keys = await self._read(await _get(self.url))
        except Exception as error:  # whatever the answer, the known keys stay
            self.is_reachable = False
            logger.warning("The service cannot fetch the keys from %s: %r", self.setting, error)
        else:
            self.is_reachable = True
            self.by_document, self.trusted = keys, frozenset(keys.values())
        finally:
            self.fetching = None

    async def _read(self, body: bytes) -> dict[str, VerifyingKey]:
        """Parse a JWK set. Any other answer may raise any exception.

        The object of an unchanged key stays: tokens that it verified stay verified.
        """
        match json.loads(body):
            case {"keys": [*documents]}:
                keys = {}
                for document in documents:
                    # Many keys take long; let requests run in between.
                    await asyncio.sleep(0)
                    text = json.dumps(document, sort_keys=True)
                    if key := self.by_document.get(text) or public_key(document):
                        keys[text] = key
                return keys
        raise ValueError("the response is not a JWK set")


async def _get(url: str) -> bytes:
    """Return the answer's body, at most MAX_BYTES. Follow redirects within the scheme and host.

    Raises httpx.HTTPError, and ValueError for any other answer.
    """
    # AUTH_JWKS_URL alone decides where keys come from, not a proxy or .netrc of the environment.
    async with httpx.AsyncClient(
        headers=HEADERS, timeout=FETCH_SECONDS, trust_env=False, verify=_system_trust()
    ) as client:
        request = client.build_request("GET", url)
        for _ in range(1 + MAX_REDIRECTS):
            response = await client.send(request, stream=True)
            try:
                following = response.next_request
                if following is None:
                    return await _body(response)
            finally:
                await response.aclose()
            if _place(following.url) != _place(request.url):
                raise ValueError("the response redirects to another host or scheme")
            request = following
    raise ValueError("the response redirects too often")


@cache
def _system_trust() -> ssl.SSLContext:
    """Trust the system's CAs, or the CAs of SSL_CERT_FILE, rather than httpx's own CAs."""
    return ssl.create_default_context()


def _place(url: httpx.URL) -> tuple[str, str]:
    return url.scheme, url.host


async def _body(response: httpx.Response) -> bytes:
    if not response.is_success:
        raise ValueError(f"the response has status {response.status_code}")
    body = b""
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > MAX_BYTES:
            raise ValueError(f"the response has more than {MAX_BYTES} bytes")
    return body
