"""Issuers of tokens: an issuer shares a secret with the service, or has a key server."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import OKPAlgorithm


@dataclass(frozen=True)
class Issuer:
    """The settings of a service that trusts the issuer, and a token of the issuer."""

    settings: dict[str, str]
    token: str


def _claims(user: str) -> dict[str, object]:
    return {"sub": user, "exp": int(time.time()) + 3600}


def sharing_a_secret(user: str) -> Issuer:
    secret = "a secret of 32 bytes, for the bench only"
    return Issuer({"AUTH_MODE": "jwt", "AUTH_SECRET": secret}, jwt.encode(_claims(user), secret))


@contextmanager
def with_a_key_server(user: str) -> Iterator[Issuer]:
    """Run a key server with an EdDSA key, as Better Auth does."""
    key = Ed25519PrivateKey.generate()
    public = OKPAlgorithm.to_jwk(key.public_key(), as_dict=True) | {"kid": "1", "alg": "EdDSA"}
    keys = json.dumps({"keys": [public]}).encode()

    class KeyServer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(keys)

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), KeyServer) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/jwks"
        token = jwt.encode(_claims(user), key, "EdDSA", headers={"kid": "1"})
        yield Issuer({"AUTH_MODE": "jwt", "AUTH_JWKS_URL": url}, token)
        server.shutdown()
