"""Who may call a service without tokens."""

import socket
from collections.abc import Callable, Iterator
from http.client import HTTPResponse
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from src.framework.addresses import is_loopback, is_on_this_machine
from src.framework.server import process
from src.framework.server.host_check import host_check
from src.framework.server.process import bound_sockets
from src.framework.sql.embedded import embedded_server
from tests.serving import (
    FRONTEND_ORIGIN,
    NO_TLS,
    Server,
    eventually,
    ran,
    serving,
    started,
    wait_until_ready,
)
from tests.tasks import assert_problem, listed, tasks_path
from tests.tokens import SECRET

MISDIRECTED = (
    "A service without tokens refuses this Host; use localhost, a name that ends in .localhost, "
    "an address in 127.0.0.0/8, or [::1]"
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
    "[::FFFF:127.0.0.1]",
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


def test_a_page_under_its_own_name_writes_and_reads_no_task(api: httpx.Client, user: str) -> None:
    """After DNS rebinding, the page and the service have the same origin for the browser."""
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


@pytest.mark.parametrize(
    ("host", "is_it"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("::1", True),
        ("/run/postgresql", True),
        ("localhost.example", False),
        ("192.0.2.1", False),
        ("", False),
    ],
)
def test_a_loopback_name_or_address_and_a_folder_of_sockets_are_on_this_machine(
    host: str, is_it: bool
) -> None:
    assert is_on_this_machine(host) is is_it


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
def test_on_loopback_any_other_name_is_421_on_a_service_with_more_addresses(
    everywhere: Server, loopback: str
) -> None:
    url = f"http://{loopback}:{urlsplit(everywhere.url).port}/health/live"

    assert httpx.get(url, verify=NO_TLS).status_code == 200
    assert_problem(
        httpx.get(url, headers={"Host": "tasks.example"}, verify=NO_TLS), 421, MISDIRECTED
    )


def test_beyond_loopback_every_name_is_accepted(everywhere: Server) -> None:
    url = f"http://{own_address()}:{urlsplit(everywhere.url).port}/health/live"

    assert httpx.get(url, verify=NO_TLS).status_code == 200
    assert httpx.get(url, headers={"Host": "tasks.example"}, verify=NO_TLS).status_code == 200


def own_address() -> str:
    """Find an address of this machine that is not loopback."""
    for addresses in psutil.net_if_addrs().values():
        for address in addresses:
            if address.family == socket.AF_INET and not is_loopback(address.address):
                return address.address
    pytest.skip("needs a network")


@pytest.mark.parametrize("server", [("/run/tasks.sock", None), ("192.0.2.1", 8000), None])
def test_a_connection_without_a_loopback_address_accepts_every_name(server: object) -> None:
    assert host_check(())({"server": server}, b"tasks.example") is None
    assert host_check(())({}, b"tasks.example") is None


ALLOWED = ("10.0.2.2", "host.docker.internal", "desk.lan", "*.tunnel.example", "2001:db8::1")


@pytest.mark.parametrize(
    ("name", "is_allowed"),
    [
        ("10.0.2.2:8000", True),
        ("HOST.docker.internal:8000", True),
        ("desk.lan.", True),
        ("a-1.tunnel.example", True),
        ("a.b.tunnel.example", True),
        ("[2001:db8::1]:8000", True),
        ("localhost", True),
        ("tunnel.example", False),
        ("eviltunnel.example", False),
        ("a.tunnel.example.evil.example", False),
        ("10.0.2.20", False),
        ("desk.lan.evil.example", False),
        ("*.tunnel.example", False),
    ],
)
def test_on_loopback_further_names_can_be_allowed(name: str, is_allowed: bool) -> None:
    refusal = host_check(ALLOWED)({"server": ("127.0.0.1", 8000)}, name.encode())

    assert (refusal is None) is is_allowed


def test_allowed_hosts_are_answered(postgres: str, tmp_path: Path) -> None:
    settings = {"DATABASE_URL": postgres, "ALLOWED_HOSTS": "10.0.2.2, Host.Docker.internal"}
    with serving(tmp_path / "log", **settings) as server:
        for name in ["10.0.2.2:8000", "host.docker.internal"]:
            response = httpx.get(f"{server.url}/health/live", headers={"Host": name}, verify=NO_TLS)
            assert response.status_code == 200
        refused = httpx.get(
            f"{server.url}/health/live", headers={"Host": "tasks.example"}, verify=NO_TLS
        )
        assert_problem(refused, 421, MISDIRECTED)


# Ways to start the service


NO_KEY = (
    "The service cannot start. The settings do not say who may use the service: set "
    "AUTH_JWKS_URL or AUTH_SECRET for tokens of a sign-in, AUTH_MODE=personal for tokens "
    "of `make token`, or AUTH_MODE=open to let anyone act for any user.\n"
)


@pytest.fixture(scope="module")
def unset(
    initialized: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """Settings without authentication, database or host, as in a developer's first start.

    PostgreSQL already runs on the data: to start and to stop PostgreSQL for each test takes time.
    """
    data_dir = initialized(tmp_path_factory.mktemp("unset") / "data")
    with embedded_server(data_dir):
        yield {"AUTH_MODE": "", "HOST": "", "DATA_DIR": str(data_dir)}


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "its own"])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_without_an_authentication_setting_no_service_starts_beyond_loopback(
    unset: dict[str, str], tmp_path: Path, host: str, workers: str
) -> None:
    settings = {"HOST": own_address() if host == "its own" else host, "WORKERS": workers}
    with started(tmp_path / "log", **unset | settings) as server:
        assert server.process.wait(timeout=30) == 3

    assert server.log == NO_KEY


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_another_way_to_start_the_service_needs_an_authentication_setting(
    unset: dict[str, str], address: str
) -> None:
    """Only a service that starts by `python -m src` knows where it listens."""
    status, said = ran("uvicorn", "src.main:app", "--host", address, **unset)

    assert status == 3
    assert NO_KEY in said
    assert "Traceback" not in said


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "[::1]", "127.0.0.2"])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_loopback_address_is_served(
    unset: dict[str, str], tmp_path: Path, host: str, workers: str
) -> None:
    with started(tmp_path / "log", **unset | {"HOST": host, "WORKERS": workers}) as server:
        url = f"http://[{host}]" if host == "::1" else f"http://{host}"
        server.url = f"{url}:{urlsplit(server.url).port}"
        wait_until_ready(server)
        assert httpx.get(f"{server.url}{tasks_path('ada')}", verify=NO_TLS).status_code == 200
        assert eventually(lambda: "Users anyone (AUTH_MODE=open)" in server.log)


