"""The servers to compare, each in its own process, with the same database and pool size."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

HERE = Path(__file__).parent
BACKEND = HERE.parent
POOL_SIZE = 16
FASTIFYS_NODE = 20
VENV = BACKEND / ".venv"
DRF_VENV = BACKEND / ".venv-drf"


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

    def memory(self) -> float:
        """Resident MB of the largest of the process and its children."""
        family = [self.process, *self.process.children(recursive=True)]
        return max(process.memory_info().rss for process in family) / 1e6

    def peak_memory(self) -> float:
        """Peak resident MB of the process. Linux only."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        [kilobytes] = re.findall(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
        return int(kilobytes) / 1000


def ours(workers: int = 1, settings: dict[str, str] | None = None) -> Peer:
    return Peer(
        "this service" if workers == 1 else f"this service, {workers} workers",
        lambda _port: [sys.executable, "-m", "src"],
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


def build() -> list[Peer]:
    """Install what the peers need; skip those whose language is not installed."""
    peers = [ours(), IDIOMATIC]
    if shutil.which("npm") and _node() >= FASTIFYS_NODE:
        subprocess.run(["npm", "ci", "--silent"], cwd=FASTIFY.folder, check=True)
        peers.append(FASTIFY)
    if not DRF_VENV.exists():
        subprocess.run([sys.executable, "-m", "venv", DRF_VENV], check=True)
        requirements = DRF.folder / "requirements.txt"
        subprocess.run(
            [DRF_VENV / "bin" / "pip", "install", "--quiet", "-r", requirements], check=True
        )
    peers.append(DRF)
    return peers


def _node() -> int:
    said = subprocess.run(["node", "--version"], check=True, capture_output=True, text=True).stdout
    return int(said.removeprefix("v").split(".")[0])


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
