"""`make before REF=…`: compare the service with an earlier commit of the service.

The earlier commit runs twice, and each service has a database of its own. The ratio between both
services of the earlier commit shows how much of a ratio is noise. If others share the machine, the
machine's speed may change by half for some seconds. So each service is loaded for a second, one
service after another, and only loads that follow each other are compared.
"""

import argparse
import asyncio
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median

from benchmarks import data, peers, report
from benchmarks.bench import FULL, READS, RESULTS, Progress, Size, settle
from benchmarks.load import Load, Row, wrk
from src.framework.sql.embedded import embedded_server

TURNS = 2
"""How often each service is loaded in a round. Each round starts the services anew."""

SIZE = replace(FULL, rounds=7)
SHORT = replace(
    FULL,
    rounds=12,
    operations=[
        Row(name) for name in ("get one", "list 20", "list 100", "create", "update", "toggle")
    ],
    connections=[Row("get one", 1), Row("create", 64), Row("toggle", 64)],
)


def hash_of(commit: str) -> str:
    git = ["git", "-C", str(peers.BACKEND), "rev-parse", "--short", commit]
    return subprocess.run(git, check=True, capture_output=True, text=True).stdout.strip()


@contextmanager
def checked_out(commit: str, folder: Path) -> Iterator[Path]:
    """Check out the project at a commit."""
    git = ["git", "-C", str(peers.BACKEND), "worktree"]
    subprocess.run([*git, "add", "--quiet", "--detach", str(folder), commit], check=True)
    try:
        yield folder / peers.BACKEND.name
    finally:
        subprocess.run([*git, "remove", "--force", str(folder)], check=True)


def measure(
    folders: dict[str, Path], url: str, rows: list[Row], size: Size
) -> dict[str, list[dict[str, Load]]]:
    """Return the turns of each row. In a turn, every folder's service is loaded once."""
    results: dict[str, list[dict[str, Load]]] = {row.name: [] for row in rows}
    databases = {name: asyncio.run(data.database(url, name)) for name in folders}
    progress = Progress(size.rounds * len(rows))
    for number in range(size.rounds):
        with ExitStack() as stack:
            servers = {}
            for name, where in folders.items():
                peer = replace(peers.ours(), name=name, folder=where)
                servers[name] = stack.enter_context(peers.running(peer, databases[name]))
                if number == 0:
                    asyncio.run(data.fill(databases[name]))
            for row in rows:
                progress.step(f"round {number + 1}, {row.name}")
                for server in servers.values():  # these loads warm up the servers and do not count
                    load(server, row, size.seconds)
                for turn in range(TURNS):
                    names = [*servers][:: 1 if turn % 2 else -1]
                    loads = {name: load(servers[name], row, size.seconds) for name in names}
                    results[row.name].append(loads)
    progress.step("done")
    return results


def load(server: peers.Running, row: Row, seconds: int) -> Load:
    if row.operation not in READS:
        settle(server.database_url, row, seconds)
    return wrk(server, row, data.SMALL_USERS, seconds)


def cells(turns: list[dict[str, Load]]) -> list[str]:
    """Return the median of each rate, and the median of each ratio to `before` over all turns."""

    def ratio(name: str, value: Callable[[Load], float]) -> str:
        return f"{median(value(each[name]) / value(each['before']) for each in turns):.2f}"

    return [
        *(f"{median(each[name].rate for each in turns):,.0f}" for name in ("before", "now")),
        *(ratio(name, lambda load: load.rate) for name in ("again", "now")),
        *(ratio(name, lambda load: load.processor) for name in ("again", "now")),
        *(ratio(name, lambda load: load.by_postgres) for name in ("again", "now")),
    ]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("commit")
    arguments.add_argument("--short", action="store_true", help="fewer rows")
    asked = arguments.parse_args()
    size = SHORT if asked.short else SIZE
    rows = [*size.operations, *size.connections]
    commit = hash_of(asked.commit)
    with (
        tempfile.TemporaryDirectory() as folder,
        checked_out(commit, Path(folder) / "before") as before,
        embedded_server(Path(folder) / "data") as url,
    ):
        folders = {"before": before, "again": before, "now": peers.BACKEND}
        results = measure(folders, url, rows, size)
    noise_and_ratio = ["noise", "ratio"]
    table = report.table(
        ["requests/s", commit, hash_of("HEAD"), *noise_and_ratio]
        + [f"{title}: {which}" for title in ("server", "PostgreSQL") for which in noise_and_ratio],
        [[name, *cells(turns)] for name, turns in results.items()],
    )
    print(f"\n{table}")
    short = "ARGS=--short " if asked.short else ""
    parts = [
        "# Before and now",
        f"Written by `make -C backend before {short}REF={commit}`. {report.machine()}. "
        f"{size.rounds} rounds of {TURNS} turns, each round with new processes. In a turn, each "
        f"service is loaded for {size.seconds} s. `ratio` is the rate now divided by the rate "
        "before, as the median of the turns; `noise` is the same ratio for two services of the "
        "commit before. The last columns have the ratios of the processor time for one request, "
        "where less is better.",
        table,
    ]
    (RESULTS / "before.md").write_text("\n\n".join(parts))


if __name__ == "__main__":
    main()
