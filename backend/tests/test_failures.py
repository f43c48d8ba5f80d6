"""Faults in the service and in the database."""

import asyncio
import json
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import psutil
import pytest
from fastapi import Request
from pydantic import SecretStr

from src.config import Settings
from src.database import opened_engine
from src.framework.sql.embedded import embedded_server
from src.framework.sql.exceptions import DatabaseUnavailable
from src.routers.problems import EXCEPTION_HANDLERS
from tests.conftest import execute
from tests.serving import FRONTEND_ORIGIN, NO_TLS, Server, eventually, kill_all, serving, started
from tests.tasks import assert_problem, create, listed, tasks_path


def test_an_unexpected_error_reveals_no_internals(own_database: str, tmp_path: Path) -> None:
    with serving(tmp_path / "log", DATABASE_URL=own_database) as server:
        asyncio.run(execute(own_database, "ALTER TABLE tasks RENAME TO hidden"))

        response = httpx.get(
            f"{server.url}/api/ada/tasks",
            headers={"X-Request-ID": "find-me", "Origin": FRONTEND_ORIGIN},
            verify=NO_TLS,
        )

    assert_problem(
        response,
        500,
        "An unexpected error ended the request; "
        "find this answer's X-Request-ID in the service's log",
    )
    assert response.headers["access-control-allow-origin"] == FRONTEND_ORIGIN
    assert response.headers["x-request-id"] == "find-me"
    assert "Unexpected error in request find-me" in server.log
    assert 'UndefinedTableError: relation "tasks" does not exist' in server.log
    assert server.log.count("Traceback") == server.log.count("The above exception") + 1


def test_an_absent_database_is_503_until_it_is_back(tmp_path: Path) -> None:
    with (
        embedded_server(tmp_path / "data") as url,
        serving(tmp_path / "log", DATABASE_URL=url) as server,
        server.client() as api,
    ):
        task = create(api, "ada")
        end_postgres(tmp_path / "data")

        for path in ["/api/ada/tasks", "/health/ready"]:
            response = api.get(path, headers={"Origin": FRONTEND_ORIGIN})
            assert_problem(
                response, 503, "The database cannot be reached just now; try again in a moment"
            )
            assert response.headers["retry-after"] == "2"
            assert response.headers["access-control-allow-origin"] == FRONTEND_ORIGIN
        assert_problem(api.post("/api/ada/tasks", json={"title": "lost"}), 503)
        assert api.get("/health/live").status_code == 200

        with embedded_server(tmp_path / "data"):
            assert eventually(lambda: server.status("/health/ready") == 200)
            assert listed(api, "ada") == [task]


def end_postgres(data_dir: Path) -> None:
    """Kill the server, as a crash does."""
    pid = int((data_dir / "postgres" / "postmaster.pid").read_text().split()[0])
    postmaster = psutil.Process(pid)
    family = [postmaster, *postmaster.children()]
    kill_all(family)
    psutil.wait_procs(family, timeout=10)


@pytest.mark.anyio
async def test_more_connections_than_the_role_may_have_are_503(
    direct: str, direct_database: str, tmp_path: Path
) -> None:
    role = f"few_{uuid4().hex}"
    await execute(direct, f"CREATE ROLE {role} LOGIN SUPERUSER")
    url = direct_database.replace("postgres:@", f"{role}:@")
    with serving(tmp_path / "log", DATABASE_URL=url) as server:
        await execute(direct, f"ALTER ROLE {role} NOSUPERUSER CONNECTION LIMIT 1")
        await execute(direct_database, "GRANT ALL ON tasks TO public")
        async with httpx.AsyncClient(base_url=server.url, verify=NO_TLS) as api:
            answers = await asyncio.gather(*(api.get("/api/ada/tasks") for _ in range(30)))

    assert {answer.status_code for answer in answers} == {200, 503}
    assert "Traceback" not in server.log


def alter(url: str, setting: str, value: str) -> None:
    """Change a setting for every new session of the database."""
    name = url.split("/")[3].split("?", maxsplit=1)[0]
    asyncio.run(execute(url, f"ALTER DATABASE {name} SET {setting} = '{value}'"))


def test_a_read_only_database_serves_reads_and_503_for_writes(
    direct_database: str, tmp_path: Path
) -> None:
    alter(direct_database, "default_transaction_read_only", "on")
    with serving(tmp_path / "log", DATABASE_URL=direct_database) as server, server.client() as api:
        assert listed(api, "ada") == []
        assert_problem(api.post("/api/ada/tasks", json={"title": "Buy milk"}), 503)


@pytest.mark.anyio
async def test_the_log_says_why_the_database_is_unavailable(
    caplog: pytest.LogCaptureFixture,
) -> None:
    error = DatabaseUnavailable("no answer in time")
    error.__cause__ = TimeoutError()

    await EXCEPTION_HANDLERS[DatabaseUnavailable](Request({"type": "http"}), error)

    assert caplog.messages == ["The database is unavailable: no answer in time"]


def test_times_are_in_utc_whatever_the_databases_own_zone(
    own_database: str, tmp_path: Path
) -> None:
    alter(own_database, "timezone", "America/New_York")
    with serving(tmp_path / "log", DATABASE_URL=own_database) as server, server.client() as api:
        assert create(api, "ada")["created_at"].endswith("+00:00")


