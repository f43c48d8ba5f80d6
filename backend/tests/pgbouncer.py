"""Poolers between the service and PostgreSQL: PgBouncer in transaction mode, as at Neon."""

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from tests.serving import eventually

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
BUILT = CACHE / "task-api" / "pgbouncer-1.24"
"""Where build_pgbouncer.sh puts a PgBouncer that keeps prepared statements."""

SERVER_CONNECTIONS = 4
POSTGRES_USER = "pgserver"
"""The user who runs the embedded server when root runs the tests. PgBouncer refuses root, too."""


@contextmanager
def pgbouncer(
    program: Path,
    postgres: str,
    folder: Path,
    server_connections: int = SERVER_CONNECTIONS,
    prepared_statements: int = 1000,
) -> Iterator[str]:
    """Run a pooler with a socket in this folder, and give the pooler's connection string.

    The pooler has `server_connections` to each database. If the pooler's version can keep prepared
    statements, the pooler keeps at most `prepared_statements` on each connection.
    """
    socket_file = folder / ".s.PGSQL.5432"
    settings = {
        "listen_port": 5432,
        "unix_socket_dir": folder,
        "logfile": folder / "log",
        "auth_type": "any",
        "pool_mode": "transaction",
        "default_pool_size": server_connections,
        "max_client_conn": 1000,
    }
    if _version(program) >= (1, 21):
        settings["max_prepared_statements"] = prepared_statements
    lines = [f"{name} = {value}" for name, value in settings.items()]
    config = folder / "pgbouncer.ini"
    behind = f"host={host(postgres)} port={port(postgres)} user=postgres"
    config.write_text(f"[databases]\n* = {behind}\n[pgbouncer]\n" + "\n".join(lines))
    command: list[str | Path] = [program, "-q", config]
    if os.geteuid() == 0:
        command += ["-u", POSTGRES_USER]
        shutil.chown(folder, POSTGRES_USER)
        for above in folder.parents:
            above.chmod(above.stat().st_mode | 0o011)
    with subprocess.Popen(command) as process:
        try:
            assert eventually(lambda: _listens(socket_file)), (folder / "log").read_text()
            yield re.sub(r"host=.*", f"host={folder}", postgres)
        finally:
            process.kill()


def host(url: str) -> str:
    """Return the folder of a server's socket, or the host of a cluster's coordinator."""
    return parse_qs(urlsplit(url).query)["host"][0]


def port(url: str) -> int:
    return int(parse_qs(urlsplit(url).query).get("port", ["5432"])[0])


def _version(program: Path) -> tuple[int, ...]:
    said = subprocess.run([program, "--version"], capture_output=True, check=True, text=True).stdout
    return tuple(map(int, said.split()[1].split(".")))


def _listens(socket_file: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(socket_file)) == 0
