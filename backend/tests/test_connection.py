"""No bytes on a connection are read as another user's request."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import httpx
import psutil
import pytest
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from src.framework.server import protocol
from src.framework.server.protocol import MAX_SHORT_PIECES, HTTPProtocol
from tests.connections import chunked, connected, request
from tests.serving import FORKED, Server, eventually, free_port, serving, started
from tests.tasks import create, listed, task_path, tasks_path

MILK = b'{"title": "Buy milk"}'
UPGRADES = ["x", "h2c", "websocket", "TLS/1.0, x"]


def stolen(user: str) -> bytes:
    """A body that would create another user's task if it were read as a request."""
    return request("POST", tasks_path(user), body=MILK)


@pytest.mark.parametrize("upgrade", UPGRADES)
@pytest.mark.parametrize("is_chunked", [False, True])
@pytest.mark.parametrize("segments", [1, 2, 3])
def test_an_upgrade_is_ignored_and_the_body_belongs_to_the_request(
    server: Server, user: str, upgrade: str, is_chunked: bool, segments: int
) -> None:
    wish = ["Connection: keep-alive, Upgrade", f"Upgrade: {upgrade}"]
    if is_chunked:
        fields = ["Transfer-Encoding: chunked", "Content-Type: application/json"]
        whole = request("POST", tasks_path(user), *wish, *fields) + chunked(MILK)
    else:
        whole = request("POST", tasks_path(user), *wish, body=MILK)
    end_of_head = whole.index(b"\r\n\r\n") + 4
    cuts = {1: [], 2: [end_of_head], 3: [end_of_head - 9, end_of_head + 5]}[segments]
    pieces = [whole[i:j] for i, j in zip([0, *cuts], [*cuts, None], strict=True)]

    with connected(server) as connection:
        connection.send(*pieces)
        first = connection.read()
        connection.send(request("GET", tasks_path(user)))
        second = connection.read()

    assert (first.status, first.json["title"]) == (201, "Buy milk")
    assert "upgrade" not in first.headers
    assert second.json == [first.json]


def test_a_body_after_an_upgrade_never_runs_as_a_request(
    server: Server, api: httpx.Client, user: str
) -> None:
    other = f"other-{user}"
    wish = ["Connection: Upgrade", "Upgrade: x"]
    head, _, body = request("POST", tasks_path(user), *wish, body=stolen(other)).partition(
        b"\r\n\r\n"
    )

    with connected(server) as connection:
        connection.send(head + b"\r\n\r\n", body)
        answer = connection.read()
        connection.send(request("GET", tasks_path(user)))
        assert connection.read().json == []

    assert answer.status == 422
    assert listed(api, other) == []


def test_pipelined_upgrades_are_each_answered(server: Server, user: str) -> None:
    wish = ["Connection: Upgrade", "Upgrade: h2c"]

    with connected(server) as connection:
        connection.send(
            request("POST", tasks_path(user), *wish, body=MILK) * 2
            + request("GET", tasks_path(user), *wish)
        )
        answers = [connection.read() for _ in range(3)]

    assert [answer.status for answer in answers] == [201, 201, 200]
    assert answers[2].json == [answers[0].json, answers[1].json]


@pytest.mark.parametrize("is_split", [False, True])
def test_trailers_are_not_headers(
    server: Server, api: httpx.Client, user: str, is_split: bool
) -> None:
    task = create(api, user)
    fields = ["Transfer-Encoding: chunked", "Content-Type: application/json"]
    trailers = ['If-Match: "other"', "X-Request-ID: of-a-trailer", "Host: twice"]
    whole = request("PATCH", task_path(task), *fields) + chunked(b'{"completed": true}', *trailers)
    middle = whole.index(b"If-Match")

    with connected(server) as connection:
        connection.send(*([whole[:middle], whole[middle:]] if is_split else [whole]))
        answer = connection.read()

    assert answer.status == 200
    assert answer.headers["x-request-id"] != "of-a-trailer"


