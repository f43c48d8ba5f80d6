"""`make before REF=…`: the service beside an earlier commit of itself, each with a database."""

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
from src.framework.sql.embedded import embedded_server

SIZE = replace(FULL, rounds=9, seconds=2)


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
    rows = [*SIZE.operations, *SIZE.connections]
    commit = hash_of(arguments.parse_args().commit)
    progress = Progress(SIZE.rounds * len(rows) * 2)
    with (
        tempfile.TemporaryDirectory() as folder,
        checked_out(commit, Path(folder) / "before") as before,
        embedded_server(Path(folder) / "data") as url,
        ExitStack() as stack,
    ):
        servers = {}
        for name, where in {"before": before, "now": peers.BACKEND}.items():
            database = asyncio.run(data.database(url, name))
            peer = replace(peers.ours(), name=name, folder=where)
            servers[name] = stack.enter_context(peers.running(peer, database))
            asyncio.run(data.fill(database))
        results = measure(servers, rows, SIZE, progress)
    progress.step("done")
    table = report.table(
        ["requests/s", commit, hash_of("HEAD"), "ratio"],
        [
            [operation, f"{was.rate:,.0f}", f"{now.rate:,.0f}", f"{now.rate / was.rate:.2f}"]
            for operation, loads in results.items()
            for was, now in [(loads["before"], loads["now"])]
        ],
    )
    how = f"{report.machine()}. Medians of {SIZE.rounds} rounds of {SIZE.seconds} s, taken in turn."
    print(f"\n{table}")
    (RESULTS / "before.md").write_text(
        f"# Before and now\n\nWritten by `make -C backend before REF={commit}`. {how}\n\n{table}"
    )


if __name__ == "__main__":
    main()
