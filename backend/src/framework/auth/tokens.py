"""Bearer tokens: who is calling (RFC 6750, RFC 7519, RFC 8725)."""

import asyncio
import logging
import re
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import islice
from math import inf
from time import monotonic, time
from typing import TYPE_CHECKING, Any

import jwt
from jwt.exceptions import (
    ExpiredSignatureError,
    ImmatureSignatureError,
    InvalidAlgorithmError,
    InvalidAudienceError,
    InvalidIssuerError,
    InvalidKeyError,
    InvalidSignatureError,
    MissingRequiredClaimError,
    PyJWTError,
)

from src.framework.auth.exceptions import NotAuthenticated
from src.framework.auth.keys import VerifyingKey

if TYPE_CHECKING:
    from src.framework.auth.jwks import JWKS

LEEWAY_SECONDS = 30
"""How far the issuer's clock may be ahead, for `nbf` and `iat`."""

MAX_TOKEN_BYTES = 16 * 1024
REMEMBERED_TOKENS = 4096

TRIED_KEYS = 16
"""How many keys to try for a token that names no key."""

LOG_SECONDS = 60.0
"""How long to wait before a reason is logged again."""

MAX_REASON = 200

EXPIRED = "The token has expired"

# RFC 8725 §3.11: a token of another type has another purpose.
# A media type may leave out its "application/" (RFC 7515 §4.1.9).
_TYPES = {"jwt", "at+jwt"}
_TOKEN = re.compile(rb"[\w~+/-]+\.[\w~+/-]+\.[\w~+/-]+=*", re.ASCII)

# Includes errors of PyJWT's parsers that PyJWT lets through.
_UNREADABLE = (PyJWTError, ValueError, TypeError, OverflowError, RecursionError)

# Another key may verify a token that one key does not.
_NOT_BY_THIS_KEY = (InvalidAlgorithmError, InvalidKeyError, InvalidSignatureError)

logger = logging.getLogger(__name__)


class MalformedTokenError(PyJWTError):
    """The header has no token, or more than one."""


class TimesNotNumbersError(PyJWTError):
    """PyJWT takes texts as times, too; RFC 7519 §2 wants numbers."""


class UnreadableHeaderError(PyJWTError):
    """The token's first part is not a JOSE header."""


class UnknownKeyError(PyJWTError):
    """No key has the token's key id."""


class WrongTypeError(PyJWTError):
    """The token's `typ` is for another purpose, or its user claim names nobody."""


_PLAIN_WORDS: dict[type, str] = {
    ExpiredSignatureError: EXPIRED,
    ImmatureSignatureError: "The token is not valid yet",
    InvalidAlgorithmError: "The token is not signed with its key's algorithm",
    InvalidAudienceError: "The token is for another audience",
    InvalidIssuerError: "The token is from another issuer",
    InvalidSignatureError: "The token's signature is wrong",
    MalformedTokenError: "Send one token, as in Authorization: Bearer header.claims.signature",
    TimesNotNumbersError: "The token's times must be numbers of seconds",
    UnknownKeyError: "The token is signed with an unknown key",
    UnreadableHeaderError: "The token cannot be read",
    WrongTypeError: "The token is not meant for this API",
}


@dataclass(frozen=True, slots=True)
class Rules:
    """The claims that a token must have. None skips the check."""

    issuer: str | None
    audience: str | None
    user_claim: str
    advice: Mapping[str, str] = field(default_factory=dict)
    """Advice for the log about an error, by the name of the error's class."""


@dataclass(frozen=True, slots=True)
class Verified:
    user: str
    expires: float
    key: VerifyingKey


class SecretKey:
    """An HS256 secret shared with the issuer. Key ids are ignored.

    Without a secret there is no issuer, and every token is refused.
    """

    def __init__(self, secret: str | None) -> None:
        self.keys = [] if secret is None else [VerifyingKey(None, ("HS256",), secret)]
        self.trusted = frozenset(self.keys)

    def known(self, _key_id: str | None) -> list[VerifyingKey]:
        return self.keys

    async def find(self, _key_id: str | None) -> list[VerifyingKey]:
        return self.keys

    def kept_fresh(self) -> AbstractAsyncContextManager[None]:
        return nullcontext()