def test_an_idempotency_key_in_a_trailer_is_ignored(
    server: Server, api: httpx.Client, user: str
) -> None:
    fields = ["Transfer-Encoding: chunked", "Content-Type: application/json"]
    create_once = request("POST", tasks_path(user), *fields) + chunked(MILK, "Idempotency-Key: k")

    with connected(server) as connection:
        connection.send(create_once)
        first = connection.read()
        connection.send(create_once)
        second = connection.read()

    assert listed(api, user) == [first.json, second.json]


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ([], 400),
        (["Host: a.example", "Host: a.example"], 400),
        (["Host: a.example", "Host: b.example"], 400),
        (["Host: a b"], 400),
        (["Host: a.example/x"], 400),
        (["Host: user@a.example"], 400),
        (["Host: [::1"], 400),
        (["Host: localhost:x"], 400),
        (["Host: localhost", "Transfer-Encoding: gzip, chunked"], 501),
        (["Host: localhost", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked"], 400),
    ],
)
def test_an_ambiguous_request_is_refused_and_its_connection_closed(
    server: Server, api: httpx.Client, user: str, fields: list[str], status: int
) -> None:
    body = chunked(MILK) if "chunked" in fields[-1:] else b""

    with connected(server) as connection:
        connection.send(request("POST", tasks_path(user), *fields, host="") + body)
        answer = connection.read()
        connection.send(request("POST", tasks_path(user), body=MILK))
        assert connection.is_closed()

    assert answer.status == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["connection"] == "close"
    assert listed(api, user) == []


def test_white_space_around_a_value_is_not_part_of_the_value(server: Server) -> None:
    """RFC 9112 §5.1."""
    fields = ["Host: \t localhost \t", "X-Request-ID: of-mine\t "]
    with connected(server) as connection:
        connection.send(request("GET", "/health/live", *fields, host=""))
        answer = connection.read()

    assert answer.status == 200
    assert answer.headers["x-request-id"] == "of-mine"


def test_an_absolute_target_without_a_path_is_the_root(server: Server) -> None:
    """RFC 9112 §3.2.2, RFC 9110 §4.2.3."""
    with connected(server) as connection:
        connection.send(request("GET", "http://localhost"))
        assert connection.read().status == 307
        connection.send(request("GET", "http://localhost?x=1"))
        assert connection.read().status == 307


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8000", "127.0.0.1:80", "[::1]:8000", "localhost:"]
)
def test_a_host_may_have_a_port_and_be_an_address(server: Server, host: str) -> None:
    with connected(server) as connection:
        connection.send(request("GET", "/health/live", host=f"Host: {host}"))
        assert connection.read().status == 200


def test_http_1_0_needs_no_host(server: Server) -> None:
    with connected(server) as connection:
        connection.send(b"GET /health/live HTTP/1.0\r\n\r\n")
        assert connection.read().status == 200


@pytest.mark.parametrize("coding", ["gzip", "br", "gzip, identity", "x"])
def test_an_encoded_body_is_415(api: httpx.Client, user: str, coding: str) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": coding}

    response = api.post(tasks_path(user), content=MILK, headers=headers)

    assert response.status_code == 415
    assert response.headers["accept-encoding"] == "identity"
    assert listed(api, user) == []


def test_a_body_with_content_encoding_identity_is_accepted(api: httpx.Client, user: str) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": "Identity"}

    assert api.post(tasks_path(user), content=MILK, headers=headers).status_code == 201


@pytest.mark.parametrize("rubbish", [b"rubbish\r\n\r\n", b"\0" * 100, b"GET / HTTP/9\r\n\r\n"])
def test_a_request_before_invalid_input_is_answered_first(
    server: Server, user: str, rubbish: bytes
) -> None:
    with connected(server) as connection:
        connection.send(request("POST", tasks_path(user), body=MILK) + rubbish)
        own, refusal = connection.read(), connection.read()
        assert connection.is_closed()

    assert (own.status, own.json["title"]) == (201, "Buy milk")
    assert (refusal.status, refusal.json["detail"]) == (400, "The request is not valid HTTP")


