"""Writes the results of a run: tables and a chart."""

import platform
from dataclasses import dataclass
from html import escape
from math import isnan
from pathlib import Path

import psutil

from benchmarks.load import Load

Results = dict[str, dict[str, Load]]  # first by operation, then by server

THIS = "this service"
PLAIN = f"{THIS} without its fast path"
THREE = f"{THIS}, 3 processes"
LIMIT = "PostgreSQL alone (pgbench)"
COLOURS = ["#1f6feb", "#8b949e", "#2da44e", "#0e8a9e", "#bf3989", "#bf8700"]


@dataclass(frozen=True)
class Run:
    """What a run measured.

    Memory is in MB, and times are in s. The times of `far`, `pages`, `batches` and `fed` are in ms.
    """

    results: Results
    connections: Results
    one_user: Results
    peers: list[str]
    fast: list[str]
    memory: float
    started_in: float
    far: dict[str, float]
    many_far: Results
    large_list: int
    peak_memory: float
    others: Load
    pages: dict[str, float]
    batches: dict[str, float]
    fed: dict[str, float]
    streamed: dict[str, str]
    tokens: dict[str, Load]
    rows: int
    small: Results
    large: Results
    how: str


@dataclass(frozen=True)
class Report:
    table: str
    chart: str


def write(run: Run) -> Report:
    two = f"{THIS}, 2 workers"
    others = [name for name in run.peers if name != THIS]
    fast = [name for name in run.fast if name != THIS]
    all_rows = run.results | run.connections
    everyone_far = list(next(iter(run.many_far.values())))
    parts = [
        "# Benchmark\n\nWritten by `make -C backend bench`.\n",
        f"{machine()}. {run.how}. Rates are medians of the rounds, and ratios "
        "are medians of the ratios of each round.\n",
        "![Requests per second](chart.svg)\n",
        "## Requests per second\n",
        rates(run.results, [*run.peers, two, LIMIT]),
        rates(run.connections, [*run.fast, two, LIMIT]),
        "## Speed relative to the others\n",
        ratios(run.results, [*others, PLAIN, two, LIMIT]),
        ratios(run.connections, [*fast, two, LIMIT]),
        "Why ratios are below 1: for most requests, Python takes more processor time than Go, Bun\n"
        "and Node. Go uses both cores. With 1 to 8 connections, few requests share a statement.\n"
        "A rate of 0 means that no answer came within a round.\n",
        "## Latency\n",
        latencies(run.results, [*run.peers, two]),
        latencies(run.connections, [*run.fast, two]),
        "## Processor time\n",
        "The first figure is the server's time for each request. The second is PostgreSQL's.\n",
        processor_times(all_rows, [*run.peers, PLAIN, two]),
        "## One user\n",
        of_one_user(run.one_user, run.fast),
        f"## {run.rows:,} rows\n",
        table(
            ["requests/s", "10,000 rows", f"{run.rows:,} rows", "ratio"],
            [
                [
                    operation,
                    _rate(run.small[operation][THIS]),
                    _rate(run.large[operation][THIS]),
                    f"{run.large[operation][THIS].rate / run.small[operation][THIS].rate:.2f}",
                ]
                for operation in run.small
            ],
        ),
        "## PostgreSQL 20 ms away\n",
        table(
            ["median in ms", *run.far],
            [["one round trip takes 40 ms"] + [f"{ms:.1f}" for ms in run.far.values()]],
        ),
        "256 clients; each server has a pool of 10. PgBouncer runs beside PostgreSQL, in\n"
        "transaction mode, with 10 connections to PostgreSQL.\n",
        rates(run.many_far, everyone_far),
        latencies(run.many_far, everyone_far),
        "## The cost of a token\n",
        table(
            ["get one, always the same token", *run.tokens],
            [
                ["requests/s", *(_rate(each) for each in run.tokens.values())],
                [
                    "relative to open",
                    *(f"{each.rate / run.tokens['open'].rate:.2f}" for each in run.tokens.values()),
                ],
            ],
        ),
        f"## Pages of 100 in a list of {run.large_list:,} tasks\n",
        table(
            ["page", *run.pages],
            [["median in ms", *(f"{ms:.1f}" for ms in run.pages.values())]],
        ),
        "## 100 creates\n",
        "One client of this service. No peer has batches.\n",
        table(
            ["100 tasks", *run.batches],
            [["median in ms", *(f"{ms:.1f}" for ms in run.batches.values())]],
        ),
        "## The feed of changes\n",
        "One client of this service; no peer has a feed.\n",
        table(
            ["one request", *run.fed],
            [["median in ms", *(f"{ms:.1f}" for ms in run.fed.values())]],
        ),
        table(["streams of events", "measured"], [[*row] for row in run.streamed.items()]),
        "## Start-up and memory\n",
        table(
            ["what", "measured"],
            [
                ["start to first answer, PostgreSQL already running", f"{run.started_in:.2f} s"],
                ["a worker's memory at the end of the run", f"{run.memory:.0f} MB"],
                [
                    f"its peak while one client fetches a list of {run.large_list:,} repeatedly",
                    f"{run.peak_memory:.0f} MB",
                ],
                [
                    "p50 / p99 of get one for the other clients meanwhile",
                    f"{run.others.p50:.1f} / {run.others.p99:.1f} ms",
                ],
            ],
        ),
    ]
    return Report("\n".join(parts), chart(run.results, run.peers))


