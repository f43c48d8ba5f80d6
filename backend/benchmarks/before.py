"""`make before REF=…`: the service beside an earlier commit of itself, each with a database.

The earlier commit also runs beside itself: this shows how much of a ratio is noise.
"""

import argparse
import asyncio
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from benchmarks import data, peers, report
from benchmarks.bench import FULL, RESULTS, Progress, measure
from benchmarks.load import Row
from src.framework.sql.embedded import embedded_server

SIZE = replace(FULL, rounds=9, seconds=2)
SHORT = replace(
    FULL,
    rounds=6,
    seconds=1,
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


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("commit")
    arguments.add_argument("--short", action="store_true", help="fewer rows, for a second each")
    asked = arguments.parse_args()
    size = SHORT if asked.short else SIZE
    rows = [*size.operations, *size.connections]
    commit = hash_of(asked.commit)
    progress = Progress(size.rounds * len(rows) * 3)
    with (
        tempfile.TemporaryDirectory() as folder,
        checked_out(commit, Path(folder) / "before") as before,
        embedded_server(Path(folder) / "data") as url,
        ExitStack() as stack,
    ):
        servers = {}
        folders = {"before": before, "again": before, "now": peers.BACKEND}
        for name, where in folders.items():
            database = asyncio.run(data.database(url, name))
            peer = replace(peers.ours(), name=name, folder=where)
            servers[name] = stack.enter_context(peers.running(peer, database))
            asyncio.run(data.fill(database))
        results = measure(servers, rows, size, progress)
    progress.step("done")
    table = report.table(
        ["requests/s", commit, f"{commit} again", hash_of("HEAD"), "noise", "ratio"],
        [
            [operation, *(f"{load.rate:,.0f}" for load in loads)]
            + [f"{load.rate / loads[0].rate:.2f}" for load in loads[1:]]
            for operation, by_name in results.items()
            for loads in [[by_name[name] for name in folders]]
        ],
    )
    print(f"\n{table}")
    short = "ARGS=--short " if asked.short else ""
    parts = [
        "# Before and now",
        f"Written by `make -C backend before {short}REF={commit}`. {report.machine()}. Medians of "
        f"{size.rounds} rounds of {size.seconds} s, taken in turn. Both ratios are to the first "
        "column.",
        table,
    ]
    (RESULTS / "before.md").write_text("\n\n".join(parts))


if __name__ == "__main__":
    main()