def test_a_body_with_a_broken_chunk_is_400_and_creates_nothing(
    server: Server, api: httpx.Client, user: str
) -> None:
    fields = ["Transfer-Encoding: chunked", "Content-Type: application/json"]
    with connected(server) as connection:
        connection.send(request("POST", tasks_path(user), *fields) + b'5\r\n{"tit\r\n', b"zz\r\n")
        assert connection.read().status == 400
        assert connection.is_closed()

    assert listed(api, user) == []


@pytest.mark.parametrize("path", [tasks_path("ada"), "/nowhere"])
@pytest.mark.parametrize("extension", [b"", b";a=b"])
def test_a_body_in_endlessly_many_chunks_is_not_read_to_its_end(
    server: Server, path: str, extension: bytes
) -> None:
    head = request("POST", path, "Content-Type: application/json", "Transfer-Encoding: chunked")
    chunks = (b"1%b\r\n \r\n" % extension) * (MAX_SHORT_PIECES + 1)
    with connected(server) as connection:
        connection.send(head, chunks)
        answer = connection.read()

        assert connection.received.read() == b""
    assert answer.status == (404 if path == "/nowhere" else 413)


def test_a_body_may_arrive_in_many_chunks(server: Server, user: str) -> None:
    head = request(
        "POST", tasks_path(user), "Content-Type: application/json", "Transfer-Encoding: chunked"
    )
    text = b'{"title":"Buy milk"}'
    chunks = b"1\r\n \r\n" * (MAX_SHORT_PIECES - 1) + chunked(text)
    with connected(server) as connection:
        connection.send(head + chunks)

        assert connection.read().status == 201


@pytest.mark.parametrize("requests", [1, 3, 200])
def test_a_client_that_half_closes_gets_its_answers(
    server: Server, user: str, requests: int
) -> None:
    with connected(server) as connection:
        connection.send(request("POST", tasks_path(user), body=MILK) * requests)
        connection.send_no_more()
        answers = [connection.read() for _ in range(requests)]
        assert connection.is_closed()

    assert [answer.status for answer in answers] == [201] * requests


def test_half_a_request_before_a_half_close_is_ignored(
    server: Server, api: httpx.Client, user: str
) -> None:
    with connected(server) as connection:
        connection.send(request("POST", tasks_path(user), body=MILK)[:-1])
        connection.send_no_more()
        assert connection.is_closed()

    assert listed(api, user) == []


def test_pipelined_requests_are_answered_in_order(server: Server, user: str) -> None:
    titles = [f"{number} {uuid4()}" for number in range(500)]
    bodies = [json.dumps({"title": title}).encode() for title in titles]

    with connected(server) as connection:
        connection.send(b"".join(request("POST", tasks_path(user), body=body) for body in bodies))
        answers = [connection.read() for _ in titles]

    assert [answer.json["title"] for answer in answers] == titles


def test_connect_is_refused(server: Server) -> None:
    with connected(server) as connection:
        connection.send(request("CONNECT", "localhost:80"))
        assert connection.read().status == 400
        assert connection.is_closed()


def head_of(size: int) -> bytes:
    """A request for /health/live whose head has this many bytes."""
    short = request("GET", "/health/live", "X: ")
    return short[:-4] + b"x" * (size - len(short)) + b"\r\n\r\n"


def test_a_head_of_64_kib_is_accepted_and_a_larger_head_is_431(server: Server) -> None:
    with connected(server) as connection:
        connection.send(head_of(64 * 1024))
        assert connection.read().status == 200
        connection.send(head_of(64 * 1024 + 1))
        assert connection.read().status == 431
        assert connection.is_closed()


def test_200_fields_are_accepted_and_201_fields_are_431(server: Server) -> None:
    with connected(server) as connection:
        connection.send(request("GET", "/health/live", *["X: x"] * 199))
        assert connection.read().status == 200
        connection.send(request("GET", "/health/live", *["X: x"] * 200))
        answer = connection.read()
        assert connection.is_closed()

    assert answer.status == 431
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["detail"] == "A request's head may have at most 65536 bytes and 200 fields"


