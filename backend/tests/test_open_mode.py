"""Who may call a service without tokens."""

import json
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPResponse
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
from starlette.responses import Response
from starlette.types import ASGIApp

from src.framework.addresses import is_loopback
from src.framework.server.listening import listening_addresses
from src.framework.server.open_mode import OpenMode
from tests.serving import (
    FORKED,
    FRONTEND_ORIGIN,
    NO_TLS,
    Server,
    eventually,
    free_port,
    serving,
    started,
)
from tests.tasks import assert_problem, listed, tasks_path
from tests.tokens import SECRET

MISDIRECTED = (
    "Without tokens, this address accepts only localhost, names that end in .localhost, "
    "127.0.0.0/8 and [::1] as Host"
)
PREFLIGHT = {"Origin": FRONTEND_ORIGIN, "Access-Control-Request-Method": "POST"}

OWN_NAMES = [
    "localhost",
    "localhost:8000",
    "localhost:",
    "LOCALHOST",
    "localhost.",
    "localhost.:8000",
    "tasks.localhost",
    "a.b-c.LocalHost.:80",
    "127.0.0.1",
    "127.0.0.1:8000",
    "127.0.0.1.",
    "127.255.255.254",
    "[::1]",
    "[::1]:8000",
    "[0:0:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]",
]
OTHER_NAMES = [
    "tasks.example",
    "tasks.example:8000",
    "localhost.example",
    "127.0.0.1.example",
    "mylocalhost",
    "localhost.localdomain",
    "localhost..",
    "localhost,tasks.example",
    "0.0.0.0",
    "128.0.0.1",
    "192.168.0.1:8000",
    "127.1",
    "2130706433",
    "127.0.0.256",
    "1.127.0.0.1",
    "[::]",
    "[::2]",
    "[::ffff:192.168.0.1]",
    "[127.0.0.1]",
    "",
    ".",
    ":8000",
    f"{'a' * 70}." * 100 + "localhost",
]
NO_HOSTS = [
    "localhost:http",
    "localhost:8000:8000",
    "localhost tasks.example",
    "tasks.example#.localhost",
    "tasks.example/.localhost",
    "ada@localhost",
    "::1",
    "[::1",
    "[localhost]",
    "l\N{LATIN SMALL LETTER O WITH DIAERESIS}calhost",
]


# The name in Host


@pytest.mark.parametrize("name", OWN_NAMES)
def test_on_loopback_every_loopback_name_is_accepted(api: httpx.Client, name: str) -> None:
    assert api.get("/health/live", headers={"Host": name}).status_code == 200


@pytest.mark.parametrize("name", OTHER_NAMES, ids=lambda name: name[:40])
def test_on_loopback_any_other_name_is_421(api: httpx.Client, name: str) -> None:
    response = api.get("/health/live", headers={b"Host": name.encode()})

    assert_problem(response, 421, MISDIRECTED)
    assert response.json()["title"] == "Misdirected Request"


@pytest.mark.parametrize("name", NO_HOSTS)
def test_an_invalid_host_is_400(api: httpx.Client, name: str) -> None:
    response = api.get("/health/live", headers={b"Host": name.encode()})

    assert_problem(response, 400, "The Host header must name a host, as in example.com:8000")


@pytest.mark.parametrize(
    "path",
    ["/", "/docs", "/openapi.json", "/health/ready", "/api/ada/tasks", "/nothing", "/%ff"],
)
def test_another_name_is_421_for_every_path_and_method(api: httpx.Client, path: str) -> None:
    url = httpx.URL(api.base_url, raw_path=path.encode())
    for method in ["GET", "HEAD", "POST", "DELETE", "OPTIONS", "TRACE"]:
        response = api.request(method, url, headers={"Host": "tasks.example"})

        assert response.status_code == 421
        assert response.headers["content-type"] == "application/problem+json"
        assert response.headers["x-request-id"]


def test_a_page_under_a_name_of_its_own_writes_and_reads_nothing(
    api: httpx.Client, user: str
) -> None:
    """As after DNS rebinding: to the browser, the page and the service have the same origin."""
    page = {"Host": "tasks.example:8000", "Origin": "http://tasks.example:8000"}

    for headers in [page, page | {"Origin": FRONTEND_ORIGIN}]:
        response = api.post(tasks_path(user), json={"title": "Forged"}, headers=headers)
        assert_problem(response, 421, MISDIRECTED)
        assert "access-control-allow-origin" not in response.headers

    assert listed(api, user) == []


