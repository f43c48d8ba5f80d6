"""What is in the Dockerfile's image, and how the image runs: `make image`."""

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPResponse
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import psutil
import pytest

from tests.conftest import tool
from tests.faults.gate import gate
from tests.pgbouncer import host
from tests.serving import BACKEND, Server, free_port, serving
from tests.tasks import create, listed, tasks_path
from tests.tokens import SECRET, TokenOfThePath, token

BASE = os.environ.get("BASE_IMAGE", "")
NOBODY = 65534

pytestmark = pytest.mark.skipif(not BASE, reason="needs the base that `make image` builds")


@dataclass
class Image:
    files: Path
    config: dict[str, Any]

    def command(self, *command: str, **settings: str) -> list[str]:
        """Return a command that runs another command of the image as a container would.

        The other command is the first process, and runs as the image's user.
        """
        user, group = self.config["User"].split(":")
        isolated = ("--pid", "--fork", "--kill-child", "--mount-proc", f"--root={self.files}")
        place = (f"--wd={self.config['WorkingDir']}", f"--setuid={user}", f"--setgid={group}")
        variables = [*self.config["Env"], *(f"{name}={text}" for name, text in settings.items())]
        return [
            str(tool("unshare")),
            *isolated,
            *place,
            "env",
            "--ignore-environment",
            *variables,
            *command,
        ]


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    """The Dockerfile's image, built in a folder that also has a developer's own files."""
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        storage = (f"--root={folder}/root", f"--runroot={folder}/run", "--storage-driver=vfs")

        def buildah(*arguments: str | Path) -> str:
            command = [tool("buildah"), *storage, *arguments]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
            return done.stdout.strip()

        backend = folder / "backend"
        shutil.copytree(BACKEND, backend, ignore=shutil.ignore_patterns(".*", "benchmarks"))
        shutil.copy(BACKEND / ".dockerignore", backend)
        for name in (".env", ".data/postgres/base", "src/__pycache__/main.cpython-39.pyc"):
            unwanted = backend / name
            unwanted.parent.mkdir(parents=True, exist_ok=True)
            unwanted.write_text("what no image may have")

        base = buildah("from", "scratch")
        buildah("add", base, BASE, "/")
        buildah("commit", "--rm", base, _base_of(backend / "Dockerfile"))
        options = ("--isolation=chroot", "--format=docker", "--pull-never", "--tag=task-api")
        buildah("build", *options, backend)
        described = json.loads(buildah("inspect", "--type=image", "task-api"))
        files = buildah("mount", buildah("from", "task-api"))
        yield Image(Path(files), described["Docker"]["config"])


def _base_of(dockerfile: Path) -> str:
    name = dockerfile.read_text().split()[1]
    return f"docker.io/library/{name}"


@contextmanager
def contained(image: Image, postgres: str, log: Path, **settings: str) -> Iterator[Server]:
    """Run the image's own command, on a port of this machine."""
    port = str(free_port())
    with gate(host(postgres)) as database:
        settings |= {"DATABASE_URL": database.url, "AUTH_SECRET": SECRET, "PORT": port}
        command = image.command(*image.config["Cmd"], DRAIN_SECONDS="1", **settings)
        with serving(log, command, PORT=port) as server:
            server.auth = TokenOfThePath()
            yield server


def test_the_image_has_the_service_and_nothing_else(image: Image) -> None:
    ours = {path for path in files_of(BACKEND, "src") if "__pycache__" not in path.parts}
    found = files_of(image.files / "app", ".")
    compiled = {path for path in found if path.suffix == ".pyc"}

    assert found - compiled == {Path("requirements.txt"), *ours}
    assert len(compiled) == len([path for path in ours if path.suffix == ".py"])
    for name in ("root/.cache", "usr/bin/gcc", "usr/bin/cc", "usr/bin/make"):
        assert not (image.files / name).exists()


def files_of(folder: Path, part: str) -> set[Path]:
    return {path.relative_to(folder) for path in (folder / part).rglob("*") if path.is_file()}


def test_the_image_adds_little_to_its_base(image: Image) -> None:
    size = sum(path.lstat().st_size for path in image.files.rglob("*") if path.is_file())

    assert size - Path(BASE).stat().st_size < 160e6


def test_the_images_user_can_write_to_nothing_in_it(image: Image) -> None:
    for path in (image.files / "app").rglob("*"):
        assert path.stat().st_uid == 0
        assert not path.stat().st_mode & 0o022


def test_the_image_serves_on_every_address_and_not_as_root(
    image: Image, postgres: str, user: str, tmp_path: Path
) -> None:
    with contained(image, postgres, tmp_path / "log") as server:
        [process] = psutil.Process(server.process.pid).children()
        assert set(process.uids()) | set(process.gids()) == {NOBODY}
        with server.client() as api:
            task = create(api, user)
            assert listed(api, user) == [task]
        elsewhere = server.url.replace("127.0.0.1", "127.0.0.2")
        assert httpx.get(f"{elsewhere}/health/live").status_code == 200


def test_the_images_health_check_says_whether_the_service_lives(
    image: Image, postgres: str, tmp_path: Path
) -> None:
    kind, *command = image.config["Healthcheck"]["Test"]
    with contained(image, postgres, tmp_path / "log") as server:
        port = server.url.rsplit(":", 1)[1]
        check = image.command(*command, PORT=port)
        assert kind == "CMD"
        assert subprocess.run(check, check=False).returncode == 0
        server.stop()
        assert subprocess.run(check, stderr=subprocess.DEVNULL, check=False).returncode == 1


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_image_stops_gently_and_in_order(
    image: Image, postgres: str, user: str, tmp_path: Path, workers: str
) -> None:
    body = b'{"title": "Buy milk"}'
    head = f"POST {tasks_path(user)} HTTP/1.1\r\nHost: localhost\r\n"
    head += f"Authorization: Bearer {token(user)}\r\nContent-Type: application/json\r\n"
    with contained(image, postgres, tmp_path / "log", WORKERS=workers) as server:
        [process] = psutil.Process(server.process.pid).children()
        with socket.create_connection(("127.0.0.1", int(server.url.rsplit(":", 1)[1]))) as client:
            client.sendall(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body))
            time.sleep(0.5)  # until the request is under way
            began = time.monotonic()
            process.terminate()
            time.sleep(0.5)  # until the service has got the signal
            client.sendall(body)
            answer = HTTPResponse(client)
            answer.begin()
            assert answer.status == 201
        assert server.process.wait(timeout=30) == 0
        assert time.monotonic() - began < 5


def test_the_image_does_not_start_open_to_everybody(image: Image, postgres: str) -> None:
    command = image.command(*image.config["Cmd"], DATABASE_URL=postgres)

    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)

    assert ended.returncode == 3
    assert "set AUTH_JWKS_URL or AUTH_SECRET" in ended.stderr
