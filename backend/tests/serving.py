"""Real servers for tests: the service in its own process."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

BACKEND = Path(__file__).resolve().parent.parent
COMMAND = (sys.executable, "-m", "src")
FRONTEND_ORIGIN = "http://localhost:3000"

# Every setting that a developer's own .env could change.
SETTINGS = {
    "AUTH_AUDIENCE": "",
    "AUTH_ISSUER": "",
    "AUTH_JWKS_URL": "",
    "AUTH_MODE": "open",
    "AUTH_SECRET": "",
    "AUTH_USER_CLAIM": "sub",
    "BETTER_AUTH_SECRET": "",
    "CORS_ORIGINS": FRONTEND_ORIGIN,
    "DATABASE_POOL_SIZE": "10",
    "DATABASE_URL": "",
    "DATABASE_WAIT_SECONDS": "0",
    "DRAIN_SECONDS": "0",
    "HOST": "127.0.0.1",
    "LOG_FORMAT": "text",
    "LOG_LEVEL": "info",
    "WORKERS": "1",
}


@dataclass
class Server:
    url: str
    process: subprocess.Popen[bytes]
    log_file: Path
    auth: httpx.Auth | None = None

    @property
    def log(self) -> str:
        return self.log_file.read_text()

    def client(self, timeout: float = 10) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=timeout, auth=self.auth)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Signal the whole group, as Ctrl-C in a terminal does, and wait for the process."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, number)
        return self.process.wait(timeout=30)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def environment(**settings: str) -> dict[str, str]:
    # Without the variables that `make test` passes to its children.
    inherited = {name: value for name, value in os.environ.items() if "MAKE" not in name}
    return inherited | SETTINGS | settings


def eventually(holds: Callable[[], bool], seconds: float = 10) -> bool:
    """Wait until the condition holds; return False if it does not in time."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@contextmanager
def started(log_file: Path, command: Sequence[str] = COMMAND, **settings: str) -> Iterator[Server]:
    """Start the service, without waiting until it is ready."""
    port = settings.setdefault("PORT", str(free_port()))
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=BACKEND,
            env=environment(**settings),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    server = Server(f"http://127.0.0.1:{port}", process, log_file)
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def serving(log_file: Path, command: Sequence[str] = COMMAND, **settings: str) -> Iterator[Server]:
    """Start the service and wait until it is ready."""
    with started(log_file, command, **settings) as server:
        wait_until_ready(server)
        yield server


def wait_until_ready(server: Server, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not _is_ready(server):
        if server.process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"The service did not come up:\n{server.log}")
        time.sleep(0.05)


def _is_ready(server: Server) -> bool:
    try:
        return httpx.get(f"{server.url}/health/ready").status_code == 200
    except httpx.TransportError:
        return False
