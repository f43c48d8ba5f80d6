"""When a few clients ask for so much that others might starve."""

import asyncio
import statistics
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from src.config import Settings
from src.framework.web.problems import RETRY_AFTER_SECONDS
from tests.faults.cluster import Cluster
from tests.faults.conftest import Report
from tests.faults.load import Client, Figures, clients, connected, message, on_and_on
from tests.serving import serving
from tests.tasks import tasks_path

SEARCHES = (
    "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%convert_to(%'"
    " AND pid <> pg_backend_pid()"
)
POOL_SIZE = Settings.model_fields["database_pool_size"].default
GREEDY = 20
NEARLY_THERE = "a" * 499 + "b"


TWENTY_OF_OTHERS = (
    "INSERT INTO tasks SELECT gen_random_uuid(), 'other', 'Task ' || n, NULL, false, now(), now()"
    " FROM generate_series(1, 20) n; ANALYZE tasks"
)


@dataclass
class Watched:
    """Answer times of other clients meanwhile: of lists of 20, and of readiness."""

    figures: Figures = field(default_factory=Figures)
    lists: list[float] = field(default_factory=list)
    ready: list[float] = field(default_factory=list)

    def add(self, other: "Watched") -> None:
        self.figures.answers += other.figures.answers
        self.figures.slowest = max(self.figures.slowest, other.figures.slowest)
        self.lists += other.lists
        self.ready += other.ready

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


@pytest.mark.parametrize("users", [1, GREEDY])
@pytest.mark.anyio
async def test_20_clients_with_hard_searches_leave_other_clients_their_share(
    own: Cluster, tmp_path: Path, report: Report, full: bool, users: int
) -> None:
    seconds, turns = (2, 5) if full else (1, 1)
    searches, ordinary = Figures(), Figures()
    beside_lists: list[Watched] = []
    beside: list[Watched] = []
    at_once: list[int] = []
    with serving(tmp_path / "log", DATABASE_URL=own.url) as server:
        async with connected(own.url) as admin:
            await admin.execute(
                "INSERT INTO tasks SELECT gen_random_uuid(), 'greedy-' || u, 'Task',"
                " repeat('a', 5000), false, now(), now()"
                f" FROM generate_series(0, {users - 1}) u, generate_series(1, 2500);"
                f"{TWENTY_OF_OTHERS}"
            )

        async def list_tasks(number: int, client: Client) -> None:
            await client.request("GET", f"{tasks_path(f'greedy-{number % users}')}?limit=20")

        async def search(number: int, client: Client) -> None:
            path = f"{tasks_path(f'greedy-{number % users}')}?q={NEARLY_THERE}"
            await client.request("GET", path)

        async with (
            clients(server.url, searches, GREEDY) as greedy,
            clients(server.url, ordinary, GREEDY) as modest,
        ):
            await watched(server.url, 1)
            for _ in range(turns):  # the machine may change its speed
                async with on_and_on(modest, list_tasks):
                    beside_lists.append(await watched(server.url, seconds))
                async with on_and_on(greedy, search):
                    await asyncio.sleep(0.5)
                    counting = asyncio.create_task(searches_at_once(own.url))
                    beside.append(await watched(server.url, seconds))
                    counting.cancel()
                    at_once.append(await counting)
    others = Watched()
    for each in beside:
        others.add(each)
    times = statistics.median(
        busy.p99 / usual.p99 for busy, usual in zip(beside, beside_lists, strict=True)
    )
    others.figures.note = (
        f"{users} users, {searches.answers.total()} searches; others' p99 {others.p99:.3f} s, "
        f"{times:.1f} times what it is beside as many lists of 20; "
        f"readiness {max(others.ready):.3f} s at most"
    )
    report(others.figures)

    assert set(others.figures.answers) == {"200"}
    assert set(searches.answers) == {"200"}
    assert set(at_once) == {POOL_SIZE // 2}
    # Only `make faults` has the machine to itself.
    assert times < 3 or not full
    assert max(others.ready) < 0.5


async def searches_at_once(database: str) -> int:
    """Count the searches that run in PostgreSQL until cancelled; return the most frequent number.

    PostgreSQL lists its sessions one after another, so a single count may include a search that
    ended and the search that began in its place.
    """
    numbers: list[int] = []
    async with connected(database) as admin:
        with suppress(asyncio.CancelledError):
            while True:
                numbers.append(await admin.fetchval(SEARCHES))
                await asyncio.sleep(0.002)
    return statistics.mode(numbers)


READERS = 20
LISTS = {
    "200,000 tasks of 20 users": (200_000, READERS, "'Two litres, whole ' || md5(n::text)"),
    "1,000 tasks of 20 KB of one user": (1000, 1, "repeat('💡', 5000)"),
}


@pytest.mark.slow
@pytest.mark.parametrize(("number", "users", "description"), LISTS.values(), ids=LISTS)
@pytest.mark.anyio
async def test_20_clients_that_do_not_read_cost_other_clients_little(
    own: Cluster, tmp_path: Path, report: Report, number: int, users: int, description: str
) -> None:
    """The clients request a long list, and read only its beginning."""
    with serving(tmp_path / "log", DATABASE_URL=own.url) as server:
        async with connected(own.url) as admin:
            await admin.execute(
                "INSERT INTO tasks SELECT gen_random_uuid(), 'reader-' || u, 'Task ' || n,"
                f" {description}, false, now() + n * interval '1 second', now()"
                f" FROM generate_series(0, {users - 1}) u, generate_series(1, {number}) n;"
                f"{TWENTY_OF_OTHERS}"
            )
        service = psutil.Process(server.process.pid)
        await watched(server.url, 1)
        alone = await watched(server.url, 5)
        asked = asyncio.create_task(ask_and_not_read(server.url, users))
        beside = await watched(server.url, 1)
        memory = [service.memory_info().rss]
        while not asked.done():
            beside.add(await watched(server.url, 0.2))
            memory.append(service.memory_info().rss)
        writers = await asked
        left = service.memory_info().rss / 2**20
        beside.add(await watched(server.url, 5))
        for writer in writers:
            writer.close()
    others = beside.figures
    others.note = (
        f"memory {max(memory) / 2**20:.0f} MB at most, {left:.0f} MB with all {READERS} waiting; "
        f"others' p99 {beside.p99:.3f} s, {alone.p99:.3f} s without"
    )
    report(others)

    assert set(others.answers) == {"200"}
    assert max(memory) < 250 * 2**20
    assert beside.p99 < 0.1


async def ask_and_not_read(url: str, users: int) -> list[asyncio.StreamWriter]:
    """Send all requests at once, retry on 503, and read the beginning of each answer."""
    address = urlsplit(url)

    async def ask(number: int) -> asyncio.StreamWriter:
        while True:
            reader, writer = await asyncio.open_connection(address.hostname, address.port)
            writer.write(message("GET", tasks_path(f"reader-{number % users}")))
            if (await reader.readline()).startswith(b"HTTP/1.1 200"):
                return writer
            writer.close()
            await asyncio.sleep(RETRY_AFTER_SECONDS)

    return await asyncio.gather(*map(ask, range(READERS)))
