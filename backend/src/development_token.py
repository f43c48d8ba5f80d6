"""`make jwt`: print a token as a sign-in would sign it, with AUTH_SECRET, for development."""

import sys
import time

import jwt

from src.config import get_settings

SECONDS = 24 * 3600


def main() -> None:
    if not sys.argv[1]:
        sys.exit("Name the user: make jwt FOR=ada")
    settings = get_settings()
    if settings.auth_secret is None:
        sys.exit(
            "Set AUTH_SECRET to sign the token; with a key server, only the issuer can sign tokens"
        )
    claims = {
        settings.auth_user_claim: sys.argv[1],
        "exp": int(time.time()) + SECONDS,
        "iss": settings.auth_issuer,
        "aud": settings.auth_audience,
    }
    said = {name: value for name, value in claims.items() if value is not None}
    print(jwt.encode(said, settings.auth_secret.get_secret_value(), "HS256"))


if __name__ == "__main__":
    main()
