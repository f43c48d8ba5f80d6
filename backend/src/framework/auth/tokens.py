"""Bearer tokens: who is calling (RFC 6750, RFC 7519, RFC 8725)."""

import re
from base64 import urlsafe_b64encode
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from time import time
from typing import TYPE_CHECKING, Any

import jwt
from jwt import PyJWK
from jwt.exceptions import (
    ExpiredSignatureError,
    ImmatureSignatureError,
    InvalidAlgorithmError,
    InvalidAudienceError,
    InvalidIssuerError,
    InvalidSignatureError,
    MissingRequiredClaimError,
    PyJWTError,
)

from src.framework.auth.exceptions import NotAuthenticated

if TYPE_CHECKING:
    from src.framework.auth.jwks import JWKS

LEEWAY_SECONDS = 30
"""How far the issuer's clock may be ahead, for `nbf` and `iat`."""

MAX_TOKEN_BYTES = 16 * 1024
REMEMBERED_TOKENS = 4096

EXPIRED = "The token has expired"

# RFC 8725 §3.11: a token of another type has another purpose.
_TYPES = {"jwt", "at+jwt", "application/at+jwt"}
_TOKEN = re.compile(rb"[\w~+/-]+\.[\w~+/-]+\.[\w~+/-]+=*", re.ASCII)

# Includes errors of its parsers that PyJWT lets through.
_UNREADABLE = (PyJWTError, ValueError, TypeError, OverflowError, RecursionError)


_PLAIN_WORDS: dict[type, str] = {
    ExpiredSignatureError: EXPIRED,
    ImmatureSignatureError: "The token is not valid yet; compare the clocks",
    InvalidAlgorithmError: "The token is not signed with its key's algorithm",
    InvalidAudienceError: "The token is for another audience",
    InvalidIssuerError: "The token is from another issuer",
    InvalidSignatureError: "The token's signature is wrong",
}


@dataclass(frozen=True, slots=True)
class Rules:
    """The claims that a token must have. None skips the check."""

    issuer: str | None
    audience: str | None
    user_claim: str


@dataclass(frozen=True, slots=True)
class Verified:
    user: str
    expires: float
    key: PyJWK
    key_id: str | None


class SecretKey:
    """An HS256 secret shared with the issuer. Key ids are ignored."""

    def __init__(self, secret: bytes) -> None:
        encoded = urlsafe_b64encode(secret).decode()
        self.key = PyJWK.from_dict({"kty": "oct", "k": encoded, "alg": "HS256"})

    def known(self, _key_id: str | None) -> PyJWK | None:
        return self.key

    async def find(self, _key_id: str | None) -> PyJWK | None:
        return self.key

    def kept_fresh(self) -> AbstractAsyncContextManager[None]:
        return nullcontext()


class Tokens:
    """Verifies each token once, and remembers it until it expires or its key is gone."""

    def __init__(self, keys: "JWKS | SecretKey", rules: Rules) -> None:
        self.keys = keys
        self.rules = rules
        self.remembered: dict[bytes, Verified] = {}

    async def verified(self, headers: list[tuple[bytes, bytes]]) -> Verified:
        """Return whose token the request has, and when it expires.

        Raises NotAuthenticated, and KeysUnavailable when the token cannot be checked.
        """
        token = _bearer(headers)
        verified = self.remembered.get(token)
        if verified is None or self.keys.known(verified.key_id) is not verified.key:
            verified = await self._verify(token)
            if len(self.remembered) >= REMEMBERED_TOKENS:
                del self.remembered[next(iter(self.remembered))]
            self.remembered[token] = verified
        if time() >= verified.expires:
            self.remembered.pop(token, None)
            raise NotAuthenticated(EXPIRED)
        return verified

    async def _verify(self, token: bytes) -> Verified:
        try:
            header = jwt.get_unverified_header(token)
        except _UNREADABLE:
            raise NotAuthenticated("The token cannot be read") from None
        key_id = header.get("kid")
        key = await self.keys.find(key_id)
        if key is None:
            raise NotAuthenticated("The token's key is unknown")
        claims = self._claims(token, key)
        user = claims[self.rules.user_claim]
        if not isinstance(user, str) or str(header.get("typ", "jwt")).lower() not in _TYPES:
            raise NotAuthenticated("The token is not meant for this API")
        return Verified(user, _moments(claims)["exp"], key, key_id)

    def _claims(self, token: bytes, key: PyJWK) -> dict[str, Any]:
        rules = self.rules
        try:
            return jwt.decode(
                token,
                key,
                algorithms=[key.algorithm_name],
                issuer=rules.issuer,
                audience=rules.audience,
                leeway=LEEWAY_SECONDS,
                options={
                    "enforce_minimum_key_length": True,
                    "require": ["exp", rules.user_claim],
                    "verify_aud": rules.audience is not None,
                    "verify_iss": rules.issuer is not None,
                },
            )
        except _UNREADABLE as error:
            raise NotAuthenticated(_in_plain_words(error)) from None


def _moments(claims: dict[str, Any]) -> dict[str, float]:
    """Read the claims that are times. PyJWT takes texts, too; RFC 7519 §2 wants numbers."""
    sent = {name: claims[name] for name in ("exp", "iat", "nbf") if name in claims}
    try:
        if all(type(time) in {int, float} for time in sent.values()):
            return {name: float(time) for name, time in sent.items()}
    except OverflowError:
        pass
    raise NotAuthenticated("The token's times must be numbers of seconds")


def _in_plain_words(error: Exception) -> str:
    if isinstance(error, MissingRequiredClaimError):
        return f"The token has no claim {error.claim}"
    for kind in type(error).__mro__:
        if kind in _PLAIN_WORDS:
            return _PLAIN_WORDS[kind]
    return f"The token cannot be read: {error}"


def _bearer(headers: list[tuple[bytes, bytes]]) -> bytes:
    sent = [value for name, value in headers if name == b"authorization"]
    if not sent:
        raise NotAuthenticated
    scheme, _, token = sent[0].partition(b" ")
    if scheme.lower() != b"bearer":  # RFC 9110 §11.1: case-insensitive
        raise NotAuthenticated
    token = token.strip(b" ")
    if len(sent) > 1 or len(token) > MAX_TOKEN_BYTES or not _TOKEN.fullmatch(token):
        raise NotAuthenticated(
            "Send one token, as in Authorization: Bearer header.claims.signature"
        )
    return token
