"""Any ASGI server or adapter can serve the application, also without ASGI's optional parts."""

import json
import sys
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.serving import FORKED, Server, free_port, ran, serving
from tests.tasks import assert_problem, create, listed, tasks_path

APP = "src.main:app"
SERVERS = {
    "uvicorn": ["uvicorn", APP, "--port", "PORT"],
    "uvicorn without lifespan": ["uvicorn", APP, "--port", "PORT", "--lifespan", "off"],
    "uvicorn with h11": ["uvicorn", APP, "--port", "PORT", "--http", "h11"],
    "hypercorn": ["hypercorn", APP, "--bind", "127.0.0.1:PORT"],
    "granian": ["granian", "--interface", "asgi", "--port", "PORT", APP],
    "daphne": ["daphne", "--port", "PORT", APP],
    "gunicorn": [
        *("gunicorn", APP, "--bind", "127.0.0.1:PORT"),
        *("--worker-class", "uvicorn_worker.UvicornWorker"),
    ],
}


@pytest.fixture(scope="module", params=SERVERS)
def anywhere(
    request: pytest.FixtureRequest, postgres: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """The service on each of the servers in `SERVERS`."""
    port = str(free_port())
    name, *arguments = [each.replace("PORT", port) for each in SERVERS[request.param]]
    if find_spec(name) is None:
        pytest.skip(f"needs {name}: pip install {name}")
    log = tmp_path_factory.mktemp("anywhere") / "log"
    with serving(
        log, (FORKED, name, *arguments), PORT=port, DATABASE_URL=postgres, LOG_FORMAT="json"
    ) as server:
        yield server
    assert "Traceback" not in server.log, server.log[server.log.find("Traceback") :][:3000]


def test_every_server_serves_the_six_endpoints(anywhere: Server, user: str) -> None:
    user = f"{user} / ü%"
    with anywhere.client() as api:
        response = api.post(tasks_path(user), json={"title": "Buy milk"})
        assert response.status_code == 201
        location = response.headers["Location"]
        assert api.get(location).json() == response.json()
        assert api.put(location, json={"title": "Buy oat milk"}).status_code == 200
        assert api.patch(f"{location}/complete").json()["completed"] is True
        assert [task["title"] for task in listed(api, user)] == ["Buy oat milk"]
        assert api.delete(location).status_code == 200
        assert api.head(location).status_code == 404


def path_of(user: str) -> str:
    return (
        httpx.URL("http://x").copy_with(path=f"/{user}").raw_path.decode()[1:].replace("/", "%2F")
    )


def test_every_server_streams_changes(anywhere: Server, user: str) -> None:
    with (
        anywhere.client() as api,
        api.stream(
            "GET", f"/api/{user}/tasks/changes", headers={"Accept": "text/event-stream"}
        ) as stream,
    ):
        lines = stream.iter_lines()
        assert next(lines).startswith("retry: ")
        assert any(line.startswith("data: ") for line in lines)  # later changes are in the stream
        with anywhere.client() as other:
            create(other, user, title="Buy bread")
        assert any("Buy bread" in line for line in lines)


def test_every_server_answers_a_wrong_request_with_a_problem(anywhere: Server) -> None:
    with anywhere.client() as api:
        assert_problem(api.get("/nothing"), 404)
        assert_problem(api.post("/api/ada/tasks", json={"title": ""}), 422)
        assert_problem(api.get("/api/%ff/tasks"), 400)
        assert_problem(api.put("/api/ada/tasks"), 405)


# A scope with only what the specification requires


REQUIRED = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET"}


BARE = """
import asyncio, json, sys
from src.main import app

scopes = json.loads(sys.argv[1])

async def call(scope, body):
    sent = []
    async def receive():
        if not sent:
            return {"type": "http.request", "body": body}
        return {"type": "http.disconnect"}
    async def send(message):
        sent.append(message)
    async with asyncio.timeout(10):
        await app(scope, receive, send)
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return [sent[0]["status"], headers, b"".join(m.get("body", b"") for m in sent[1:]).decode()]

async def call_all():
    answers = []
    for scope in map(dict, scopes):
        scope["headers"] = [(n.encode(), v.encode()) for n, v in scope.get("headers", [])]
        scope["query_string"] = scope.get("query_string", "").encode()
        body = scope.pop("body", "").encode()
        answers.append(await call(scope, body))
    return answers

for _ in range(int(sys.argv[2])):
    # In one piece: `print` writes the line's end by itself, and the log writes to the same pipe.
    sys.stdout.write(json.dumps(asyncio.run(call_all())) + "\\n")
"""


def called(
    postgres: str, *scopes: Mapping[str, Any], loops: int = 1, **settings: str
) -> list[tuple[int, dict[str, str], Any]]:
    """Call the application as an adapter with only these scopes does. Return the answers."""
    sent = json.dumps([{**REQUIRED, "headers": [("host", "localhost")], **each} for each in scopes])
    settings = {"DATABASE_URL": postgres, "LOG_LEVEL": "warning"} | settings
    status, said = ran("tests.script", BARE, sent, str(loops), **settings)
    assert status == 0, said
    lines = [line for line in said.splitlines() if line.startswith("[[")]
    return [
        (status, headers, json.loads(body) if body else None)
        for line in lines
        for status, headers, body in json.loads(line)
    ]


def test_a_scope_may_have_only_the_members_that_every_scope_must_have(
    postgres: str, user: str
) -> None:
    path = f"/api/{user} ü%/tasks"
    new = {"method": "POST", "path": path, "body": '{"title": "Buy milk"}'}
    as_json = [("host", "localhost"), ("content-type", "application/json")]

    created, found, absent, alive, *_ = called(
        postgres,
        new | {"headers": as_json},
        {"path": path, "query_string": "limit=1", "raw_path": None, "client": None, "server": None},
        {"path": "/nothing"},
        {"path": "/health/live", "root_path": ""},
    )

    assert created[0] == 201
    quoted = path.replace(" ", "%20").replace("ü", "%C3%BC").replace("%/", "%25/")
    assert created[1]["location"] == f"{quoted}/{created[2]['id']}"
    assert [task["title"] for task in found[2]] == ["Buy milk"]
    assert absent[0] == 404
    assert alive[0] == 200


def test_each_event_loop_opens_its_own_connections(postgres: str, user: str) -> None:
    """Some adapters run each request in an event loop of its own."""
    answers = called(postgres, {"path": f"/api/{user}/tasks"}, {"path": "/health/ready"}, loops=3)

    assert [status for status, _, _ in answers] == [200] * 6


def test_each_answer_of_a_service_that_cannot_start_is_a_503() -> None:
    nobody = f"postgresql://ada:secret@127.0.0.1:{free_port()}/tasks"

    for status, headers, problem in called(nobody, {"path": "/health/live"}, {"path": "/"}):
        assert status == 503
        assert headers["retry-after"] == "2"
        assert problem["detail"] == "The service cannot start just now; the service's log says why"


@pytest.mark.parametrize(
    ("scope", "settings"),
    [
        ({"path": "/tasks-api/api/ada/tasks", "root_path": "/tasks-api"}, {}),
        ({"path": "/api/ada/tasks", "root_path": "/tasks-api"}, {}),
        ({"path": "/api/ada/tasks", "root_path": "/tasks-api/"}, {}),
        ({"path": "/api/ada/tasks"}, {"ROOT_PATH": "/tasks-api"}),
        ({"path": "/api/ada/tasks"}, {"ROOT_PATH": "/tasks-api/"}),
        ({"path": "/api/ada/tasks", "root_path": ""}, {"ROOT_PATH": "/tasks-api"}),
        ({"path": "/api/ada/tasks", "root_path": "/tasks-api"}, {"ROOT_PATH": "/tasks-api"}),
    ],
)
def test_every_link_has_the_prefix_whoever_strips_the_prefix(
    postgres: str, scope: dict[str, str], settings: dict[str, str]
) -> None:
    as_json = [("host", "localhost"), ("content-type", "application/json")]
    new = scope | {"method": "POST", "body": '{"title": "Buy milk"}', "headers": as_json}
    contract = scope | {"path": scope["path"].replace("/api/ada/tasks", "/openapi.json")}

    created, _, page, described = called(
        postgres, new, new, scope | {"query_string": "limit=1"}, contract, loops=1, **settings
    )

    assert created[1]["location"].startswith("/tasks-api/api/ada/tasks/")
    assert page[1]["link"].startswith("</tasks-api/api/ada/tasks?limit=1&cursor=")
    assert described[2]["servers"][0] == {"url": "/tasks-api"}


def test_the_root_behind_a_prefix_leads_to_the_docs(postgres: str) -> None:
    root = {"path": "/"}
    whole = {"path": "/tasks-api/", "root_path": "/tasks-api"}

    for status, headers, _ in called(postgres, root, whole, ROOT_PATH="/tasks-api"):
        assert status == 307
        assert headers["location"] == "/tasks-api/docs"


def test_a_prefix_may_look_like_a_path_of_the_service(postgres: str) -> None:
    new = {"method": "POST", "path": "/api/ada/tasks", "body": '{"title": "Buy milk"}'}
    as_json = [("host", "localhost"), ("content-type", "application/json")]

    [(status, headers, _)] = called(postgres, new | {"headers": as_json}, ROOT_PATH="/api")

    assert status == 201
    assert headers["location"].startswith("/api/api/ada/tasks/")


# A serverless adapter


API_GATEWAY = {
    "version": "2.0",
    "routeKey": "$default",
    "rawPath": "/api/ada/tasks",
    "rawQueryString": "",
    "headers": {"host": "abc.execute-api.example", "content-type": "application/json"},
    "requestContext": {
        "http": {"method": "POST", "path": "/api/ada/tasks", "sourceIp": "192.0.2.1"},
        "stage": "$default",
    },
    "body": '{"title": "Buy milk"}',
    "isBase64Encoded": False,
}
HANDLER = """
import asyncio, json, sys
from mangum import Mangum
from src.main import app

asyncio.set_event_loop(asyncio.new_event_loop())
handler = Mangum(app, lifespan=sys.argv[2])
for _ in range(3):
    print(json.dumps(handler(json.loads(sys.argv[1]), {})))
"""


@pytest.mark.parametrize("lifespan", ["auto", "off"])
def test_a_serverless_adapter_can_call_the_service(postgres: str, lifespan: str) -> None:
    if find_spec("mangum") is None:
        pytest.skip("needs mangum: pip install mangum")
    status, said = ran(
        *("tests.script", HANDLER, json.dumps(API_GATEWAY), lifespan),
        DATABASE_URL=postgres,
        LOG_LEVEL="warning",
    )

    assert status == 0, said
    answers = [json.loads(line) for line in said.splitlines()]
    assert [answer["statusCode"] for answer in answers] == [201] * 3
    assert answers[0]["headers"]["location"].startswith("/api/ada/tasks/")


# A system without the functions and modules that Windows lacks


WITHOUT = """
import asyncio, importlib, multiprocessing, runpy, selectors, subprocess, sys
import os, select, signal, socket
for module, names in {
    os: "fork forkpty killpg getpgid setsid getuid geteuid getgid uname sched_getaffinity "
        "posix_fadvise pread pwrite writev readv sendfile memfd_create mkfifo fchown chown nice "
        "getpriority register_at_fork pipe2 openpty statvfs sysconf O_CLOEXEC O_NONBLOCK",
    select: "poll epoll kqueue devpoll PIPE_BUF",
    signal: "SIGHUP SIGKILL SIGQUIT SIGUSR1 SIGUSR2 SIGALRM SIGCHLD SIGPIPE SIGTSTP SIGWINCH "
        "pthread_sigmask pthread_kill sigwait sigpending alarm setitimer siginterrupt SIG_BLOCK "
        "SIG_UNBLOCK SIG_SETMASK",
    socket: "sendmsg SO_REUSEPORT SCM_RIGHTS MSG_CMSG_CLOEXEC",
}.items():
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)
for name in ["fcntl", "resource", "termios", "pwd", "grp", "syslog", "pty", "tty", "uvloop"]:
    sys.modules[name] = None
runpy.run_module("src", run_name="__main__", alter_sys=True)
"""


def test_the_service_runs_without_the_functions_and_modules_that_windows_lacks(
    postgres: str, tmp_path: Path, user: str
) -> None:
    with serving(
        tmp_path / "log", (sys.executable, "-c", WITHOUT), DATABASE_URL=postgres
    ) as server:
        with server.client() as api:
            task = create(api, user)
            assert listed(api, user) == [task]
        server.stop()
    assert "Traceback" not in server.log, server.log[server.log.find("Traceback") :][:3000]
