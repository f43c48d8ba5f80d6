"""When PostgreSQL is not there as the service starts."""

import asyncio
import signal
import time
from itertools import pairwise
from pathlib import Path

import pytest

from tests.faults.cluster import Cluster
from tests.faults.conftest import Report
from tests.faults.load import Figures, answers_again
from tests.serving import eventually, free_port, started

NOBODY = "postgresql://ada:secret@127.0.0.1:{port}/tasks?sslmode=disable"


def test_an_absent_database_is_retried_with_growing_pauses_and_then_reported(
    tmp_path: Path,
) -> None:
    url = NOBODY.format(port=free_port())
    began = time.monotonic()
    with started(tmp_path / "log", DATABASE_URL=url, DATABASE_WAIT_SECONDS="2") as server:
        assert server.process.wait(timeout=30) == 3
    waited = time.monotonic() - began

    waits = [line for line in server.log.splitlines() if "WARNING Waiting" in line]
    left = [float(line.split("Waiting ")[1].split(" s more")[0]) for line in waits]
    pauses = [before - after for before, after in pairwise(left)]
    assert waited > 2
    assert len(waits) == 4
    assert pauses == sorted(pauses)
    assert all(line.endswith(")") for line in waits)
    [sentence] = [line for line in server.log.splitlines() if "The service cannot start" in line]
    assert "The database cannot be reached" in sentence
    assert sentence.endswith("check DATABASE_URL.")
    assert "Traceback" not in server.log
    assert "secret" not in server.log


@pytest.mark.anyio
async def test_a_service_serves_as_soon_as_a_late_database_is_up(
    own: Cluster, tmp_path: Path, report: Report
) -> None:
    own.stop()
    with started(
        tmp_path / "log", DATABASE_URL=own.url, DATABASE_WAIT_SECONDS="30", WORKERS="2"
    ) as server:
        assert eventually(lambda: server.log.count("Waiting") >= 4)
        await asyncio.to_thread(own.start)
        recovered = await answers_again(server.url, since=time.monotonic())
    report(Figures(recovered=recovered, note="the service started before its database"))

    assert recovered < 5
    assert "Traceback" not in server.log


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_wait_for_a_database(tmp_path: Path, number: signal.Signals) -> None:
    url = NOBODY.format(port=free_port())
    with started(tmp_path / "log", DATABASE_URL=url, DATABASE_WAIT_SECONDS="3600") as server:
        assert eventually(lambda: "Waiting" in server.log)
        assert server.stop(number) != 0

    assert "The service was stopped while it waited for the database" in server.log
    assert "Traceback" not in server.log


def test_the_start_does_not_wait_for_a_wrong_database_user(own: Cluster, tmp_path: Path) -> None:
    url = own.url.replace("postgres:@", "nobody:secret@")
    with started(tmp_path / "log", DATABASE_URL=url, DATABASE_WAIT_SECONDS="3600") as server:
        assert server.process.wait(timeout=30) == 3

    assert 'role "nobody" does not exist' in server.log
    assert "Waiting" not in server.log
