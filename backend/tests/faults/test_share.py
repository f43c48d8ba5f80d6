"""When some ask for so much that nothing might be left for others."""

import asyncio
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.faults.cluster import Cluster
from tests.faults.conftest import Report
from tests.faults.load import Client, Figures, clients, connected
from tests.serving import serving
from tests.tasks import tasks_path

GREEDY = 20
NEARLY_THERE = "a" * 499 + "b"


@dataclass
class Watched:
    """How others fare meanwhile: the seconds of each list of 20, and of each look at readiness."""

    figures: Figures = field(default_factory=Figures)
    lists: list[float] = field(default_factory=list)
    ready: list[float] = field(default_factory=list)

    @property
    def p99(self) -> float:
        return statistics.quantiles(self.lists, n=100)[98]


async def watched(url: str, seconds: float) -> Watched:
    watch = Watched()
    until = time.monotonic() + seconds

    async def ask(client: Client, path: str, taken: list[float]) -> None:
        while time.monotonic() < until:
            began = time.monotonic()
            await client.request("GET", path)
            taken.append(time.monotonic() - began)
            await asyncio.sleep(0.005)

    async with clients(url, watch.figures, 5) as [probe, *others]:
        await asyncio.gather(
            ask(probe, "/health/ready", watch.ready),
            *(ask(other, tasks_path("other"), watch.lists) for other in others),
        )
    return watch


async def ask_on_and_on(client: Client, path: str) -> None:
    while True:
        await client.request("GET", path)


@pytest.mark.parametrize("users", [1, GREEDY])
@pytest.mark.anyio
async def test_20_who_search_for_what_is_nearly_there_leave_others_their_share(
    own: Cluster, tmp_path: Path, report: Report, full: bool, users: int
) -> None:
    seconds = 10 if full else 2
    searches = Figures()
    with serving(tmp_path / "log", DATABASE_URL=own.url) as server:
        async with connected(own.url) as admin:
            await admin.execute(
                "INSERT INTO tasks SELECT gen_random_uuid(), 'greedy-' || u, 'Task',"
                " repeat('a', 5000), false, now(), now()"
                f" FROM generate_series(0, {users - 1}) u, generate_series(1, 2500);"
                "INSERT INTO tasks SELECT gen_random_uuid(), 'other', 'Task ' || n, NULL, false,"
                " now(), now() FROM generate_series(1, 20) n; ANALYZE tasks"
            )
        await watched(server.url, 1)
        alone = await watched(server.url, seconds)
        async with clients(server.url, searches, GREEDY) as greedy:
            paths = [f"{tasks_path(f'greedy-{n % users}')}?q={NEARLY_THERE}" for n in range(GREEDY)]
            asking = asyncio.gather(*map(ask_on_and_on, greedy, paths))
            await asyncio.sleep(0.5)
            beside = await watched(server.url, seconds)
            asking.cancel()
    others = beside.figures
    others.note = (
        f"{users} users, {searches.answers.total()} searches; others' p99 {beside.p99:.3f} s, "
        f"{alone.p99:.3f} s without; readiness {max(beside.ready):.3f} s at most"
    )
    report(others)

    assert set(others.answers) == {"200"}
    assert set(searches.answers) == {"200"}
    assert beside.p99 < 5 * alone.p99 + (0 if full else 0.05)
    assert max(beside.ready) < 0.5
