"""Many streams of events on one worker."""

import asyncio
import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from random import random

import psutil
import pytest

from tests.faults.cluster import Cluster
from tests.faults.conftest import Report
from tests.faults.load import Figures, connected
from tests.faults.test_share import TWENTY_OF_OTHERS, watched
from tests.serving import eventually, free_port, serving
from tests.streams import Reader

MOST_KIB = 25
"""How much memory a stream may take."""


async def read_on(reader: Reader) -> None:
    """Come back when the stream ends, as a browser does."""
    while True:
        with suppress(OSError):
            await reader.read()
        await asyncio.sleep(1 + 4 * random())


async def all_open(readers: list[Reader]) -> float:
    """Wait until every stream is open; return how long it took."""
    began = time.monotonic()
    async with asyncio.timeout(60):
        await asyncio.gather(*(reader.is_open.wait() for reader in readers))
    return time.monotonic() - began


@pytest.mark.usefixtures("many_files")
@pytest.mark.anyio
async def test_many_streams_on_one_worker_cost_little_and_come_back(
    own: Cluster, tmp_path: Path, report: Report, full: bool
) -> None:
    number, seconds = (5000, 10.0) if full else (200, 1.0)
    port = str(free_port())
    with serving(tmp_path / "log", DATABASE_URL=own.url, PORT=port, DRAIN_SECONDS="0") as server:
        async with connected(own.url) as admin:
            await admin.execute(TWENTY_OF_OTHERS)
        await watched(server.url, 1)
        without = await watched(server.url, seconds)
        process = psutil.Process(server.process.pid)
        before = process.memory_info().rss
        readers = [Reader(server.url, f"user-{n}") for n in range(number)]
        reading = [asyncio.create_task(read_on(reader)) for reader in readers]
        opened = await all_open(readers)
        kib = (process.memory_info().rss - before) / 1024 / number
        beside = await watched(server.url, seconds)
        told = time.monotonic()
        os.killpg(server.process.pid, signal.SIGTERM)
        await asyncio.to_thread(server.process.wait, 30)

        def none_is_open() -> bool:
            return not any(reader.is_open.is_set() for reader in readers)

        assert await asyncio.to_thread(eventually, none_is_open)
        stopped = max(reader.ended_at for reader in readers) - told
        assert "Traceback" not in server.log
    with serving(tmp_path / "again", DATABASE_URL=own.url, PORT=port, DRAIN_SECONDS="0"):
        back = await all_open(readers)
        async with connected(own.url) as admin:
            await admin.execute(
                "INSERT INTO tasks SELECT gen_random_uuid(), 'user-' || n, 'Hear of it', NULL, "
                f"false, now(), now() FROM generate_series(0, {number - 1}) n"
            )
        written = time.monotonic()

        def all_have_heard() -> bool:
            return all("Hear of it" in reader.heard[-1] for reader in readers)

        assert await asyncio.to_thread(eventually, all_have_heard, 30)
        heard = time.monotonic() - written
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)
    figures = beside.figures
    figures.note = (
        f"{number} streams, opened in {opened:.1f} s, {kib:.0f} KiB each; others' p99 "
        f"{beside.p99:.3f} s, {without.p99:.3f} s without; all ended {stopped:.2f} s after "
        f"SIGTERM, were back in {back:.1f} s, and heard of a write for each in {heard:.1f} s"
    )
    report(figures)

    assert set(figures.answers) == {"200"}
    assert kib < MOST_KIB or not full
    assert beside.p99 < 2 * without.p99 + (0 if full else 0.05)
    assert stopped < (1 if full else 5)
    assert back < 10


@pytest.mark.anyio
async def test_a_stream_outlives_the_database_and_misses_nothing(
    own: Cluster, tmp_path: Path, report: Report
) -> None:
    figures = Figures()
    with serving(tmp_path / "log", DATABASE_URL=own.url) as server:
        stream = Reader(server.url, "ada")
        new = Reader(server.url, "ada")
        reading = [asyncio.create_task(stream.read())]
        await all_open([stream])
        own.stop()
        assert await asyncio.to_thread(eventually, lambda: server.status("/health/ready") == 503)
        # A client that comes now waits for the database, too.
        new.token = stream.token
        reading.append(asyncio.create_task(new.read()))
        own.start()
        began = time.monotonic()
        async with connected(own.url) as admin:
            await admin.execute(
                "INSERT INTO tasks VALUES (gen_random_uuid(), 'ada', 'Hear of it', NULL, false, "
                "now(), now())"
            )

        def both_have_heard() -> bool:
            return all(
                "Hear of it" in "".join(reader.heard) and reader.is_open.is_set()
                for reader in (stream, new)
            )

        assert await asyncio.to_thread(eventually, both_have_heard, 30)
        figures.recovered = time.monotonic() - began
        assert server.log.count("Streams wait for the database") == 1
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)
    figures.note = "two streams stayed open, and heard of the change"
    report(figures)
