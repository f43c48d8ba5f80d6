"""When nothing reads the service's output."""

import asyncio
import os
import signal
import time

import pytest

from tests.faults.cluster import Cluster
from tests.faults.conftest import Report
from tests.faults.load import Load
from tests.serving import wait_until_ready
from tests.test_output import LINES_LOST, ask, pipe, started_into


@pytest.mark.slow
@pytest.mark.anyio
async def test_unread_output_blocks_nothing(own: Cluster, report: Report) -> None:
    with (
        pipe() as (file, writing),
        started_into(writing, DATABASE_URL=own.url) as server,
    ):
        await asyncio.to_thread(wait_until_ready, server)
        for _ in range(20):  # until there is no room left
            ask(server, 1000)
        load = Load(server.url, own.url)
        async with load.under_way():
            await asyncio.sleep(10)
        figures = await load.audit()

        lines: list[str] = []
        while not lines or LINES_LOST.search(lines[-1]) is None:
            lines.append(file.readline().decode())
        counted = LINES_LOST.search(lines[-1])

        ask(server, 1000)
        began = time.monotonic()
        os.kill(server.process.pid, signal.SIGTERM)
        assert server.process.wait(timeout=30) == -signal.SIGTERM
        stopped = time.monotonic() - began
    lost = int(counted[1]) if counted else 0
    figures.note = f"{lost:,} lines lost and counted; stopped in {stopped:.1f} s"
    report(figures)

    assert set(figures.answers) <= {"200", "201"}
    assert figures.slowest < 2
    assert (figures.lost, figures.twice) == (0, 0)
    assert lost > sum(figures.answers.values())
    assert stopped < 5
