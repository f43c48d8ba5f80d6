"""The keys that tokens are verified with: one secret, or the key server's set (RFC 7517)."""

import asyncio
import json
import logging
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from time import monotonic
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from jwt import PyJWK

from src.auth.exceptions import KeysUnavailable

ALGORITHMS = ("EdDSA", "ES256", "RS256")
REFRESH_SECONDS = 300.0
RETRY_SECONDS = 30.0
FETCH_SECONDS = 5.0
MAX_BYTES = 1024 * 1024

# Some firewalls refuse urllib's own name.
HEADERS = {"Accept": "application/json", "User-Agent": "task-api"}

logger = logging.getLogger(__name__)


class SecretKey:
    """An HS256 secret shared with whoever signs; ids of keys mean nothing to it."""

    def __init__(self, secret: bytes) -> None:
        encoded = urlsafe_b64encode(secret).decode()
        self.key = PyJWK.from_dict({"kty": "oct", "k": encoded, "alg": "HS256"})

    def known(self, _key_id: str | None) -> PyJWK | None:
        return self.key

    async def find(self, _key_id: str | None) -> PyJWK | None:
        return self.key

    def kept_fresh(self) -> AbstractAsyncContextManager[None]:
        return nullcontext()


class JWKS:
    """The key server's keys by their ids.

    They are fetched at start-up and every REFRESH_SECONDS, and for a key that is not known at
    most once in RETRY_SECONDS, however many ask. Those that are known stay while the server does
    not answer with a set of keys.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.keys: dict[str | None, PyJWK] = {}
        self.fetching: asyncio.Task[None] | None = None
        self.last_search = -RETRY_SECONDS
        self.is_reachable = False

    def known(self, key_id: str | None) -> PyJWK | None:
        """A token without an id is of the only key there is."""
        if key_id is None and len(self.keys) == 1:
            return next(iter(self.keys.values()))
        return self.keys.get(key_id)

    async def find(self, key_id: str | None) -> PyJWK | None:
        """Ask the server for a key that is not known.

        Raises KeysUnavailable when it does not answer.
        """
        if (key := self.known(key_id)) is None:
            await self._search()
            key = self.known(key_id)
            if key is None and not self.is_reachable:
                raise KeysUnavailable
        return key

    @asynccontextmanager
    async def kept_fresh(self) -> AsyncIterator[None]:
        await self._fetch_together()
        refreshing = asyncio.create_task(self._refresh())
        try:
            yield
        finally:
            refreshing.cancel()

    async def _refresh(self) -> None:
        while True:
            await asyncio.sleep(REFRESH_SECONDS if self.is_reachable else RETRY_SECONDS)
            await self._fetch_together()

    async def _search(self) -> None:
        """Fetch, unless this was for another unknown key less than RETRY_SECONDS ago."""
        if self.fetching is None:
            if monotonic() - self.last_search < RETRY_SECONDS:
                return
            self.last_search = monotonic()
        await self._fetch_together()

    async def _fetch_together(self) -> None:
        if self.fetching is None:
            self.fetching = asyncio.create_task(self._fetch())
        # Whoever waits may be cancelled; the others go on waiting for the same.
        await asyncio.shield(self.fetching)

    async def _fetch(self) -> None:
        try:
            keys = await asyncio.wait_for(asyncio.to_thread(_get, self.url), FETCH_SECONDS)
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


def _get(url: str) -> dict[str | None, PyJWK]:
    """Read the set. Raises whatever comes of an answer that is none."""
    request = Request(url, headers=HEADERS)  # noqa: S310 - http or https
    try:
        with urlopen(request, timeout=FETCH_SECONDS) as response:  # noqa: S310
            content = json.loads(response.read(MAX_BYTES))
    except HTTPError as error:
        error.close()
        raise
    match content:
        case {"keys": [*documents]}:
            keys = [key for document in documents if (key := _key(document)) is not None]
            return {key.key_id: key for key in keys}
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