def test_another_name_is_421_for_preflights(api: httpx.Client) -> None:
    assert api.options(tasks_path("ada"), headers=PREFLIGHT).status_code == 204

    for raw_path in [b"/api/ada/tasks", b"/%ff"]:
        url = httpx.URL(api.base_url, raw_path=raw_path)
        response = api.options(url, headers=PREFLIGHT | {"Host": "tasks.example"})
        assert_problem(response, 421, MISDIRECTED)
        assert "access-control-allow-origin" not in response.headers


def test_a_refused_name_stays_refused_among_many(api: httpx.Client) -> None:
    for _ in range(2):
        for number in range(100):
            name = f"{number}.example"
            assert api.get("/health/live", headers={"Host": name}).status_code == 421
            assert api.get("/health/live", headers={"Host": f"{name}.localhost"}).is_success


def answer_to(server: Server, request: bytes) -> HTTPResponse:
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port), timeout=10) as client:
        client.sendall(request)
        response = HTTPResponse(client)
        response.begin()
        response.read()
        return response


def test_an_absolute_target_does_not_replace_the_host(server: Server) -> None:
    target = b"GET http://localhost/health/live HTTP/1.1\r\nHost: %b\r\n\r\n"

    assert answer_to(server, target % b"localhost").status == 200
    assert answer_to(server, target % b"tasks.example").status == 421


def test_http_1_0_may_have_no_host(server: Server) -> None:
    assert answer_to(server, b"GET /health/live HTTP/1.0\r\n\r\n").status == 200


@pytest.mark.parametrize("server", ["jwt"], indirect=True)
@pytest.mark.parametrize("name", ["tasks.example", ""])
def test_with_tokens_every_name_is_accepted(api: httpx.Client, name: str) -> None:
    assert api.get(tasks_path("ada"), headers={"Host": name}).status_code == 200
    assert api.options(tasks_path("ada"), headers=PREFLIGHT | {"Host": name}).status_code == 204


# The address


@pytest.mark.parametrize(
    ("address", "is_it"),
    [
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("::ffff:192.0.2.1", False),
        ("0.0.0.0", False),
        ("::", False),
        ("192.0.2.1", False),
        ("2001:db8::1", False),
        ("fe80::1%eth0", False),
        ("/run/tasks.sock", False),
        ("", False),
    ],
)
def test_loopback_addresses_are_recognized(address: str, is_it: bool) -> None:
    assert is_loopback(address) is is_it


@pytest.fixture(scope="module")
def everywhere(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service that is explicitly open on every address, IPv4 and IPv6."""
    if not socket.has_dualstack_ipv6():
        pytest.skip("needs IPv6")
    log = tmp_path_factory.mktemp("everywhere") / "log"
    settings = {"HOST": "::", "WORKERS": "2", "AUTH_MODE": "open", "DATABASE_URL": postgres}
    with serving(log, **settings) as server:
        yield server


@pytest.mark.parametrize("loopback", ["127.0.0.1", "127.0.0.2", "[::1]"])
def test_on_loopback_any_other_name_is_421_whatever_else_the_service_listens_on(
    everywhere: Server, loopback: str
) -> None:
    url = f"http://{loopback}:{urlsplit(everywhere.url).port}/health/live"

    assert httpx.get(url).status_code == 200
    assert_problem(httpx.get(url, headers={"Host": "tasks.example"}), 421, MISDIRECTED)


def test_beyond_loopback_every_name_is_accepted(everywhere: Server) -> None:
    url = f"http://{own_address()}:{urlsplit(everywhere.url).port}/health/live"

    assert httpx.get(url).status_code == 200
    assert httpx.get(url, headers={"Host": "tasks.example"}).status_code == 200


def own_address() -> str:
    """Find an address of this machine that is not loopback."""
    for addresses in psutil.net_if_addrs().values():
        for address in addresses:
            if address.family == socket.AF_INET and not is_loopback(address.address):
                return address.address
    pytest.skip("needs a network")


# Ways to start it


UVICORN = (sys.executable, "-m", "uvicorn", "src.main:app", "--no-access-log")
FORKED_UVICORN = (FORKED, *UVICORN[2:])

EXPOSED = (
    "The service listens on {address}, which other machines can reach, and would answer anyone: "
    "set AUTH_JWKS_URL or AUTH_SECRET, or AUTH_MODE=open to let anyone act for any user"
)

# Binds a socket, and passes it on to uvicorn.
LEAVE_SOCKET = """
import os, socket, sys
host, port = sys.argv[1], int(sys.argv[2])
listening = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else 2)
listening.set_inheritable(True)
os.execv(sys.argv[3], [*sys.argv[3:], "--fd", str(listening.fileno())])
"""


@pytest.fixture(scope="module")
def unset(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Settings without authentication, database or host, as a developer starts with."""
    return {"AUTH_MODE": "", "HOST": "", "DATA_DIR": str(tmp_path_factory.mktemp("unset"))}


