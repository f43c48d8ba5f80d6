"""Tokens of issuers and attackers, and a key server."""

import hashlib
import hmac
import json
import socket
import ssl
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache, partial
from socketserver import BaseRequestHandler, ThreadingTCPServer
from threading import Event, Thread
from typing import Any, TypeAlias
from urllib.parse import quote, unquote_to_bytes

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import get_default_algorithms

PrivateKey: TypeAlias = (
    Ed25519PrivateKey | Ed448PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
)

SECRET = "a secret of 32 bytes, for tests only"


def token(user: object, secret: str = SECRET, **claims: object) -> str:
    """Sign a token for this user with HS256. Leave out claims that are None."""
    return jwt.encode(claims_of(user, **claims), secret)


def claims_of(user: object, **claims: object) -> dict[str, Any]:
    now = int(time.time())
    said = {"sub": user, "iat": now, "exp": now + 900} | claims
    return {name: value for name, value in said.items() if value is not None}


def handmade(header: object, claims: object, secret: bytes = SECRET.encode()) -> str:
    """Sign with HS256, whatever the header says. Write bytes as they are, and not as JSON."""
    signed = f"{_segment(header)}.{_segment(claims)}"
    signature = hmac.digest(secret, signed.encode(), hashlib.sha256)
    return f"{signed}.{_segment(signature)}"


def _segment(value: object) -> str:
    content = value if isinstance(value, bytes) else json.dumps(value).encode()
    return urlsafe_b64encode(content).rstrip(b"=").decode()


def bearer(value: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {value}"}


def tokens_path(user: str, token_id: object = "") -> str:
    path = f"/api/{quote(user, safe='')}/tokens"
    return f"{path}/{token_id}" if token_id else path


def create_token(api: httpx.Client, user: str, **fields: object) -> dict[str, Any]:
    """Make a personal token."""
    answer = api.post(tokens_path(user), json={"name": "cron"} | fields)
    assert answer.status_code == 201, answer.text
    new: dict[str, Any] = answer.json()
    return new


class TokenOfThePath(httpx.Auth):
    """Sends a valid token of the user in the path with each request."""

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        segments = request.url.raw_path.split(b"?")[0].split(b"/")
        if segments[1] == b"api" and len(segments) > 2:
            user = unquote_to_bytes(segments[2]).decode(errors="replace")
            request.headers.setdefault("Authorization", f"Bearer {token(user)}")
        yield request


@dataclass(frozen=True)
class SigningKey:
    id: str | None
    algorithm: str
    private: PrivateKey

    @property
    def jwk(self) -> dict[str, Any]:
        return self._as_jwk(self.private.public_key())

    @property
    def private_jwk(self) -> dict[str, Any]:
        return self._as_jwk(self.private)

    def _as_jwk(self, key: object) -> dict[str, Any]:
        named = self.algorithm.replace("Ed25519", "EdDSA").replace("Ed448", "EdDSA")
        document = get_default_algorithms()[named].to_jwk(key, as_dict=True)
        return document | {"alg": self.algorithm} | ({} if self.id is None else {"kid": self.id})

    def token(self, user: object, **claims: object) -> str:
        header = None if self.id is None else {"kid": self.id}
        return jwt.encode(claims_of(user, **claims), self.private, self.algorithm, header)


_RSA = cache(partial(rsa.generate_private_key, 65537, 2048))
_GENERATE: dict[str, Callable[[], PrivateKey]] = {
    "EdDSA": Ed25519PrivateKey.generate,
    "Ed25519": Ed25519PrivateKey.generate,
    "Ed448": Ed448PrivateKey.generate,
    "ES256": partial(ec.generate_private_key, ec.SECP256R1()),
    "ES384": partial(ec.generate_private_key, ec.SECP384R1()),
    "ES512": partial(ec.generate_private_key, ec.SECP521R1()),
    "RS256": partial(rsa.generate_private_key, 65537, 2048),
    # These algorithms share one key, because to make an RSA key takes a tenth of a second.
    **dict.fromkeys(["RS384", "RS512", "PS256", "PS384", "PS512"], _RSA),
}
ASYMMETRIC = list(_GENERATE)
"""The asymmetric algorithms of RFC 7518 and RFC 8037, also by the names of RFC 9864."""


def signing_key(key_id: str | None, algorithm: str = "EdDSA") -> SigningKey:
    return SigningKey(key_id, algorithm, _GENERATE[algorithm]())


class KeyServer(ThreadingTCPServer):
    """Sends the bytes of `answer` to every request. If `answer` is empty, closes the connection."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, port: int, tls: ssl.SSLContext | None) -> None:
        super().__init__(("127.0.0.1", port), _Answer)
        self.scheme = "http"
        if tls is not None:
            self.scheme = "https"
            self.socket = tls.wrap_socket(self.socket, server_side=True)
        self.requests: list[bytes] = []
        self.sent = 0
        self.answering = 0
        self.answer = b""
        self.seconds_per_byte = 0.0
        self.may_answer = Event()
        self.may_answer.set()
        self.is_closed = Event()

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server_address[1]}/jwks"

    @property
    def fetches(self) -> int:
        return len(self.requests)

    def publish(self, *keys: SigningKey) -> None:
        self.publish_set([key.jwk for key in keys])

    def publish_set(self, documents: object) -> None:
        self.answer = http_answer(json.dumps({"keys": documents}).encode())

    def be_away(self) -> None:
        self.answer = b""


class _Answer(BaseRequestHandler):
    server: KeyServer
    request: socket.socket

    def handle(self) -> None:
        server = self.server
        server.requests.append(self.request.recv(65536))
        server.answering += 1
        server.may_answer.wait()
        size = 1 if server.seconds_per_byte else 65536
        with suppress(ConnectionError):
            for start in range(0, len(server.answer), size):
                self.request.sendall(server.answer[start : start + size])
                server.sent += size
                if server.seconds_per_byte and server.is_closed.wait(server.seconds_per_byte):
                    break
        server.answering -= 1


def http_answer(body: bytes, status: str = "200 OK", headers: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body


@contextmanager
def key_server(
    *keys: SigningKey, port: int = 0, tls: ssl.SSLContext | None = None
) -> Iterator[KeyServer]:
    with KeyServer(port, tls) as server:
        server.publish(*keys)
        thread = Thread(target=partial(server.serve_forever, poll_interval=0.02))
        thread.start()
        try:
            yield server
        finally:
            server.is_closed.set()
            server.may_answer.set()
            server.shutdown()
            thread.join()