def of_one_user(results: Results, servers: list[str]) -> str:
    """Write the tables of the writes of one user."""
    two = f"{THIS}, 2 workers"
    others = [name for name in servers if name != THIS]
    return "\n".join(
        [
            rates(results, [*servers, two, THREE]),
            ratios(results, [*others, two, THREE]),
            latencies(results, [*servers, two, THREE]),
        ]
    )


def machine() -> str:
    cpu = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"{psutil.cpu_count()} cores of {cpu}, {memory:.0f} GiB, {platform.system()}, "
        f"Python {platform.python_version()}"
    )


def table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def rates(results: Results, servers: list[str]) -> str:
    return table(
        ["requests/s", *servers],
        [
            [name, *(_rate(loads.get(server)) for server in servers)]
            for name, loads in results.items()
        ],
    )


def ratios(results: Results, servers: list[str]) -> str:
    return table(
        ["this service's rate divided by that of", *servers],
        [[name, *(_times(loads, server) for server in servers)] for name, loads in results.items()],
    )


def latencies(results: Results, servers: list[str]) -> str:
    return table(
        ["p50 / p99 in ms", *servers, f"{THIS}: p99 / p50"],
        [
            [
                name,
                *(f"{_ms(loads[server].p50)} / {_ms(loads[server].p99)}" for server in servers),
                _ms(loads[THIS].p99 / loads[THIS].p50),
            ]
            for name, loads in results.items()
        ],
    )


def processor_times(results: Results, servers: list[str]) -> str:
    return table(
        ["µs per request", *servers],
        [
            [name, *(_processor(loads.get(server)) for server in servers)]
            for name, loads in results.items()
        ],
    )


def _rate(load: Load | None) -> str:
    return f"{load.rate:,.0f}" if load else ""


def _processor(load: Load | None) -> str:
    return f"{load.processor:,.0f} + {load.by_postgres:,.0f}" if load else ""


def _times(loads: dict[str, Load], server: str) -> str:
    other = loads[server]
    if other.rate == 0:
        return "-"
    return f"{loads[THIS].rate / other.rate if isnan(other.behind) else other.behind:.2f}"


def chart(results: Results, servers: list[str]) -> str:
    """Draw requests per second as bars. Each operation has a scale of its own."""
    row, left, width, names_in_a_line = 13, 96, 640, 3
    lines = -(-len(servers) // names_in_a_line)
    height = (row * len(servers) + 14) * len(results) + 40 + 16 * lines
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 100}" height="{height}" '
        'font-family="system-ui, sans-serif" font-size="11">',
        f'<rect width="{left + width + 100}" height="{height}" fill="#ffffff"/>',
        '<text x="8" y="19" fill="#1f2328">Requests per second, 16 connections</text>',
    ]
    for number, (server, colour) in enumerate(zip(servers, COLOURS, strict=False)):
        x = left + number % names_in_a_line * width // names_in_a_line
        y = 26 + number // names_in_a_line * 16
        parts.append(f'<rect x="{x}" y="{y}" width="10" height="10" fill="{colour}"/>')
        parts.append(f'<text x="{x + 14}" y="{y + 9}" fill="#1f2328">{escape(server)}</text>')
    y = 36 + 16 * lines
    for operation, loads in results.items():
        most = max(loads[server].rate for server in servers)
        middle = y + row * len(servers) / 2 + 3
        parts.append(f'<text x="8" y="{middle}" fill="#1f2328">{escape(operation)}</text>')
        for server, colour in zip(servers, COLOURS, strict=False):
            length = width * loads[server].rate / most
            size = f'width="{length:.0f}" height="{row - 2}"'
            parts.append(f'<rect x="{left}" y="{y}" {size} fill="{colour}"/>')
            parts.append(
                f'<text x="{left + length + 4:.0f}" y="{y + 9}" fill="#59636e">'
                f"{loads[server].rate:,.0f}</text>"
            )
            y += row
        y += 14
    return "\n".join([*parts, "</svg>"]) + "\n"


def _ms(milliseconds: float) -> str:
    """Format a percentile, or a ratio of two percentiles. With too few answers, return "none"."""
    return "none" if isnan(milliseconds) else f"{milliseconds:.1f}"
