"""On a streaming replica of PostgreSQL, the service serves reads and refuses writes."""

import asyncio
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import psutil
import pytest

from tests.pgbouncer import host
from tests.serving import eventually, serving
from tests.tasks import assert_problem, create, listed, task_path, tasks_path
from tests.tokens import SECRET, TokenOfThePath, bearer, create_token, tokens_path

WITH_SECRET = {"AUTH_MODE": "jwt", "AUTH_SECRET": SECRET}


async def server_of(url: str) -> tuple[Path, int, int]:
    """Return the folder of a server's programs, and the user and the group of the server."""
    connection = await asyncpg.connect(url)
    try:
        process = psutil.Process(connection.get_server_pid())
        return Path(process.exe()).parent, process.uids().real, process.gids().real
    finally:
        await connection.close()


@pytest.fixture
def replica(direct_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The connection string of the same database on a replica."""
    programs, user, group = asyncio.run(server_of(direct_database))
    data = tmp_path_factory.mktemp("replica")  # the path of a socket must be short
    os.chown(data, user, group)
    for folder in data.parents:
        folder.chmod(folder.stat().st_mode | 0o011)

    def run(program: str, *arguments: str | Path) -> None:
        subprocess.run(
            [programs / program, "-D", data, *arguments],
            check=True,
            cwd="/",
            env={},
            user=user,
            group=group,
            extra_groups=[],
            stdout=subprocess.DEVNULL,
        )

    run("pg_basebackup", "-h", host(direct_database), "-U", "postgres", "-R", "-c", "fast")
    for lock in data.glob(".s.PGSQL.*"):  # copied from the primary, whose socket is in its data
        lock.unlink()
    run("pg_ctl", "-w", "-o", f"-h '' -k {data}", "-l", data / "log", "start")
    try:
        yield f"postgresql://postgres@{urlsplit(direct_database).path}?host={data}"
    finally:
        run("pg_ctl", "-w", "-m", "fast", "stop")


def test_a_replica_serves_reads_and_answers_503_to_writes(
    direct_database: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    with (
        serving(tmp_path / "log", DATABASE_URL=direct_database, **WITH_SECRET) as primary,
        primary.client() as api,
    ):
        api.auth = TokenOfThePath()
        text = create_token(api, "ada", scope="read")["token"]
        task = create(api, "ada")
        url = request.getfixturevalue("replica")
        with (
            serving(tmp_path / "replica.log", DATABASE_URL=url, **WITH_SECRET) as copy,
            copy.client() as reads,
        ):
            reads.auth = TokenOfThePath()
            for _ in range(2):  # a replica cannot note the use of a token
                assert reads.get(tasks_path("ada"), headers=bearer(text)).json() == [task]
            assert listed(reads, "ada") == [task]
            answer, same = reads.get(task_path(task)), api.get(task_path(task))
            assert answer.headers["etag"] == same.headers["etag"]
            bread = {"title": "Buy bread"}
            for written in [
                reads.post(tasks_path("ada"), json=bread),
                reads.post(tasks_path("ada"), json=bread, headers={"Idempotency-Key": "key"}),
                reads.put(task_path(task), json=bread),
                reads.patch(f"{task_path(task)}/complete"),
                reads.delete(task_path(task)),
                reads.post(tokens_path("ada"), json={"name": "cron"}),
            ]:
                assert_problem(written, 503)
            later = create(api, "ada")
            assert eventually(lambda: listed(reads, "ada") == [task, later])
            assert copy.status("/health/ready") == 200