class Tokens:
    """Verifies each token once, and remembers it until it expires or its key is gone."""

    def __init__(self, keys: "JWKS | SecretKey", rules: Rules) -> None:
        self.keys = keys
        self.rules = rules
        self.remembered: dict[bytes, Verified] = {}
        self.logged: dict[str, float] = {}

    async def verified(self, token: bytes) -> Verified:
        """Return whose token it is, and when it expires.

        Raises NotAuthenticated, and KeysUnavailable when the token cannot be checked.
        """
        try:
            verified = self.remembered.get(token)
            if verified is None or verified.key not in self.keys.trusted:
                verified = await self._verify(token)
                if len(self.remembered) >= REMEMBERED_TOKENS:
                    del self.remembered[next(iter(self.remembered))]
                self.remembered[token] = verified
            if time() >= verified.expires:
                self.remembered.pop(token, None)
                raise ExpiredSignatureError
        except _UNREADABLE as error:
            raise self._refusal(error) from None
        return verified

    async def until_refused(self, verified: Verified, check_seconds: float) -> None:
        """Wait until a token that was valid has expired, or its key is gone.

        The keys are looked at every `check_seconds`. Raises NotAuthenticated.
        """
        while True:
            if verified.key not in self.keys.trusted:
                raise self._refusal(UnknownKeyError())
            seconds = verified.expires - time()
            if seconds <= 0:
                raise self._refusal(ExpiredSignatureError())
            await asyncio.sleep(min(seconds, check_seconds))

    async def _verify(self, token: bytes) -> Verified:
        """Raises any of _UNREADABLE."""
        if len(token) > MAX_TOKEN_BYTES or not _TOKEN.fullmatch(token):
            raise MalformedTokenError
        try:
            header = jwt.get_unverified_header(token)
        except _UNREADABLE:
            raise UnreadableHeaderError from None
        key_id, algorithm = header.get("kid"), header.get("alg")
        known = self.keys.known(key_id)
        try:
            verified = self._checked(token, algorithm, known)
        except (*_NOT_BY_THIS_KEY, UnknownKeyError):
            if key_id is not None and any(key.id == key_id for key in known):
                raise
            found = await self.keys.find(key_id)
            if found == known:
                raise
            verified = self._checked(token, algorithm, found)
        if str(header.get("typ", "jwt")).lower().removeprefix("application/") not in _TYPES:
            raise WrongTypeError
        return verified

    def _checked(self, token: bytes, algorithm: object, keys: list[VerifyingKey]) -> Verified:
        """Try the keys in turn, each only with the algorithms that fit it.

        Raises the error of the last key.
        """
        error: PyJWTError = InvalidAlgorithmError() if keys else UnknownKeyError()
        for key in islice((key for key in keys if algorithm in key.algorithms), TRIED_KEYS):
            try:
                claims = self._claims(token, key)
            except _NOT_BY_THIS_KEY as refused:
                error = refused
            else:
                return Verified(_user(claims[self.rules.user_claim]), _moments(claims)["exp"], key)
        raise error

    def _claims(self, token: bytes, key: VerifyingKey) -> dict[str, Any]:
        rules = self.rules
        return jwt.decode(
            token,
            key.value,
            algorithms=key.algorithms,
            issuer=rules.issuer,
            audience=rules.audience,
            leeway=LEEWAY_SECONDS,
            options={
                "enforce_minimum_key_length": True,
                "require": ["exp", rules.user_claim],
                "verify_aud": rules.audience is not None,
                "verify_iss": rules.issuer is not None,
                "verify_sub": False,  # some issuers number their users
            },
        )

    def _refusal(self, error: Exception) -> NotAuthenticated:
        """Log the reason, at most once in LOG_SECONDS, and return it for the client."""
        reason, kind = _in_plain_words(error), type(error).__name__
        if monotonic() - self.logged.get(kind, -inf) > LOG_SECONDS:
            self.logged[kind] = monotonic()
            advice = self.rules.advice.get(kind, "")
            logger.warning("A token was refused. %s. %s", reason[:MAX_REASON], advice)
        return NotAuthenticated(reason)


def _user(claim: object) -> str:
    """Return the user that a claim names: a text, or a whole number's decimal text."""
    if isinstance(claim, float) and claim.is_integer() and abs(claim) < 2**53:
        claim = int(claim)
    if isinstance(claim, bool) or not isinstance(claim, str | int):
        raise WrongTypeError
    return str(claim)


def _moments(claims: dict[str, Any]) -> dict[str, float]:
    """Read the claims that are times."""
    sent = {name: claims[name] for name in ("exp", "iat", "nbf") if name in claims}
    try:
        if all(type(time) in {int, float} for time in sent.values()):
            return {name: float(time) for name, time in sent.items()}
    except OverflowError:
        pass
    raise TimesNotNumbersError


def _in_plain_words(error: Exception) -> str:
    if isinstance(error, MissingRequiredClaimError):
        return f"The token has no claim {error.claim}"
    for kind in type(error).__mro__:
        if kind in _PLAIN_WORDS:
            return _PLAIN_WORDS[kind]
    return f"The token cannot be read: {error}"


def bearer(headers: list[tuple[bytes, bytes]]) -> bytes:
    """Return the token that a request has: RFC 6750 §2.1. Two tokens count as an empty token.

    Raises NotAuthenticated.
    """
    sent = [value for name, value in headers if name == b"authorization"]
    if not sent:
        raise NotAuthenticated
    scheme, _, token = sent[0].partition(b" ")
    if scheme.lower() != b"bearer":  # RFC 9110 §11.1: case-insensitive
        raise NotAuthenticated
    return b"" if len(sent) > 1 else token.strip(b" ")
