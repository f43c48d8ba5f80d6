"""A PostgreSQL that can be stopped, killed and started again."""

import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil

from src.framework.sql.embedded import embedded_server
from tests.serving import kill_all


class Cluster:
    def __init__(self, data_dir: Path, stack: ExitStack) -> None:
        self.data_dir = data_dir
        self.stack = stack
        self.url = ""

    def start(self) -> None:
        self.url = self.stack.enter_context(embedded_server(self.data_dir))

    def stop(self) -> None:
        """Shut down fast and end all sessions, as before the suspension of a serverless compute."""
        [postmaster, *_] = self._processes()
        postmaster.send_signal(signal.SIGINT)
        postmaster.wait(timeout=30)

    def kill(self) -> None:
        """End every process at once, as a crash of the machine does."""
        processes = self._processes()
        kill_all(processes)
        psutil.wait_procs(processes, timeout=10)

    def _processes(self) -> list[psutil.Process]:
        pid = int((self.data_dir / "postgres" / "postmaster.pid").read_text().split()[0])
        postmaster = psutil.Process(pid)
        return [postmaster, *postmaster.children()]


@contextmanager
def cluster(data_dir: Path) -> Iterator[Cluster]:
    with ExitStack() as stack:
        started = Cluster(data_dir, stack)
        started.start()
        yield started
