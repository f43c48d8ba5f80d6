"""`make bench`: measure the service and every peer in one run.

Each round measures one server after another. The medians of the rounds are compared: if the machine
slows down for some time, all servers slow down.
"""

import argparse
import asyncio
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar
from urllib.parse import parse_qs, urlsplit

import httpx
import uvloop

from benchmarks import contract, data, feed, load, peers, pgbench, report
from benchmarks.issuer import Issuer, sharing_a_secret, with_a_key_server
from benchmarks.load import Load, Row
from benchmarks.peers import Peer, Running
from benchmarks.proxy import proxy
from src.framework.sql.embedded import embedded_server
from src.framework.sql.engine import create_engine
from src.migrations import upgrade
from src.schemas.paging import cursor_text
from tests.citus import beside
from tests.pgbouncer import BUILT, pgbouncer

RESULTS = Path(__file__).parent / "results"
OPERATIONS = [
    "get one",
    "list 20",
    "list 100",
    "list 1,000",
    "create",
    "update",
    "toggle",
    "delete",
]
READS = {"get one", "list 20", "list 100", "list 1,000"}
ROWS = [Row(operation) for operation in OPERATIONS]
CONNECTIONS = [
    *(Row("get one", connections) for connections in (1, 2, 4, 8, 64)),
    *(Row(operation, 64) for operation in ("create", "update", "toggle")),
]
OF_ONE_USER = [  # this user has 100 tasks to change, and more tasks to delete
    *(
        Row(f"one user: {what}", connections)
        for what in ("create", "update", "toggle", "delete", "mix")
        for connections in (16, 64)
    ),
    Row("one user: toggle one", 64),
]
FLAT = [Row("get one"), Row("list 20"), Row("create")]
FAR = [Row("get one", 256), Row("create", 256), Row("create, new users", 256)]
FAR_POOL = 10
FAR_ROUNDS = 3
PEERS = "peers"
POOLERS = {"PgBouncer of Debian": "pgbouncer", "PgBouncer 1.24": str(BUILT)}
ONE_WAY = 0.02
GET_ONE = Row("get one")


T = TypeVar("T")


@dataclass(frozen=True)
class Size:
    rounds: int
    seconds: int
    one_user_seconds: int
    far_seconds: int
    long_seconds: int
    repeats: int
    """How many times one client sends the same request."""
    rows: int
    large_list: int
    operations: list[Row]
    connections: list[Row]
    one_user: list[Row]
    far: list[Row]


FULL = Size(
    rounds=7,
    seconds=1,
    one_user_seconds=3,
    far_seconds=3,
    long_seconds=5,
    repeats=20,
    rows=10_000_000,
    large_list=100_000,
    operations=ROWS,
    connections=CONNECTIONS,
    one_user=OF_ONE_USER,
    far=FAR,
)
QUICK = Size(
    rounds=1,
    seconds=1,
    one_user_seconds=1,
    far_seconds=1,
    long_seconds=1,
    repeats=2,
    rows=40_000,
    large_list=2_000,
    operations=[Row(name) for name in ("list 1,000", "create", "delete")],
    connections=[Row("toggle", 64)],
    one_user=[Row("one user: mix", 64)],
    far=FAR[:1],
)


class Progress:
    """A progress bar on one line of the terminal."""

    def __init__(self, steps: int) -> None:
        self.steps, self.done = steps, 0

    def step(self, what: str) -> None:
        filled = 30 * self.done // self.steps
        bar = "█" * filled + "░" * (30 - filled)
        print(f"\r{bar} {self.done}/{self.steps}  {what:<60}", end="", file=sys.stderr, flush=True)
        self.done += 1


def median(loads: Iterable[Load]) -> Load:
    together = list(loads)
    return Load(
        statistics.median(one.rate for one in together),
        statistics.median(one.p50 for one in together),
        statistics.median(one.p99 for one in together),
        statistics.median(one.processor for one in together),
        statistics.median(one.by_postgres for one in together),
        statistics.median(one.behind for one in together),
    )


