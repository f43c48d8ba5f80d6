"""A real Better Auth server with its JWT plugin, as a frontend would run it."""

import json
import secrets
import shutil
import subprocess
from base64 import urlsafe_b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.conftest import install, tool
from tests.serving import NO_TLS, eventually, free_port

HERE = Path(__file__).parent
OLDEST_NODE = (18, 17)


@dataclass(frozen=True)
class User:
    id: str
    issuer: str
    session: httpx.Cookies

    def token(self) -> str:
        response = httpx.get(f"{self.issuer}/api/auth/token", cookies=self.session, verify=NO_TLS)
        token: str = response.raise_for_status().json()["token"]
        return token

    def token_after_rotation(self, earlier: str) -> str:
        """Wait until another key signs, on a server with a `rotationInterval`."""
        assert eventually(lambda: key_id(self.token()) != key_id(earlier))
        return self.token()


@dataclass(frozen=True)
class BetterAuth:
    issuer: str

    @property
    def jwks_url(self) -> str:
        return f"{self.issuer}/api/auth/jwks"

    def sign_up(self, email: str) -> User:
        response = httpx.post(
            f"{self.issuer}/api/auth/sign-up/email",
            json={"email": email, "name": email, "password": "correct horse"},
            verify=NO_TLS,
        )
        user = response.raise_for_status().json()["user"]
        return User(user["id"], self.issuer, response.cookies)


def key_id(token: str) -> str:
    header = token.partition(".")[0]
    kid: str = json.loads(urlsafe_b64decode(header + "=="))["kid"]
    return kid


def install_better_auth(folder: Path) -> Path:
    """Install the server into an empty folder, or skip the test if Node is too old."""
    said = subprocess.run([tool("node"), "--version"], check=True, capture_output=True, text=True)
    version = said.stdout.strip().removeprefix("v")
    if tuple(map(int, version.split(".")[:2])) < OLDEST_NODE:
        pytest.skip("Better Auth needs Node {}.{}, not {}".format(*OLDEST_NODE, version))
    for name in ("package.json", "package-lock.json", "server.mjs"):
        shutil.copy(HERE / name, folder)
    install(tool("npm"), "ci", folder=folder)
    return folder


@contextmanager
def better_auth(
    installed: Path, *, port: int | None = None, **jwt_options: object
) -> Iterator[BetterAuth]:
    """Run a server without lasting data; the options are those of Better Auth's JWT plugin.

    As in `jwks={"rotationInterval": 1, "gracePeriod": 0}, jwt={"audience": "tasks"}`, in seconds.
    """
    port = port or free_port()
    issuer = f"http://127.0.0.1:{port}"
    log_file = installed / f"{port}.log"
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            [tool("node"), "server.mjs"],
            cwd=installed,
            env={
                "BETTER_AUTH_SECRET": secrets.token_hex(32),
                "BETTER_AUTH_URL": issuer,
                "JWT_OPTIONS": json.dumps(jwt_options),
                "PORT": str(port),
            },
            stdout=log,
            stderr=log,
        )
    try:
        if not eventually(lambda: _answers(issuer), seconds=30):
            raise RuntimeError(f"Better Auth did not come up:\n{log_file.read_text()}")
        yield BetterAuth(issuer)
    finally:
        process.terminate()
        process.wait(timeout=30)


def _answers(issuer: str) -> bool:
    try:
        return httpx.get(f"{issuer}/api/auth/ok", verify=NO_TLS).status_code == 200
    except httpx.TransportError:
        return False