def sentence(log: str) -> str:
    """Return the one line that says why the service cannot start."""
    [line] = [line for line in log.splitlines() if "The service cannot start" in line]
    return line


@pytest.mark.anyio
async def test_the_end_of_the_service_closes_the_connections_of_start_up(
    postgres: str, caplog: pytest.LogCaptureFixture
) -> None:
    url = SecretStr(f"{postgres}&colour=red")
    settings = Settings(database_url=url, auth_mode="open", _env_file=None)

    async with opened_engine(settings, asyncio.Event()) as engine:
        pool: Any = engine.pool
        assert pool.checkedin() > 0

    assert pool.checkedin() == 0
    assert set(caplog.messages) == {
        "DATABASE_URL: the service ignores the unknown parameter colour"
    }


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("postgres:@", "nobody:secret@", 'role "nobody" does not exist'),
        ("/postgres?", "/nowhere?", 'database "nowhere" does not exist'),
        ("/postgres?host=", "/postgres?host=/nowhere", "No such file or directory"),
    ],
)
def test_a_database_that_refuses_at_start_up_is_reported_in_one_sentence(
    direct: str, tmp_path: Path, old: str, new: str, reason: str
) -> None:
    with started(tmp_path / "log", DATABASE_URL=direct.replace(old, new)) as server:
        assert server.process.wait(timeout=30) == 3

    assert "The database cannot be reached" in sentence(server.log)
    assert reason in sentence(server.log)
    assert "check DATABASE_URL" in sentence(server.log)
    assert "Traceback" not in server.log
    assert "secret" not in server.log


def test_a_database_that_is_absent_at_start_up_is_reported_in_one_sentence(tmp_path: Path) -> None:
    url = "postgresql://ada:secret@127.0.0.1:1/tasks"

    with started(tmp_path / "log", DATABASE_URL=url) as server:
        assert server.process.wait(timeout=30) == 3

    assert "The database cannot be reached" in sentence(server.log)
    assert "Traceback" not in server.log
    assert "secret" not in server.log


def test_tables_that_cannot_be_created_are_reported_in_one_sentence(
    empty_database: str, tmp_path: Path
) -> None:
    asyncio.run(execute(empty_database, "CREATE TABLE tasks (colour text)"))

    with started(tmp_path / "log", DATABASE_URL=empty_database) as server:
        assert server.process.wait(timeout=30) == 3

    assert "Another program made tasks: tasks has a column colour" in sentence(server.log)
    assert "Traceback" not in server.log


def test_a_connection_that_ends_with_or_before_its_answer_logs_no_error(
    postgres: str, tmp_path: Path
) -> None:
    with serving(tmp_path / "log", DATABASE_URL=postgres, WORKERS="1") as server:
        for _ in range(20):
            answer = httpx.get(
                f"{server.url}/api/ada/tasks", headers={"Connection": "close"}, verify=NO_TLS
            )
            assert answer.status_code == 200
        for _ in range(50):
            port = urlsplit(server.url).port or 0
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.sendall(b"GET /api/ada/tasks HTTP/1.1\r\nHost: localhost\r\n\r\n" * 3)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        assert httpx.get(f"{server.url}/health/ready", verify=NO_TLS).status_code == 200

    assert "ERROR" not in server.log
    assert "Traceback" not in server.log


def lines(server: Server, path: str) -> list[str]:
    return [line for line in server.log.splitlines() if path in line]


def test_a_request_has_one_line_in_the_log(server: Server, api: httpx.Client, user: str) -> None:
    api.get(tasks_path(user), headers={"X-Request-ID": user})

    assert eventually(lambda: user in server.log)
    [line] = lines(server, user)
    assert "INFO GET /api/{user_id}/tasks 200 " in line
    assert line.endswith(f" ms {user} 127.0.0.1")


@pytest.fixture(scope="module")
def in_json(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("json") / "log"
    with serving(log, DATABASE_URL=postgres, LOG_FORMAT="json") as server:
        yield server


@pytest.mark.parametrize(
    ("method", "path", "template", "status"),
    [
        ("GET", "/nowhere", "-", 404),
        ("GET", "/api/%FF/tasks", "-", 400),
        ("HEAD", "/api/ada/tasks", "/api/{user_id}/tasks", 200),
        ("OPTIONS", "/api/ada/tasks/x", "/api/{user_id}/tasks/{task_id}", 204),
        ("PATCH", "/api/ada/tasks/x/complete", "/api/{user_id}/tasks/{task_id}/complete", 422),
    ],
)
def test_json_lines_have_the_same_fields(
    in_json: Server, user: str, method: str, path: str, template: str, status: int
) -> None:
    httpx.request(method, f"{in_json.url}{path}", headers={"X-Request-ID": user}, verify=NO_TLS)

    assert eventually(lambda: user in in_json.log)
    [line] = [json.loads(line) for line in lines(in_json, user)]
    assert line["method"] == method
    assert line["path"] == template
    assert line["status"] == status
    assert line["ms"] > 0
    assert line["request_id"] == user
    assert line["level"] == "info"


def test_a_quiet_log_has_no_line_for_a_request(postgres: str, tmp_path: Path) -> None:
    with serving(tmp_path / "log", DATABASE_URL=postgres, LOG_LEVEL="WARNING") as server:
        httpx.get(f"{server.url}/api/ada/tasks", verify=NO_TLS)

    assert "/api/{user_id}/tasks" not in server.log