def measure(
    servers: Mapping[str, Running | Sequence[Running]],
    rows: list[Row],
    size: Size,
    progress: Progress,
    *,
    users: int = data.SMALL_USERS,
) -> report.Results:
    results: report.Results = {}
    for row in rows:
        loads: dict[str, list[Load]] = defaultdict(list)
        for number in range(size.rounds):
            # The order alternates, so that no server always follows the same one.
            for name, measured in list(servers.items())[:: 1 if number % 2 else -1]:
                group = [measured] if isinstance(measured, Running) else measured
                url = group[0].database_url
                progress.step(f"{row.name}, {name}")
                if number == 0 or row.operation not in READS:
                    settle(url, row, size.seconds)
                if row in OF_ONE_USER:
                    loads[name].append(warm(group, row, users, size.seconds))
                    # Else autovacuum would do this while another server is measured.
                    asyncio.run(data.settle(url))
                else:
                    loads[name].append(load.together(group, row, users, size.seconds))
        results[row.name] = {
            name: median(map(beside_this, each, loads[report.THIS])) for name, each in loads.items()
        }
    return results


def warm(servers: Sequence[Running], row: Row, users: int, seconds: int) -> Load:
    """Load servers after one second of toggles, which does not count.

    Without this second, the first requests after a pause decide the 99th percentile.
    """
    load.together(servers, Row("one user: toggle", row.connections), users, seconds=1)
    return load.together(servers, row, users, seconds)


def settle(url: str, row: Row, seconds: int) -> None:
    """Prepare the tasks for a load of this many seconds."""
    deletes = 25_000 * seconds if row.operation.endswith("delete") else 0
    if row in OF_ONE_USER:
        asyncio.run(data.settle(url, deletes + 10_000, owners=1))
    else:
        asyncio.run(data.settle(url, deletes))


def beside_this(one: Load, this: Load) -> Load:
    """Compare a server's rate with the rate of this service in the same round.

    Rates of different rounds cannot be compared, because a machine's speed changes.
    """
    return replace(one, behind=this.rate / one.rate if one.rate else float("nan"))


@contextmanager
def roomy_server(folder: Path) -> Iterator[str]:
    """Run an embedded PostgreSQL with room for the connections of all pools."""
    with embedded_server(folder) as url:
        asyncio.run(data.run(url, "ALTER SYSTEM SET max_connections = 200"))
    with embedded_server(folder) as url:  # only a new start changes max_connections
        yield url


async def prepare(url: str) -> None:
    engine = create_engine(url, pool_size=1)
    await upgrade(engine, url)
    await engine.dispose()
    await data.fill(url)


async def without_feed(url: str) -> str:
    """Make the same database for the peers, without triggers: peers have no feed to write."""
    plain = await data.database(url, PEERS)
    await prepare(plain)
    await data.run(plain, "ALTER TABLE tasks DISABLE TRIGGER USER")
    return plain


def start_up(peer: Peer, url: str, times: int) -> float:
    """Return the median of several starts: the seconds from the command to the first answer."""
    seconds = []
    for _ in range(times):
        with peers.running(peer, url) as server:
            seconds.append(server.started_in)
    return statistics.median(seconds)


def far_away(url: str, repeats: int) -> dict[str, float]:
    """Return each endpoint's median time in ms, with PostgreSQL 20 ms away each way."""

    def times(far: str) -> dict[str, float]:
        taken: dict[str, list[float]] = defaultdict(list)
        with (
            peers.running(peers.ours(), far) as server,
            httpx.Client(base_url=server.url) as client,
        ):
            for _ in range(repeats):
                for name, seconds in one_of_each(client):
                    taken[name].append(seconds)
        # The first request to each endpoint prepares its statement.
        return {name: statistics.median(each[1:]) * 1000 for name, each in taken.items()}

    return from_afar(url, times)


def many_from_afar(
    url: str, compared: list[Peer], size: Size, progress: Progress
) -> report.Results:
    """Load each server with PostgreSQL 20 ms away. Each pool has the service's default size."""

    def loads(far: str) -> report.Results:
        results: report.Results = {}
        for row in size.far:
            taken: dict[str, list[Load]] = defaultdict(list)
            for _ in range(min(size.rounds, FAR_ROUNDS)):
                for peer in compared:
                    progress.step(f"20 ms away: {row.name}, {peer.name}")
                    own = peer.name == report.THIS
                    asyncio.run(data.settle(url if own else beside(url, PEERS)))
                    # Start a new server each time: an old server still answers clients that left.
                    database = far if own else beside(far, PEERS)
                    with peers.running(with_pool(peer, FAR_POOL), database) as server:
                        taken[peer.name].append(
                            load.wrk(server, row, data.SMALL_USERS, size.far_seconds)
                        )
            results[row.name] = {name: median(each) for name, each in taken.items()}
        return results

    return from_afar(url, loads)


