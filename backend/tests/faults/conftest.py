import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import pytest

from tests.faults.cluster import Cluster, cluster
from tests.faults.load import Figures
from tests.serving import Server, eventually, free_port, serving, started
from tests.tasks import tasks_path

Report: TypeAlias = Callable[[Figures], None]


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Cluster]:
    """A PostgreSQL of the test's own, to be stopped and killed."""
    with cluster(tmp_path / "data") as own:
        yield own


@contextmanager
def idiomatic(own: Cluster, log: Path, workers: int = 1) -> Iterator[Server]:
    """Start the usual alternative to the service, to show that the alternative fails here."""
    port = str(free_port())
    command = [sys.executable, "-m", "uvicorn", "idiomatic:app", "--app-dir", "benchmarks/peers"]
    command += ["--no-access-log", "--port", port, "--workers", str(workers)]
    settings = {"DATABASE_URL": own.url, "POOL_SIZE": "10", "PORT": port}
    with serving(log.with_name("tables"), DATABASE_URL=own.url):
        pass
    with started(log, command, **settings) as server:
        assert eventually(lambda: server.status(tasks_path("ada")) == 200, seconds=30)
        yield server


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Report:
    """Add figures to the table of `make faults`."""

    def give(figures: Figures) -> None:
        plain = {**vars(figures), "answers": dict(figures.answers)}
        request.node.user_properties.append(("figures", plain))

    return give


@pytest.fixture
def many_files() -> Iterator[None]:
    """Raise this process's limit of open files: each client needs a connection."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limits[1], limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)
