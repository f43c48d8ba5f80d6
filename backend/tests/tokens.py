"""Tokens as an issuer would give them."""

import time
from collections.abc import Generator
from urllib.parse import unquote_to_bytes

import httpx
import jwt

SECRET = "a secret of 32 bytes, for tests only"


def token(user: object, secret: str = SECRET, **claims: object) -> str:
    """Sign a token of this user with HS256; a claim of None is left out."""
    now = int(time.time())
    said = {"sub": user, "iat": now, "exp": now + 900} | claims
    return jwt.encode({name: value for name, value in said.items() if value is not None}, secret)


def bearer(value: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {value}"}


class TokenOfThePath(httpx.Auth):
    """Sends, with each request, a good token of the user in its path."""

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        segments = request.url.raw_path.split(b"?")[0].split(b"/")
        if segments[1] == b"api" and len(segments) > 2:
            user = unquote_to_bytes(segments[2]).decode(errors="replace")
            request.headers.setdefault("Authorization", f"Bearer {token(user)}")
        yield request
