"""The servers to compare, each in its own process, with the same database and pool size."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import psutil

HERE = Path(__file__).parent
BACKEND = HERE.parent
POOL_SIZE = 16
FASTIFYS_NODE = 20
VENV = BACKEND / ".venv"
DRF_VENV = BACKEND / ".venv-drf"
DEBIANS_GO = Path("/usr/share/gocode")
GO_LIBRARIES = ["github.com/go-chi/chi", "github.com/jackc/pgx/v4"]


@dataclass(frozen=True)
class Peer:
    name: str
    command: Callable[[int], list[str]]
    folder: Path
    settings: dict[str, str]


@dataclass(frozen=True)
class Running:
    url: str
    database_url: str
    process: psutil.Process
    started_in: float

    def family(self) -> list[psutil.Process]:
        """The process and its children."""
        return [self.process, *self.process.children(recursive=True)]

    def memory(self) -> float:
        """The resident memory of the largest process of the family, in MB."""
        return max(process.memory_info().rss for process in self.family()) / 1e6

    def processor_time(self) -> float:
        """The seconds of processor time of the family, in user mode and in the kernel."""
        times = [process.cpu_times() for process in self.family()]
        return sum(each.user + each.system for each in times)

    def processor_times_of_postgres(self) -> dict[int, float]:
        """The seconds of processor time that each process of PostgreSQL has used.

        The result is empty if PostgreSQL is not on this machine.
        """
        folder = parse_qs(urlsplit(self.database_url).query).get("host", [""])[0]
        seconds = {}
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.cwd() == folder:
                    times = process.cpu_times()
                    seconds[process.pid] = times.user + times.system
        return seconds

    def peak_memory(self) -> float:
        """The peak of the process's resident memory, in MB. This works only on Linux."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        [kilobytes] = re.findall(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
        return int(kilobytes) / 1000


def ours(workers: int = 1, settings: dict[str, str] | None = None, *, is_fast: bool = True) -> Peer:
    """Return this service. Without the fast path, FastAPI answers every request."""
    module = "src" if is_fast else "tests.plain"
    name = "this service" if is_fast else "this service without its fast path"
    return Peer(
        name if workers == 1 else f"{name}, {workers} workers",
        lambda _port: [sys.executable, "-m", module],
        BACKEND,
        {
            "AUTH_MODE": "open",
            "DATABASE_POOL_SIZE": str(POOL_SIZE // workers),
            "DRAIN_SECONDS": "0",
            "WORKERS": str(workers),
            **(settings or {}),
        },
    )


IDIOMATIC = Peer(
    "idiomatic FastAPI + SQLModel",
    lambda port: [
        str(Path(sys.executable).parent / "uvicorn"),
        "idiomatic:app",
        f"--port={port}",
        "--no-access-log",
    ],
    HERE / "peers",
    {},
)
FASTIFY = Peer(
    "Fastify + node-postgres", lambda _port: ["node", "server.js"], HERE / "peers" / "fastify", {}
)
DRF = Peer(
    "Django REST Framework",
    lambda port: [
        str(DRF_VENV / "bin" / "gunicorn"),
        "app:application",
        f"--bind=127.0.0.1:{port}",
        "--workers=1",
        f"--threads={POOL_SIZE}",
        "--keep-alive=60",
    ],
    HERE / "peers" / "drf",
    {},
)


GO = Peer("Go: chi + pgx", lambda _port: ["./server"], HERE / "peers" / "go", {})
BUN = Peer(
    "Bun: Hono + its SQL client",
    lambda _port: ["node_modules/.bin/bun", "server.js"],
    HERE / "peers" / "bun",
    {},
)
FAST = [FASTIFY, GO, BUN]


def build() -> list[Peer]:
    """Install what each peer needs. Leave out the peers that cannot be installed, and print why."""
    peers = [ours(), IDIOMATIC]
    for peer, install in [
        (FASTIFY, _install_fastify),
        (GO, _install_go),
        (BUN, _install_bun),
        (DRF, _install_drf),
    ]:
        try:
            install()
        except (OSError, LookupError, subprocess.CalledProcessError) as reason:
            print(f"Left out: {peer.name}: {reason}", file=sys.stderr)
        else:
            peers.append(peer)
    return peers


def _install_fastify() -> None:
    node = _said("node", "--version")
    if int(node.removeprefix("v").split(".")[0]) < FASTIFYS_NODE:
        raise LookupError(f"needs Node {FASTIFYS_NODE}, this is {node}")
    _run("npm", "ci", "--silent", folder=FASTIFY.folder)


def _install_bun() -> None:
    _run("npm", "ci", "--silent", folder=BUN.folder)
    # There is no Bun for some processors and C libraries.
    _said(str(BUN.folder / "node_modules" / ".bin" / "bun"), "--version")


def _install_go() -> None:
    """Build with libraries from Debian's packages. Go finds these only with its module mode off."""
    for library in GO_LIBRARIES:
        if not (DEBIANS_GO / "src" / library).is_dir():
            raise LookupError(f"needs Debian's package of {library}")
    settings = {"GO111MODULE": "off", "GOPATH": str(DEBIANS_GO)}
    _run("go", "build", "-o", "server", "main.go", folder=GO.folder, settings=settings)


def _install_drf() -> None:
    requirements = DRF.folder / "requirements.txt"
    if not (DRF_VENV / "bin" / "gunicorn").exists():
        _run(sys.executable, "-m", "venv", str(DRF_VENV))
        _run(str(DRF_VENV / "bin" / "pip"), "install", "--quiet", "-r", str(requirements))


def _run(*command: str, folder: Path = HERE, settings: dict[str, str] | None = None) -> None:
    environment = os.environ | (settings or {})
    subprocess.run(command, cwd=folder, env=environment, check=True)


def _said(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@contextmanager
def running(peer: Peer, database_url: str) -> Iterator[Running]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    began = time.monotonic()
    process = subprocess.Popen(
        peer.command(port),
        cwd=peer.folder,
        env=os.environ
        | {
            "DATABASE_URL": database_url,
            "LOG_FORMAT": "json",
            "LOG_LEVEL": "info",
            "POOL_SIZE": str(POOL_SIZE),
            "PORT": str(port),
            **peer.settings,
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        while not _answers(url):
            if process.poll() is not None or time.monotonic() > began + 60:
                raise RuntimeError(f"{peer.name} did not come up")
            time.sleep(0.01)
        yield Running(url, database_url, psutil.Process(process.pid), time.monotonic() - began)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=30)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/api/u0/tasks", timeout=5).status_code in {200, 401}
    except httpx.TransportError:
        return False