@pytest.mark.parametrize(
    ("said", "status"), [({"AUTH_MODE": "open"}, 200), ({"AUTH_SECRET": SECRET}, 401)]
)
def test_with_an_authentication_setting_every_address_is_served(
    unset: dict[str, str], tmp_path: Path, said: dict[str, str], status: int
) -> None:
    with serving(tmp_path / "log", **unset | {"HOST": "0.0.0.0"} | said) as server:
        for host in ["127.0.0.1", own_address()]:
            url = f"http://{host}:{urlsplit(server.url).port}{tasks_path('ada')}"
            assert httpx.get(url, verify=NO_TLS).status_code == status


@pytest.mark.parametrize("workers", ["1", "2"])
def test_two_colons_are_for_both_families(postgres: str, tmp_path: Path, workers: str) -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("needs IPv6")
    settings = {"HOST": "::", "WORKERS": workers, "DATABASE_URL": postgres}
    with serving(tmp_path / "log", **settings) as server:
        for host in ["127.0.0.1", "[::1]", own_address()]:
            url = f"http://{host}:{urlsplit(server.url).port}/health/ready"
            assert httpx.get(url, verify=NO_TLS).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "x86_64-conda-linux-gnu",
        "http://localhost",
        "127.0.0.1:8000",
        "0.0.0.0.0",
        "a..b",
        "name with spaces",
        "\N{FULLWIDTH FULL STOP}",
    ],
)
def test_a_host_that_is_no_address_is_named(tmp_path: Path, host: str) -> None:
    with started(tmp_path / "log", HOST=host, AUTH_MODE="") as server:
        assert server.process.wait(timeout=30) == 3

    assert server.log == (
        f"The service cannot start. HOST: {host} is no address or name of this machine; "
        "set HOST to 127.0.0.1, or to :: for all of this machine's addresses.\n"
    )


def test_a_port_can_be_used_again_at_once() -> None:
    """Without SO_REUSEADDR, connections that have ended would block the port for some time."""
    for each in bound_sockets("localhost", 0, ("HOST", "PORT")):
        with each:
            assert each.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR) == 1


def test_a_socket_that_does_not_listen_or_is_closed_is_noticed() -> None:
    """If another service has begun to listen on the port first, `listen` fails.

    uvloop closes such a socket.
    """
    all_listen = vars(process)["_all_listen"]
    for each in bound_sockets("localhost", 0, ("HOST", "PORT")):
        with each:
            assert not all_listen([each])
            each.listen()
            assert all_listen([each])
        assert not all_listen([each])


@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_address_that_cannot_be_used_is_named(tmp_path: Path, workers: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for host, said in [
            ("127.0.0.1", "Address already in use); set PORT to another port.\n"),
            ("192.0.2.1", "Cannot assign requested address); set HOST to another address.\n"),
        ]:
            settings = {"HOST": host, "PORT": port, "WORKERS": workers}
            with started(tmp_path / "log", **settings) as server:
                assert server.process.wait(timeout=30) == 3
            sentence = f"HOST {host}, PORT {port}: the service cannot listen there"
            assert server.log.startswith(f"The service cannot start. {sentence}")
            assert server.log.endswith(said)
            assert server.log.count("\n") == 1
