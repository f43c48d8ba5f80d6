"""The service behind nginx."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.connections import connected, request
from tests.nginx import nginx
from tests.serving import NO_TLS, Server, serving
from tests.tasks import assert_problem, create, listed, task_path, tasks_path
from tests.test_changes import changes, changes_path
from tests.tokens import SECRET, TokenOfThePath, token

CHANGED = "The task has changed since you read it; get it again"


@pytest.fixture(scope="module")
def gzipped(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client behind an nginx that compresses every 200, which weakens its ETag."""
    compressing = f"""
        gzip on;
        gzip_min_length 1;
        gzip_types application/json text/event-stream;
        location / {{ proxy_pass {server.url}; }}
    """
    folder = tmp_path_factory.mktemp("nginx")
    with nginx(folder, compressing) as url, httpx.Client(base_url=url, verify=NO_TLS) as client:
        yield client


def weakened(response: httpx.Response) -> str:
    assert response.status_code == 200, response.text
    assert response.headers["content-encoding"] == "gzip"
    etag: str = response.headers["etag"]
    assert etag.startswith('W/"')
    return etag


def test_an_etag_that_nginx_weakened_allows_one_change(gzipped: httpx.Client, user: str) -> None:
    path = task_path(create(gzipped, user))
    condition = {"If-Match": weakened(gzipped.get(path))}

    patched = gzipped.patch(path, json={"title": "Buy bread"}, headers=condition)
    late = gzipped.patch(path, json={"title": "Buy rice"}, headers=condition)

    assert patched.status_code == 200
    assert_problem(late, 412, CHANGED)
    assert listed(gzipped, user) == [patched.json()]


def test_every_change_returns_an_etag_for_the_next_change(gzipped: httpx.Client, user: str) -> None:
    path = task_path(create(gzipped, user))
    etag = weakened(gzipped.get(path))
    for method, end, body in [
        ("PUT", "", {"title": " Buy bread "}),
        ("PATCH", "", {"description": "Rye"}),
        ("PATCH", "/complete", None),
        ("PUT", "", {}),
        ("PATCH", "/complete", {"completed": False}),
    ]:
        response = gzipped.request(method, path + end, json=body, headers={"If-Match": etag})
        etag = weakened(response)

    assert gzipped.delete(path, headers={"If-Match": etag}).status_code == 200
    assert listed(gzipped, user) == []


def test_a_weakened_etag_saves_an_answer(gzipped: httpx.Client, user: str) -> None:
    path = task_path(create(gzipped, user))
    etag = weakened(gzipped.get(path))

    assert gzipped.get(path, headers={"If-None-Match": etag}).status_code == 304


@pytest.fixture(scope="module")
def upgrading(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The service with tokens, behind an nginx that forwards upgrades on reused connections."""
    folder = tmp_path_factory.mktemp("upgrading")
    settings = {"DATABASE_URL": postgres, "AUTH_MODE": "jwt", "AUTH_SECRET": SECRET}
    with serving(folder / "log", **settings) as behind:
        address = behind.url.removeprefix("http://")
        http = f"""
            map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
            upstream tasks {{ server {address}; keepalive 1; }}
        """
        passing = """
            location / {
                proxy_pass http://tasks;
                proxy_http_version 1.1;
                proxy_set_header Upgrade $http_upgrade;
                proxy_set_header Connection $connection_upgrade;
            }
        """
        with nginx(folder / "nginx", passing, http) as url:
            yield Server(url, behind.process, behind.log_file, TokenOfThePath())


def test_no_body_runs_as_another_users_request_through_kept_connections(
    upgrading: Server, user: str, full: bool
) -> None:
    thief, victim = f"thief-{user}", f"victim-{user}"
    with upgrading.client() as api:
        task = create(api, victim)
        # The body is so long that nginx sends it apart from the request's head. The body has the
        # beginning of another head. The next request on the connection, with its own token, would
        # end this head.
        half = (
            b"\r\n" * 30_000
            + f"DELETE {task_path(task)} HTTP/1.1\r\nHost: localhost\r\nX: ".encode()
        )
        wish = [f"Authorization: Bearer {token(thief)}", "Connection: Upgrade", "Upgrade: x"]
        whole = request("POST", tasks_path(thief), *wish, body=half)
        head, body = whole[: -len(half)], whole[-len(half) :]

        for _ in range(200 if full else 40):
            with connected(upgrading) as connection:
                connection.send(head, body)
                assert connection.read().status == 422
            assert listed(api, victim) == [task]


@pytest.fixture(scope="module")
def plain(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client behind an nginx whose only setting is the address of the service."""
    passing = f"location / {{ proxy_pass {server.url}; }}"
    folder = tmp_path_factory.mktemp("plain")
    with nginx(folder, passing) as url, httpx.Client(base_url=url, verify=NO_TLS) as client:
        yield client


@pytest.mark.parametrize("way", ["plain", "gzipped"])
def test_events_arrive_as_they_happen(
    request: pytest.FixtureRequest, api: httpx.Client, user: str, way: str
) -> None:
    client: httpx.Client = request.getfixturevalue(way)
    accepted = {"Accept": "text/event-stream"}
    with client.stream("GET", changes_path(user), headers=accepted) as stream:
        told = (json.loads(line[6:]) for line in stream.iter_lines() if line.startswith("data: "))
        assert next(told)["changes"] == []
        for title in ["Buy milk", "Buy bread"]:
            task = create(api, user, title=title)
            assert next(told)["changes"] == [task]


def test_a_waiting_answer_arrives_as_soon_as_a_task_changes(
    plain: httpx.Client, api: httpx.Client, user: str
) -> None:
    waiting = {"Prefer": "wait=60"}
    since = changes(api, user)["next"]
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(
            plain.get, changes_path(user), params={"since": since}, headers=waiting
        )
        task = create(api, user)
        assert answer.result().json()["changes"] == [task]