def through_poolers(url: str, far: report.Results, size: Size, progress: Progress) -> None:
    """Add the same load on this service through each PgBouncer that this machine has.

    PgBouncer runs beside PostgreSQL.
    """
    for version, program in POOLERS.items():
        if shutil.which(program) is None:
            continue
        with (
            tempfile.TemporaryDirectory() as folder,
            pgbouncer(Path(program), url, Path(folder), FAR_POOL) as pooled,
        ):
            for name, loads in many_from_afar(pooled, [peers.ours()], size, progress).items():
                far[name][f"{report.THIS}, through {version}"] = loads[report.THIS]


def with_pool(peer: Peer, connections: int) -> Peer:
    sizes = dict.fromkeys(["POOL_SIZE", "DATABASE_POOL_SIZE"], str(connections))
    return replace(peer, settings=peer.settings | sizes)


def from_afar(url: str, measured: Callable[[str], T]) -> T:
    """Call `measured` with the URL of a PostgreSQL that is 20 ms away each way."""

    async def run() -> T:
        folder = parse_qs(urlsplit(url).query)["host"][0]
        async with proxy(folder, 5432, ONE_WAY) as link:
            far = f"postgresql://postgres@127.0.0.1:{link.port}/postgres?sslmode=disable"
            return await asyncio.to_thread(measured, far)

    return uvloop.run(run())


def one_of_each(client: httpx.Client) -> Iterator[tuple[str, float]]:
    path = "/api/far/tasks"

    def timed(method: str, url: str, **body: object) -> tuple[float, httpx.Response]:
        began = time.perf_counter()
        answer = client.request(method, url, json=body or None).raise_for_status()
        return time.perf_counter() - began, answer

    seconds, created = timed("POST", path, title="Buy milk")
    task = f"{path}/{created.json()['id']}"
    yield "create", seconds
    yield "list", timed("GET", path)[0]
    yield "get one", timed("GET", task)[0]
    yield "update", timed("PUT", task, title="Buy bread")[0]
    yield "toggle", timed("PATCH", f"{task}/complete")[0]
    yield "delete", timed("DELETE", task)[0]


def large_list(url: str, size: Size) -> tuple[float, Load]:
    """Load a worker while it answers a huge list again and again.

    Return the worker's peak memory in MB, and the load of the other clients.
    """
    asyncio.run(data.give(url, "huge", size.large_list))
    with peers.running(peers.ours(), url) as server:
        lists = f"{server.url}/api/huge/tasks?[1-1000000]"
        # curl takes little of the two cores, and leaves the rest to the server and PostgreSQL.
        with subprocess.Popen(["curl", "--silent", "--fail", "-o", "/dev/null", lists]) as curl:
            others = load.wrk(server, GET_ONE, data.SMALL_USERS, size.long_seconds)
            if curl.poll() is not None:
                raise RuntimeError("the huge list was not answered")
            curl.terminate()
        return server.peak_memory(), others


def with_tokens(url: str, size: Size, progress: Progress) -> dict[str, Load]:
    """Get one task at a time from services with and without tokens.

    A service with tokens checks the token of every request.
    """
    with ExitStack() as stack:
        issuers = {
            "open": Issuer({}, ""),
            "HS256": sharing_a_secret("u0"),
            "EdDSA": stack.enter_context(with_a_key_server("u0")),
        }
        servers = {
            name: stack.enter_context(peers.running(peers.ours(settings=issuer.settings), url))
            for name, issuer in issuers.items()
        }
        loads: dict[str, list[Load]] = defaultdict(list)
        for _ in range(size.rounds):
            for name, server in servers.items():
                progress.step(f"get one, {name}")
                token = issuers[name].token
                loads[name].append(load.wrk(server, GET_ONE, 1, size.seconds, token))
    return {name: median(each) for name, each in loads.items()}