def statuses_until_it_ends(server: Server, loopback: str = "127.0.0.1") -> set[int]:
    """Send requests over loopback until the service ends."""
    url = f"http://{loopback}:{urlsplit(server.url).port}/health/live"
    statuses: set[int] = set()

    def ended() -> bool:
        with suppress(httpx.TransportError):
            statuses.add(httpx.get(url, verify=NO_TLS).status_code)
        return server.process.poll() is not None

    assert eventually(ended, seconds=30), statuses
    return statuses


@pytest.mark.parametrize(("host", "loopback"), [("0.0.0.0", "127.0.0.1"), ("::", "[::1]")])
@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_without_an_authentication_setting_it_ends_when_it_listens_beyond_loopback(
    unset: dict[str, str], tmp_path: Path, host: str, loopback: str, loop: str
) -> None:
    port = str(free_port())
    command = (*FORKED_UVICORN, "--host", host, "--port", port, "--loop", loop)
    with started(tmp_path / "log", command, PORT=port, **unset) as server:
        statuses = statuses_until_it_ends(server, loopback)

    assert statuses <= {403}
    assert server.process.returncode == 3
    sentence = EXPOSED.format(address=f"[::]:{port}" if host == "::" else f"{host}:{port}")
    assert server.log.count(f"Cannot start. {sentence}.\n") == 1
    assert "Traceback" not in server.log


def test_it_ends_without_any_request(unset: dict[str, str], tmp_path: Path) -> None:
    port = str(free_port())
    command = (*UVICORN, "--host", "0.0.0.0", "--port", port)
    with started(tmp_path / "log", command, PORT=port, **unset) as server:
        assert server.process.wait(timeout=30) == 3

    assert EXPOSED.format(address=f"0.0.0.0:{port}") in server.log


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_a_socket_bound_before_the_start_is_checked_at_start_up(
    unset: dict[str, str], tmp_path: Path, host: str
) -> None:
    port = str(free_port())
    command = (sys.executable, "-c", LEAVE_SOCKET, host, port, *UVICORN)
    with started(tmp_path / "log", command, PORT=port, **unset) as server:
        assert server.process.wait(timeout=30) == 3

    sentence = EXPOSED.format(address=f"[::]:{port}" if host == "::" else f"{host}:{port}")
    assert server.log.count(f"Cannot start. {sentence}.\n") == 1
    assert "Traceback" not in server.log


def test_workers_check_the_socket_that_they_inherit(unset: dict[str, str], tmp_path: Path) -> None:
    port = str(free_port())
    command = (*UVICORN, "--host", "0.0.0.0", "--port", port, "--workers", "2")
    with started(tmp_path / "log", command, PORT=port, **unset) as server:
        assert statuses_until_it_ends(server) == set()

    assert f"Cannot start. {EXPOSED.format(address=f'0.0.0.0:{port}')}.\n" in server.log
    assert "Traceback" not in server.log


def test_a_loopback_address_is_served(unset: dict[str, str], tmp_path: Path) -> None:
    port = str(free_port())
    for command in [
        (*UVICORN, "--host", "127.0.0.1", "--port", port),
        (*UVICORN, "--host", "localhost", "--port", port, "--workers", "2"),
        (sys.executable, "-c", LEAVE_SOCKET, "127.0.0.1", port, *UVICORN),
    ]:
        with serving(tmp_path / "log", command, PORT=port, **unset) as server:
            assert httpx.get(f"{server.url}{tasks_path('ada')}").status_code == 200


def test_a_unix_socket_is_served_under_any_name(unset: dict[str, str], tmp_path: Path) -> None:
    """Only this machine can reach it, and no browser can."""
    path = f"{tmp_path}/socket"
    transport = httpx.HTTPTransport(uds=path, retries=0)
    with (
        started(tmp_path / "log", (*FORKED_UVICORN, "--uds", path), **unset),
        httpx.Client(transport=transport, base_url="http://tasks.example") as api,
    ):
        assert eventually(lambda: Path(path).exists(), seconds=30)
        assert api.get(tasks_path("ada")).status_code == 200


