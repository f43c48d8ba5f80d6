"""Drive a server with wrk, and read wrk's output."""

import re
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers import Running

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Row:
    """An operation, and how many connections send the operation at the same time."""

    operation: str
    connections: int = 16

    @property
    def name(self) -> str:
        if self.connections == 16:
            return self.operation
        return f"{self.operation}, {self.connections} connection{'s' * (self.connections > 1)}"


@dataclass(frozen=True)
class Load:
    """What a server did under load, and what each request cost.

    `rate` is in requests per second. `p50` and `p99` are percentiles of latency in ms. `processor`
    and `by_postgres` are µs of processor time for each request. `behind` is the rate of this
    service divided by `rate`, where both rates come from the same round.
    """

    rate: float
    p50: float
    p99: float
    processor: float
    by_postgres: float = float("nan")
    behind: float = float("nan")


def wrk(  # noqa: PLR0917 - what a load is
    server: Running,
    row: Row,
    users: int,
    seconds: int,
    token: str = "",
    number: int = 0,
    loads: int = 1,
) -> Load:
    """Load a server. If several `loads` run at once, each load has a `number`, from 0 on.

    Raises RuntimeError if an answer is not a success.
    """
    used, before = server.processor_time(), server.processor_times_of_postgres()
    said = subprocess.run(
        [
            "wrk",
            "--threads=1",
            f"--connections={row.connections}",
            f"--duration={seconds}s",
            "--latency",
            # A slow peer is not broken.
            "--timeout=30s",
            f"--script={HERE / 'load.lua'}",
            server.url,
            "--",
            row.operation,
            str(users),
            token,
            str(loads),
            str(number),
        ],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    if "Non-2xx" in said or "Socket errors" in said:
        raise RuntimeError(f"{row.name} at {server.url}:\n{said}")
    after = server.processor_times_of_postgres()  # without connections that have ended
    by_postgres = sum(seconds - before.get(pid, 0) for pid, seconds in after.items())
    return read(said, server.processor_time() - used, by_postgres)


def together(servers: Sequence[Running], row: Row, users: int, seconds: int) -> Load:
    """Load several servers at once. Return the sum of all rates, and the worst percentiles."""
    number = len(servers)
    if number == 1:
        return wrk(servers[0], row, users, seconds)
    with ThreadPoolExecutor(number) as threads:
        running = [
            threads.submit(wrk, server, row, users, seconds, "", n, number)
            for n, server in enumerate(servers)
        ]
    loads = [each.result() for each in running]
    rate = sum(load.rate for load in loads)
    p50, p99 = max(load.p50 for load in loads), max(load.p99 for load in loads)
    return Load(rate, p50, p99, processor=float("nan"))


def read(said: str, used: float, by_postgres: float) -> Load:
    """Read wrk's output. The server used `used` seconds of processor time for these answers."""
    answers = int(number(r"(\d+) requests in", said))
    return Load(
        float(number(r"Requests/sec:\s+([\d.]+)", said)),
        _milliseconds("50%", said),
        _milliseconds("99%", said),
        used / answers * 1e6 if answers else float("nan"),
        by_postgres / answers * 1e6 if answers else float("nan"),
    )


def number(pattern: str, said: str) -> str:
    found = re.search(pattern, said)
    if found is None:
        raise RuntimeError(f"no {pattern!r} in:\n{said}")
    return found[1]


def _milliseconds(percentile: str, said: str) -> float:
    found = re.search(rf"^\s+{percentile}\s+([\d.]+)(us|ms|s) ?$", said, re.MULTILINE)
    if found is None:  # wrk had too few answers for percentiles
        return float("nan")
    return float(found[1]) * {"us": 0.001, "ms": 1, "s": 1000}[found[2]]