def pages(url: str, size: Size, times: int = 50) -> dict[str, float]:
    """Return the median times in ms of three pages of a huge list (see `large_list`)."""
    path = "/api/huge/tasks"
    milliseconds = {}
    with peers.running(peers.ours(), url) as server, httpx.Client(base_url=server.url) as client:
        for name, place in [("first", 0), ("middle", size.large_list // 2), ("last", -100)]:
            before = client.get(path).json()[place - 1] if place else None
            cursor = {"cursor": cursor_after(before)} if before else {}
            taken = []
            for _ in range(times):
                began = time.perf_counter()
                page = client.get(path, params={"limit": "100"} | cursor).raise_for_status()
                taken.append(time.perf_counter() - began)
            if len(page.json()) != 100:
                raise RuntimeError(f"the {name} page has {len(page.json())} tasks")
            milliseconds[name] = statistics.median(taken) * 1000
    return milliseconds


def batches(url: str, repeats: int) -> dict[str, float]:
    """Return the median times in ms of 100 creates: as 100 requests in turn, and as one batch."""
    tasks = [{"title": f"Task {number}"} for number in range(100)]
    operations = [{"op": "create", "task": task} for task in tasks]
    with peers.running(peers.ours(), url) as server, httpx.Client(base_url=server.url) as client:

        def singles() -> None:
            for task in tasks:
                client.post("/api/batches/tasks", json=task).raise_for_status()

        def batch() -> None:
            content = {"operations": operations}
            client.post("/api/batches/tasks/batch", json=content).raise_for_status()

        taken: dict[str, list[float]] = defaultdict(list)
        for _ in range(repeats):
            for name, send in (("100 requests", singles), ("one batch", batch)):
                began = time.perf_counter()
                send()
                taken[name].append(time.perf_counter() - began)
    return {name: statistics.median(each) * 1000 for name, each in taken.items()}


def cursor_after(task: dict[str, object]) -> str:
    return cursor_text("created_at", json.dumps(task).encode())


def by_postgres_alone(url: str, rows: list[Row], size: Size, progress: Progress) -> dict[str, Load]:
    """Measure the limit: pgbench runs the service's own statements, prepared."""
    loads = {}
    for row in rows:
        progress.step(f"{row.name}, pgbench")
        asyncio.run(data.settle(url, pgbench.DELETES))
        loads[row.name] = pgbench.run(url, row, size.rounds * size.seconds)
    return loads


def flat(url: str, size: Size, progress: Progress) -> tuple[report.Results, report.Results]:
    """Measure the service before and after the table has grown."""
    with peers.running(peers.ours(), url) as server:
        small = measure({report.THIS: server}, FLAT, size, progress)
    progress.step(f"{size.rows:,} rows")
    users = asyncio.run(data.grow(url, size.rows))
    with peers.running(peers.ours(), url) as server:
        large = measure({report.THIS: server}, FLAT, size, progress, users=users)
    return small, large


def three_services(stack: ExitStack, url: str) -> dict[str, list[Running]]:
    """Start three services on one database. No service knows of the others.

    Each service has as many connections as a single service has.
    """
    start = stack.enter_context
    return {report.THREE: [start(peers.running(peers.ours(), url)) for _ in range(3)]}


def measure_one_user(
    servers: Mapping[str, Running | Sequence[Running]], size: Size, progress: Progress
) -> report.Results:
    return measure(servers, size.one_user, replace(size, seconds=size.one_user_seconds), progress)


def write_one_user(fast: list[Peer], size: Size) -> None:
    progress = Progress(size.rounds * len(size.one_user) * (len(fast) + 2))
    with tempfile.TemporaryDirectory() as folder, roomy_server(Path(folder) / "data") as url:
        asyncio.run(prepare(url))
        plain = asyncio.run(without_feed(url))
        with ExitStack() as stack:
            servers = {
                peer.name: stack.enter_context(
                    peers.running(peer, url if peer.name.startswith(report.THIS) else plain)
                )
                for peer in [*fast, peers.ours(workers=2)]
            }
            results = measure_one_user({**servers, **three_services(stack, url)}, size, progress)
    progress.step("done")
    tables = report.of_one_user(results, [peer.name for peer in fast])
    print(f"\n{tables}")
    how = (
        f"{report.machine()}. Rates are medians of {size.rounds} rounds of {size.one_user_seconds} "
        "s after a second of toggles, taken in turn. Ratios are medians of each round's ratios."
    )
    written = "Written by `make -C backend bench ARGS=--one-user`."
    (RESULTS / "one-user.md").write_text(f"# One user\n\n{written} {how}\n\n{tables}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="try it out; write nothing")
    parser.add_argument("--one-user", action="store_true", help="only one user's rows")
    parser.add_argument(
        "--rounds", type=int, default=FULL.rounds, help="how often to measure each row"
    )
    return parser.parse_args()


def main() -> None:
    asked = arguments()
    quick = asked.quick
    size = QUICK if quick else replace(FULL, rounds=asked.rounds)
    compared = peers.build()
    fast = [peer for peer in compared if peer in peers.FAST or peer.name == report.THIS]
    if asked.one_user:
        write_one_user(fast, size)
        return
    rows = [*size.operations, *size.connections]
    progress = Progress(
        size.rounds * len(size.operations) * (len(compared) + 2)
        + size.rounds * len(size.connections) * (len(fast) + 2)
        + size.rounds * len(size.one_user) * (len(fast) + 3)
        + min(size.rounds, FAR_ROUNDS) * len(size.far) * (len(fast) + len(POOLERS))
        + size.rounds * (2 * len(FLAT) + 3)
        + len(rows)
        + 9
    )
    with tempfile.TemporaryDirectory() as folder, roomy_server(Path(folder) / "data") as url:
        asyncio.run(prepare(url))
        plain = asyncio.run(without_feed(url))
        with ExitStack() as stack:
            servers = {
                peer.name: stack.enter_context(
                    peers.running(peer, url if peer.name.startswith(report.THIS) else plain)
                )
                for peer in [*compared, peers.ours(is_fast=False), peers.ours(workers=2)]
            }
            contract.check(servers)
            results = measure(servers, size.operations, size, progress)
            memory = servers[report.THIS].memory()
            slow = {peer.name for peer in compared} - {peer.name for peer in fast}
            under_load: dict[str, Running | Sequence[Running]] = {
                name: each for name, each in servers.items() if name not in slow
            }
            connections = measure(under_load, size.connections, size, progress)
            under_load |= three_services(stack, url)
            one_user = measure_one_user(under_load, size, progress)
        limits = by_postgres_alone(url, rows, size, progress)
        for measured in (results, connections):
            for name, loads in measured.items():
                loads[report.LIMIT] = limits[name]
        progress.step("start-up")
        started_in = start_up(peers.ours(), url, size.rounds)
        progress.step("20 ms away")
        far = far_away(url, size.repeats)
        many_far = many_from_afar(url, fast, size, progress)
        through_poolers(url, many_far, size, progress)
        progress.step("a huge list")
        peak, others = large_list(url, size)
        progress.step("pages of a huge list")
        paged = pages(url, size)
        progress.step("batches")
        in_batches = batches(url, size.repeats)
        progress.step("the feed")
        fed = feed.asked_for(url)
        progress.step("streams")
        streamed = feed.streamed(url, size.long_seconds)
        tokens = with_tokens(url, size, progress)
        small, large = flat(url, size, progress)
    progress.step("done")
    print(file=sys.stderr)
    text = report.write(
        report.Run(
            results,
            connections,
            one_user,
            [peer.name for peer in compared],
            [peer.name for peer in fast],
            memory,
            started_in,
            far,
            many_far,
            size.large_list,
            peak,
            others,
            paged,
            in_batches,
            fed,
            streamed,
            tokens,
            size.rows,
            small,
            large,
            f"{size.rounds} rounds of {size.seconds} s (for one user: {size.one_user_seconds} s, "
            "after a second of toggles), "
            "16 connections unless a row says otherwise, a pool of "
            f"{peers.POOL_SIZE}, one process each (Go's uses both cores)",
        )
    )
    print(text.table)
    if not quick:
        (RESULTS / "README.md").write_text(text.table)
        (RESULTS / "chart.svg").write_text(text.chart)
        print(
            "README's sentences may be out of date now: run tests/test_documents.py",
            file=sys.stderr,
        )


if __name__ == "__main__":
    main()