@pytest.mark.parametrize(
    ("said", "status"), [({"AUTH_MODE": "open"}, 200), ({"AUTH_SECRET": SECRET}, 401)]
)
def test_with_an_authentication_setting_every_address_is_served(
    unset: dict[str, str], tmp_path: Path, said: dict[str, str], status: int
) -> None:
    port = str(free_port())
    command = (*FORKED_UVICORN, "--host", "0.0.0.0", "--port", port)
    with serving(tmp_path / "log", command, PORT=port, **unset | said):
        for host in ["127.0.0.1", own_address()]:
            response = httpx.get(f"http://{host}:{port}{tasks_path('ada')}")
            assert response.status_code == status


LOOPBACK = ("127.0.0.1", 8000)


@pytest.fixture
def exposed() -> Iterator[str]:
    """The address of a socket that listens beyond loopback; nothing accepts its connections."""
    with socket.create_server(("0.0.0.0", 0)) as listening:
        yield f"0.0.0.0:{listening.getsockname()[1]}"


@pytest.mark.parametrize("server", [LOOPBACK, ("/run/tasks.sock", None), None])
@pytest.mark.parametrize("is_on_purpose", [True, False])
def test_a_service_that_listens_on_loopback_alone_refuses_nobody(
    server: object, is_on_purpose: bool
) -> None:
    assert OpenMode(is_on_purpose).refusal({"server": server}, b"localhost") is None


@pytest.mark.parametrize("server", [LOOPBACK, ("/run/tasks.sock", None), None])
def test_the_first_request_detects_a_socket_beyond_loopback(server: object, exposed: str) -> None:
    open_mode = OpenMode(is_on_purpose=False)

    assert sentence_of(open_mode.refusal({"server": server}, b"localhost")) == EXPOSED.format(
        address=exposed
    )
    assert OpenMode(is_on_purpose=True).refusal({"server": server}, b"localhost") is None


def test_the_first_request_to_a_port_checks_it(request: pytest.FixtureRequest) -> None:
    open_mode = OpenMode(is_on_purpose=False)
    assert open_mode.refusal({"server": LOOPBACK}, b"localhost") is None

    exposed = request.getfixturevalue("exposed")

    assert open_mode.refusal({"server": LOOPBACK}, b"localhost") is None
    sentence = sentence_of(open_mode.refusal({"server": ("127.0.0.1", 8001)}, b"localhost"))
    assert sentence == EXPOSED.format(address=exposed)
    assert sentence_of(open_mode.refusal({"server": LOOPBACK}, b"localhost")) == sentence


def test_a_connection_beyond_loopback_is_enough_to_detect_it() -> None:
    """On a system that does not list open files."""
    open_mode = OpenMode(is_on_purpose=False)
    scope = {"server": ("2001:db8::1", 8000)}

    expected = EXPOSED.format(address="[2001:db8::1]:8000")
    assert sentence_of(open_mode.refusal(scope, b"localhost")) == expected
    assert sentence_of(open_mode.refusal({"server": LOOPBACK}, b"localhost")) == expected


def sentence_of(refusal: ASGIApp | None) -> str:
    assert isinstance(refusal, Response)
    assert refusal.status_code == 403
    sentence: str = json.loads(bytes(refusal.body))["detail"]
    return sentence


def open_files() -> int:
    return psutil.Process().num_fds()


def test_only_tcp_sockets_that_listen_are_found_and_none_is_touched() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        socket.socket() as bound,
        socket.socket() as idle,
        socket.socket(type=socket.SOCK_DGRAM) as datagrams,
        socket.create_connection(listening.getsockname()) as connected,
    ):
        bound.bind(("127.0.0.1", 0))
        datagrams.bind(("127.0.0.1", 0))
        opened = open_files()
        found, or_bound = listening_addresses(), listening_addresses(or_bound=True)

        assert open_files() == opened
        assert listening.getsockname() in found
        assert bound.getsockname() not in found
        assert bound.getsockname() in or_bound
        for other in [idle, datagrams, connected]:
            assert other.getsockname() not in or_bound
        accepted, _ = listening.accept()
        accepted.close()