@pytest.mark.parametrize(
    "endless",
    [
        pytest.param(b"GET /health/live HTTP/1.1\r\nX: " + b"x" * 200_000, id="a header"),
        pytest.param(b"GET /" + b"x" * 200_000, id="a path"),
        pytest.param(b"GET /health/live HTTP/1.1\r\n" + b"X: x\r\n" * 300, id="fields"),
        pytest.param(b"\r\n" * 100_000, id="empty lines"),
        pytest.param(
            request("POST", "/api/ada/tasks", "Transfer-Encoding: chunked")
            + b"1;"
            + b"x" * 200_000,
            id="a chunk's extension",
        ),
        pytest.param(
            request("POST", "/api/ada/tasks", "Transfer-Encoding: chunked")
            + b"0\r\n"
            + b"X: x\r\n" * 300,
            id="trailers",
        ),
    ],
)
def test_a_head_without_end_is_431(server: Server, endless: bytes) -> None:
    with connected(server) as connection:
        connection.send(endless)
        assert connection.read().status == 431
        assert connection.is_closed()


def test_a_request_before_a_large_head_is_answered_first(server: Server) -> None:
    with connected(server) as connection:
        connection.send(request("GET", "/health/live") + head_of(100_000))
        assert [connection.read().status, connection.read().status] == [200, 431]
        assert connection.is_closed()


@pytest.mark.parametrize("http", ["httptools", "h11"])
def test_plain_uvicorn_refuses_an_upgrade_and_closes(
    postgres: str, tmp_path: Path, user: str, http: str
) -> None:
    port = str(free_port())
    command = [FORKED, "uvicorn", "src.main:app", "--http", http, "--port", port]
    wish = ["Connection: Upgrade", "Upgrade: x"]
    head, _, body = request("POST", tasks_path(user), *wish, body=stolen(user)).partition(
        b"\r\n\r\n"
    )

    with serving(tmp_path / "log", command, DATABASE_URL=postgres, PORT=port) as server:
        with connected(server) as connection:
            connection.send(head + b"\r\n\r\n", body)
            refusal = connection.read()
            assert connection.is_closed()
        with server.client() as api:
            assert listed(api, user) == []

    assert refusal.status == 400
    assert refusal.json["detail"] == "This server does not switch to another protocol"


def test_the_first_connection_of_a_process_is_served(postgres: str, tmp_path: Path) -> None:
    with started(tmp_path / "log", DATABASE_URL=postgres) as server:
        assert eventually(lambda: listens(server), seconds=30)
        with connected(server) as connection:
            connection.send(request("GET", "/health/live"))
            assert connection.read().status == 200


def listens(server: Server) -> bool:
    """Say whether the server listens, without a connection to the server."""
    connections = psutil.Process(server.process.pid).net_connections("tcp")
    return any(each.status == psutil.CONN_LISTEN for each in connections)


@asynccontextmanager
async def served(app: ASGIApp, *, keep_alive: int = 5) -> AsyncIterator[uvicorn.Server]:
    """Serve an application of the test's own in the test's own loop."""
    config = uvicorn.Config(
        app,
        port=0,
        http=HTTPProtocol,
        lifespan="off",
        log_config=None,
        timeout_keep_alive=keep_alive,
    )
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    yield server
    await server.shutdown()


async def connect(server: uvicorn.Server) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    _, port = server.servers[0].sockets[0].getsockname()
    return await asyncio.open_connection("127.0.0.1", port)


