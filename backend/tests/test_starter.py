"""For a test, a forked service is like a service that a new Python runs."""

import os
import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from tests.serving import COMMAND, SERVICE, eventually, serving, started


@pytest.mark.parametrize("command", [SERVICE, COMMAND], ids=["forked", "started"])
def test_a_service_that_cannot_start_ends_with_its_status(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    with started(tmp_path / "log", command, WORKERS="none") as server:
        assert server.process.wait(timeout=30) == 3
        assert server.process.poll() == server.process.returncode == 3

    assert server.log.startswith("The service cannot start. WORKERS: must be a valid integer")


@pytest.mark.parametrize("command", [SERVICE, COMMAND], ids=["forked", "started"])
def test_a_service_that_a_signal_ends_is_a_zombie_until_its_status_is_read(
    postgres: str, tmp_path: Path, command: tuple[str, ...]
) -> None:
    with serving(tmp_path / "log", command, DATABASE_URL=postgres) as server:
        process = psutil.Process(server.process.pid)
        assert process.cwd() == str(Path(__file__).parent.parent)
        assert os.getsid(process.pid) == os.getpgid(process.pid) == process.pid
        assert server.process.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            server.process.wait(timeout=0.01)

        process.kill()
        assert eventually(lambda: process.status() == psutil.STATUS_ZOMBIE)
        assert server.process.wait(timeout=5) == -signal.SIGKILL
        assert not psutil.pid_exists(process.pid)
