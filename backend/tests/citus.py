"""A Citus cluster that runs already. Tests make databases in the cluster and distribute the tables.

The servers of the cluster let the user postgres in without a password. `pg_dist_node` has the
servers' addresses; the coordinator has group 0.
"""

import asyncio
import re
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import asyncpg
import psutil

from src.framework.sql.engine import create_engine
from src.migrations import upgrade
from tests.serving import BACKEND

PAGE = (BACKEND.parent / "specs" / "citus.md").read_text()
_, *_PARTS = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)
MOVE, BACK, ANEW = [
    [command.strip() for command in re.sub(r"--.*", "", part).split(";") if command.strip()]
    for part in _PARTS
]
"""The page's commands to distribute the tables, to bring back the tables, and to begin anew."""

# These commands take less time than the page's: they do not move tables concurrently, and make
# fewer shards.
DISTRIBUTE = [
    "SET citus.shard_count = 8",
    *(command.replace("_concurrently", "") for command in MOVE[1:]),
]
WITH_WORKERS = """
SELECT citus_set_coordinator_host('{coordinator.host}', {coordinator.port});
SELECT citus_add_node('{worker.host}', {worker.port});
"""


class Node(NamedTuple):
    host: str
    port: int


def beside(url: str, database: str) -> str:
    """The connection string of another database on the same server."""
    return re.sub(r"/\w+\?", f"/{database}?", url)


@asynccontextmanager
async def connected(
    node: Node, database: str
) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    connection = await asyncpg.connect(
        host=node.host, port=node.port, user="postgres", database=database
    )
    try:
        yield connection
    finally:
        await connection.close()


async def nodes(url: str) -> list[Node]:
    """The servers of a cluster, the coordinator first."""
    connection = await asyncpg.connect(url)
    try:
        found = await connection.fetch(
            "SELECT nodename, nodeport FROM pg_dist_node ORDER BY groupid"
        )
    finally:
        await connection.close()
    return [Node(*row) for row in found]


@contextmanager
def citus_database(cluster: str) -> Iterator[str]:
    """Make a database on each server of a cluster, and give the coordinator's connection string."""
    name = f"test_{uuid4().hex}"
    servers = asyncio.run(nodes(cluster))
    try:
        asyncio.run(_make(servers, name))
        yield f"postgresql://postgres:@/{name}?host={servers[0].host}&port={servers[0].port}"
    finally:
        asyncio.run(_drop(servers, name))


async def _make(servers: list[Node], name: str) -> None:
    for node in servers:
        async with connected(node, "postgres") as server:
            await server.execute(f"CREATE DATABASE {name}")
        async with connected(node, name) as database:
            await database.execute("CREATE EXTENSION citus")
    coordinator, *workers = servers
    async with connected(coordinator, name) as database:
        for worker in workers:
            await database.execute(WITH_WORKERS.format(coordinator=coordinator, worker=worker))
        await database.execute(f"ALTER DATABASE {name} SET timezone = 'UTC'")


async def _drop(servers: list[Node], name: str) -> None:
    for node in servers:
        async with connected(node, "postgres") as server:
            await server.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


async def distribute(url: str) -> None:
    """Bring the tables up to date and spread them over the cluster."""
    engine = create_engine(url, pool_size=1)
    try:
        await upgrade(engine, url)
    finally:
        await engine.dispose()
    await _execute_each(url, DISTRIBUTE)


async def undistribute(url: str) -> None:
    """Bring the rows back to the coordinator."""
    await _execute_each(url, BACK)


async def _execute_each(url: str, commands: list[str]) -> None:
    """Run each command in a transaction of its own.

    A command copies rows, and a trigger logs the rows in tables that earlier commands moved.
    """
    connection = await asyncpg.connect(url)
    try:
        for command in commands:
            await connection.execute(command)
    finally:
        await connection.close()


class Worker:
    """A server of a cluster. The server runs on this machine, and a test can stop the server."""

    def __init__(self, node: Node) -> None:
        asyncio.run(self._find(node))

    async def _find(self, node: Node) -> None:
        async with connected(node, "postgres") as connection:
            self.data_dir: str = await connection.fetchval("SHOW data_directory")
            backend = psutil.Process(connection.get_server_pid())
            self.program = Path(backend.exe()).with_name("pg_ctl")
            self.user, self.group = backend.uids().real, backend.gids().real

    def processes(self) -> list[psutil.Process]:
        pid = int(Path(self.data_dir, "postmaster.pid").read_text().split()[0])
        postmaster = psutil.Process(pid)
        return [postmaster, *postmaster.children()]

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Stop the server and start it again."""
        self._control("stop", "-m", "fast")
        try:
            yield
        finally:
            self._control("start", "-l", f"{self.data_dir}/log")

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Suspend the server: the system accepts connections and data, and nothing answers."""
        processes = self.processes()
        for process in processes:
            process.suspend()
        try:
            yield
        finally:
            for process in processes:
                process.resume()

    def _control(self, *command: str) -> None:
        subprocess.run(
            [self.program, "-w", "-D", self.data_dir, *command],
            check=True,
            cwd="/",
            env={},  # otherwise pg_ctl looks for certificates in this user's folder
            user=self.user,
            group=self.group,
            extra_groups=[],
            stdout=subprocess.DEVNULL,
        )
