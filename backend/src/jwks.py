"""The keys that tokens are verified with: one secret, or the key server's set (RFC 7517)."""

import asyncio
import json
import logging
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from time import monotonic
from typing import Any
from urllib.request import Request, urlopen

from jwt import PyJWK
from jwt.exceptions import PyJWTError

from src.exceptions import KeysUnavailable

ALGORITHMS = ("EdDSA", "ES256", "RS256")
REFRESH_SECONDS = 300.0
RETRY_SECONDS = 30.0
FETCH_SECONDS = 5.0
MAX_BYTES = 1024 * 1024

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
    not answer.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.keys: dict[str | None, PyJWK] = {}
        self.documents: dict[str | None, Any] = {}
        self.fetching: asyncio.Task[None] | None = None
        self.last_fetch = -RETRY_SECONDS
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
            await self._fetch_now_and_then()
            key = self.known(key_id)
            if key is None and not self.is_reachable:
                raise KeysUnavailable
        return key

    @asynccontextmanager
    async def kept_fresh(self) -> AsyncIterator[None]:
        await self._fetch_now_and_then()
        refreshing = asyncio.create_task(self._refresh())
        try:
            yield
        finally:
            refreshing.cancel()

    async def _refresh(self) -> None:
        while True:
            await asyncio.sleep(REFRESH_SECONDS if self.is_reachable else RETRY_SECONDS)
            await self._fetch_now_and_then()

    async def _fetch_now_and_then(self) -> None:
        if self.fetching is None and monotonic() - self.last_fetch >= RETRY_SECONDS:
            self.last_fetch = monotonic()
            self.fetching = asyncio.create_task(self._fetch())
        if self.fetching is not None:
            # Whoever waits may be cancelled; the others go on waiting for the same.
            await asyncio.shield(self.fetching)

    async def _fetch(self) -> None:
        try:
            documents = await asyncio.to_thread(_get, self.url)
        except (OSError, ValueError) as error:
            self.is_reachable = False
            logger.warning("The keys cannot be fetched from AUTH_JWKS_URL: %s", error)
        else:
            self.is_reachable = True
            self._take(documents)
        finally:
            self.fetching = None

    def _take(self, documents: dict[str | None, Any]) -> None:
        """Keep the object of a key that has not changed: what it verified stays verified."""
        keys = {
            key_id: self.keys.get(key_id) if self.documents.get(key_id) == document else None
            for key_id, document in documents.items()
        }
        read = {key_id: key or _key(documents[key_id]) for key_id, key in keys.items()}
        self.keys = {key_id: key for key_id, key in read.items() if key is not None}
        self.documents = documents


def _get(url: str) -> dict[str | None, Any]:
    """Read the set. Raises OSError, and ValueError for what is no set of keys."""
    request = Request(url, headers={"Accept": "application/json"})  # noqa: S310 - http or https
    with urlopen(request, timeout=FETCH_SECONDS) as response:  # noqa: S310
        document = json.loads(response.read(MAX_BYTES))
    try:
        return {key.get("kid"): key for key in document["keys"]}
    except (TypeError, KeyError, AttributeError):
        raise ValueError("what it answers is no JWK set") from None


def _key(document: dict[str, Any]) -> PyJWK | None:
    """Read a key, unless it is of another kind or for another use."""
    try:
        key = PyJWK.from_dict(document)
    except (PyJWTError, ValueError, TypeError):
        return None
    is_for_signatures = key.public_key_use in {None, "sig"}
    return key if key.algorithm_name in ALGORITHMS and is_for_signatures else None
