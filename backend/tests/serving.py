"""Real servers for tests: the service in its own process."""

import json
import os
import random
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile

import httpx
import psutil

from src.config import Settings
from tests import starter

BACKEND = Path(__file__).resolve().parent.parent
COMMAND = (sys.executable, "-m", "src")
FORKED = "forked"
"""The first word of a command for `tests.starter`. A module and its arguments follow."""
SERVICE = (FORKED, "src")
PLAIN = (FORKED, "tests.plain")
"""The command of a service without the fast path."""

FRONTEND_ORIGIN = "http://localhost:3000"

# Every setting has its default: an empty variable counts as unset, and hides a developer's .env.
DEFAULTS = dict.fromkeys([*map(str.upper, Settings.model_fields), "BETTER_AUTH_SECRET"], "")

# With DATABASE_URL, only AUTH_MODE opens a service. Tests have no time to wait for a database or
# for clients.
SETTINGS = DEFAULTS | {"AUTH_MODE": "open", "DATABASE_WAIT_SECONDS": "0", "DRAIN_SECONDS": "0"}

READ_LATE = {*DEFAULTS, "SSL_CERT_FILE", "TMPDIR"}
"""The variables that no module reads while Python imports the service and its libraries."""

NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For clients without TLS: httpx takes 20 ms to make a context for each client."""


def kill_all(processes: list[psutil.Process]) -> None:
    """End processes as a crash does. When PostgreSQL's first process ends, its others end, too."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()


@dataclass
class Server:
    url: str
    process: starter.Process
    log_file: Path
    auth: httpx.Auth | None = None
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def log(self) -> str:
        return self.log_file.read_text()

    def client(self, timeout: float = 10) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=timeout, auth=self.auth, verify=NO_TLS)

    def async_client(self, timeout: float = 60) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.url, timeout=timeout, auth=self.auth, verify=NO_TLS)

    def status(self, path: str) -> int | None:
        """Return the status of the answer for a path, or None if nobody answers."""
        try:
            return httpx.get(f"{self.url}{path}", verify=NO_TLS).status_code
        except httpx.TransportError:
            return None

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Signal the whole group, as Ctrl-C in a terminal does, and wait for the process."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, number)
        return self.process.wait(timeout=30)


def workers_of(pid: int) -> list[psutil.Process]:
    """The workers that run, without the other processes that `multiprocessing` starts."""
    supervisor = psutil.Process(pid)
    with supervisor.oneshot():
        return [child for child in supervisor.children() if _is_worker(child)]


def _is_worker(child: psutil.Process) -> bool:
    try:
        is_alive = child.status() != psutil.STATUS_ZOMBIE
        named = child.name() == starter.WORKER or "spawn_main" in " ".join(child.cmdline())
    except psutil.NoSuchProcess:  # the child ended meanwhile
        return False
    return is_alive and named


def free_port() -> int:
    """Return a port that no program gets by asking the system for any free port."""
    while True:
        # Hypothesis gives each process the same seed.
        port = random.SystemRandom().randint(15_000, 30_000)
        with socket.socket() as listener, suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port


def environment(**settings: str) -> dict[str, str]:
    # Leave out the variables that `make test` passes to its children.
    inherited = {
        name: value for name, value in os.environ.items() if "MAKE" not in name and name != "ARGS"
    }
    return inherited | SETTINGS | settings


def eventually(holds: Callable[[], bool], seconds: float = 30) -> bool:
    """Wait until the condition holds. Return False if it does not hold in time.

    The time is enough for a busy machine.
    """
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def start(
    command: Sequence[str], settings: Mapping[str, str], output: int, errors: int
) -> starter.Process:
    first, *module = command
    if first == FORKED:
        if {*settings} <= READ_LATE and sys.platform == "linux":
            return starter.fork(module, environment(**settings), output, errors)
        command = (sys.executable, "-m", *module)
    return subprocess.Popen(
        command,
        cwd=BACKEND,
        env=environment(**settings),
        stdout=output,
        stderr=errors,
        start_new_session=True,
    )


@contextmanager
def started(log_file: Path, command: Sequence[str] = SERVICE, **settings: str) -> Iterator[Server]:
    """Start the service, and do not wait until the service is ready.

    With `SERVICE`, a process that has imported most modules forks the service. With `COMMAND`, a
    new Python starts.
    """
    port = settings["PORT"] = settings.get("PORT") or str(free_port())
    with log_file.open("wb") as log:
        process = start(command, settings, log.fileno(), log.fileno())
    url = f"http://127.0.0.1:{port}"
    server = Server(url, process, log_file, environment=environment(**settings))
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def serving(log_file: Path, command: Sequence[str] = SERVICE, **settings: str) -> Iterator[Server]:
    """Start the service as `started` does, and wait until the service is ready."""
    with started(log_file, command, **settings) as server:
        wait_until_ready(server)
        yield server


def ran(*module: str, **settings: str) -> tuple[int, str]:
    """Run a module with its arguments. Return the exit status and the output."""
    with TemporaryFile() as said:
        process = starter.fork(module, environment(**settings), said.fileno(), said.fileno())
        status = process.wait(timeout=60)
        said.seek(0)
        return status, said.read().decode()


def with_limits(app: str = "src.main:app", /, **limits: float) -> tuple[str, ...]:
    """Return the command of a service with other limits: tests need not reach the real limits.

    For example, `events_CHECK_SECONDS` is the constant `CHECK_SECONDS` of the module that
    `tests.limited` calls `events`.
    """
    return (FORKED, "tests.limited", app, json.dumps(limits))


def wait_until_ready(server: Server, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while server.status("/health/ready") != 200:
        if server.process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"The service did not come up:\n{server.log}")
        time.sleep(0.05)
