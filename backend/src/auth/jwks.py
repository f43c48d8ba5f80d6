"""The key server's public keys (RFC 7517)."""

import asyncio
import json
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

import httpx
from jwt import PyJWK

from src.addresses import is_on_this_machine
from src.auth.exceptions import KeysUnavailable

ALGORITHMS = ("EdDSA", "ES256", "RS256")
REFRESH_SECONDS = 300.0
RETRY_SECONDS = 30.0
FETCH_SECONDS = 5.0
MAX_BYTES = 1024 * 1024
MAX_REDIRECTS = 3

SEARCHES = 5
"""How many unknown keys are asked for at once."""

SEARCH_SECONDS = 5.0
"""After those, one in this time: no flood of invented ids keeps a new key out for longer."""

HEADERS = {
    "Accept": "application/json",
    # Packed, a small answer may be a huge one.
    "Accept-Encoding": "identity",
    # Some firewalls refuse the names of libraries.
    "User-Agent": "task-api",
}

logger = logging.getLogger(__name__)


class JWKS:
    """The key server's keys by their ids.

    They are fetched at start-up and every REFRESH_SECONDS, and for keys that are not known as often
    as SEARCHES and SEARCH_SECONDS say, by one request at a time. Those that are known stay while
    the server does not answer with a set of keys. Nothing is fetched once `stopping` is set.
    """

    def __init__(self, url: str, stopping: asyncio.Event) -> None:
        self.url = url
        self.stopping = stopping
        self.keys: dict[str | None, PyJWK] = {}
        self.fetching: asyncio.Task[None] | None = None
        self.searched_until = 0.0
        self.is_reachable = False

    def known(self, key_id: str | None) -> PyJWK | None:
        """Look a key up; a token that names none goes with the only key there is."""
        if key_id is None and len(self.keys) == 1:
            return next(iter(self.keys.values()))
        return self.keys.get(key_id)

    async def find(self, key_id: str | None) -> PyJWK | None:
        """Ask the server for a key that is not known.

        Raises KeysUnavailable when it does not answer, or is not asked because the service stops.
        """
        if (key := self.known(key_id)) is None:
            if self.fetching is not None or self._may_search():
                await self._fetch_together()
            key = self.known(key_id)
            if key is None and not self.is_reachable:
                raise KeysUnavailable
        return key

    @asynccontextmanager
    async def kept_fresh(self) -> AsyncIterator[None]:
        """Have the keys, if the server has them, and go on fetching them in the background."""
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
                "AUTH_JWKS_URL: the keys come unencrypted, and whoever is on their way can change "
                "them and act for any user; use https"
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
        """Take one of SEARCHES, which come back one by one."""
        now = monotonic()
        if self.searched_until > now + (SEARCHES - 1) * SEARCH_SECONDS:
            return False
        self.searched_until = max(self.searched_until, now) + SEARCH_SECONDS
        return True

    async def _fetch_together(self) -> None:
        """Wait for one fetch with whoever else does; none of them ends it by going."""
        if self.stopping.is_set():
            return
        if self.fetching is None:
            self.fetching = asyncio.create_task(self._fetch())
        await asyncio.wait([self.fetching])

    async def _fetch(self) -> None:
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                keys = await _read(await _get(self.url))
        except Exception as error:  # whatever it answers, the known keys stay
            self.is_reachable = False
            logger.warning("The keys cannot be fetched from AUTH_JWKS_URL: %r", error)
        else:
            self.is_reachable = True
            self.keys = {key_id: self._unchanged(key_id, key) for key_id, key in keys.items()}
        finally:
            self.fetching = None

    def _unchanged(self, key_id: str | None, key: PyJWK) -> PyJWK:
        """Keep the object of a key that is the same: what it verified stays verified."""
        known = self.keys.get(key_id)
        return known if known is not None and known.key == key.key else key


async def _get(url: str) -> bytes:
    """Read the answer's body, of MAX_BYTES at most, from this scheme and host and no other.

    Raises httpx.HTTPError, and ValueError for an answer that is none of keys.
    """
    # AUTH_JWKS_URL alone says where keys come from: no proxy or .netrc of the environment does.
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
                raise ValueError("it redirects to another host or scheme")
            request = following
    raise ValueError("it redirects too often")


@cache
def _system_trust() -> ssl.SSLContext:
    """Trust the system's CAs, or those of SSL_CERT_FILE, rather than httpx's own."""
    return ssl.create_default_context()


def _place(url: httpx.URL) -> tuple[str, str]:
    return url.scheme, url.host


async def _body(response: httpx.Response) -> bytes:
    if not response.is_success:
        raise ValueError(f"it answers with status {response.status_code}")
    body = b""
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > MAX_BYTES:
            raise ValueError(f"it answers with more than {MAX_BYTES} bytes")
    return body


async def _read(body: bytes) -> dict[str | None, PyJWK]:
    """Read the set. Raises whatever comes of an answer that is none."""
    match json.loads(body):
        case {"keys": [*documents]}:
            keys = {}
            for document in documents:
                # Many keys take long, and requests are waiting.
                await asyncio.sleep(0)
                if (key := _key(document)) is not None:
                    keys[key.key_id] = key
            return keys
    raise ValueError("what it answers is no JWK set")


def _key(document: dict[str, Any]) -> PyJWK | None:
    """Read a key, unless it is of another kind, for another use, or not public."""
    try:
        key = PyJWK.from_dict(document)
    except Exception:  # one that cannot be read must not take the others with it
        return None
    is_usable = (
        key.algorithm_name in ALGORITHMS
        and key.public_key_use in (None, "sig")
        and isinstance(key.key_id, str | None)
        and "d" not in document
    )
    return key if is_usable else None