@pytest.mark.anyio
async def test_the_service_makes_a_response_no_faster_than_its_client_reads() -> None:
    """Otherwise an application could make all 64 MB before the client takes any of them."""
    pieces, piece, made = 1000, b"x" * 65_536, 0

    async def application(_scope: Scope, _receive: Receive, send: Send) -> None:
        nonlocal made
        length = (b"content-length", b"%d" % (pieces * len(piece)))
        await send({"type": "http.response.start", "status": 200, "headers": [length]})
        for number in range(pieces):
            more = number < pieces - 1
            await send({"type": "http.response.body", "body": piece, "more_body": more})
            made += 1

    async with served(application) as server:
        reader, writer = await connect(server)
        writer.write(request("GET", "/"))
        head = await reader.readuntil(b"\r\n\r\n")
        made_at_first = made
        await reader.readexactly(pieces * len(piece))
        writer.close()

    assert head.startswith(b"HTTP/1.1 200 ")
    assert made_at_first < pieces / 2
    assert made == pieces


@pytest.mark.anyio
async def test_little_is_read_while_a_request_waits_for_the_request_before_it() -> None:
    begun, may_end = asyncio.Event(), asyncio.Event()

    async def application(scope: Scope, _receive: Receive, send: Send) -> None:
        if scope["path"] == "/slow":
            begun.set()
            await may_end.wait()
        length = (b"content-length", b"2")
        await send({"type": "http.response.start", "status": 200, "headers": [length]})
        await send({"type": "http.response.body", "body": b"ok"})

    one, times = request("GET", "/slow"), 1000
    async with served(application) as server, asyncio.timeout(30):
        reader, writer = await connect(server)
        writer.write(one * times)
        await begun.wait()
        [connection] = server.server_state.connections
        assert isinstance(connection, protocol.HTTPProtocol)
        other_reader, other_writer = await connect(server)
        other_writer.write(request("GET", "/"))
        await other_reader.readuntil(b"ok")  # the service has now read all earlier bytes
        waiting = len(connection.waiting)
        may_end.set()
        for _ in range(times):
            await reader.readuntil(b"ok")
        writer.close()
        other_writer.close()

    assert 0 < waiting <= protocol.SLICE // len(one)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (b"", b""),
        (b"GET / HTTP/1.1\r\n", b"HTTP/1.1 408 Request Timeout\r\n"),
        (request("GET", "/"), b"HTTP/1.1 200 OK\r\n"),
    ],
)
async def test_a_silent_connection_is_closed_and_a_quick_connection_is_not(
    monkeypatch: pytest.MonkeyPatch, sent: bytes, answer: bytes
) -> None:
    """The service looks at connections once a second; the first look finds nothing to close."""
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 1.5)

    async def application(_scope: Scope, _receive: Receive, send: Send) -> None:
        length = (b"content-length", b"0")
        await send({"type": "http.response.start", "status": 200, "headers": [length]})
        await send({"type": "http.response.body", "body": b""})

    async with served(application, keep_alive=1) as server, asyncio.timeout(10):
        reader, writer = await connect(server)
        began = asyncio.get_running_loop().time()
        writer.write(sent)
        said = await reader.read()
        writer.close()

    assert asyncio.get_running_loop().time() - began > 1
    assert said.startswith(answer)
    assert bool(said) is bool(sent)


@pytest.mark.anyio
async def test_a_request_that_was_on_its_way_when_the_service_stopped_is_answered() -> None:
    async def application(_scope: Scope, _receive: Receive, send: Send) -> None:
        length = (b"content-length", b"2")
        await send({"type": "http.response.start", "status": 200, "headers": [length]})
        await send({"type": "http.response.body", "body": b"ok"})

    async with served(application) as server:
        reader, writer = await connect(server)
        writer.write(request("GET", "/"))
        before = await reader.readuntil(b"ok")
        stopping = asyncio.create_task(server.shutdown())
        for _ in range(10):  # turns of the loop, in any of which an idle connection could close
            await asyncio.sleep(0)
        writer.write(request("GET", "/"))
        after = await reader.readuntil(b"ok")
        assert await reader.read() == b""
        writer.close()
        await stopping

    assert before.startswith(b"HTTP/1.1 200 ")
    assert after.startswith(b"HTTP/1.1 200 ")
