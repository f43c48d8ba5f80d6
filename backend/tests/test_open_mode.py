"""Whom a service without tokens answers."""

import socket
from collections.abc import Iterator
from http.client import HTTPResponse
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from src.auth.open_mode import is_loopback
from tests.serving import FRONTEND_ORIGIN, Server, serving
from tests.tasks import assert_problem, listed, tasks_path

MISDIRECTED = (
    "On this address, without tokens, only localhost, names that end in .localhost, 127.0.0.0/8 "
    "and [::1] are taken as Host"
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
    "localhost:http",
    "localhost:8000:8000",
    "localhost,tasks.example",
    "localhost tasks.example",
    "tasks.example#.localhost",
    "tasks.example/.localhost",
    "ada@localhost",
    "0.0.0.0",
    "128.0.0.1",
    "192.168.0.1:8000",
    "127.1",
    "2130706433",
    "127.0.0.256",
    "1.127.0.0.1",
    "::1",
    "[::1",
    "[::]",
    "[::2]",
    "[::ffff:192.168.0.1]",
    "[127.0.0.1]",
    "[localhost]",
    "",
    ".",
    ":8000",
    "l\N{LATIN SMALL LETTER O WITH DIAERESIS}calhost",
    f"{'a' * 70}." * 100 + "localhost",
]


# Under which name


@pytest.mark.parametrize("name", OWN_NAMES)
def test_on_loopback_every_name_of_loopback_is_answered(api: httpx.Client, name: str) -> None:
    assert api.get("/health/live", headers={"Host": name}).status_code == 200


@pytest.mark.parametrize("name", OTHER_NAMES, ids=lambda name: name[:40])
def test_on_loopback_no_other_name_is_answered(api: httpx.Client, name: str) -> None:
    response = api.get("/health/live", headers={b"Host": name.encode()})

    assert_problem(response, 421, MISDIRECTED)
    assert response.json()["title"] == "Misdirected Request"


@pytest.mark.parametrize(
    "path",
    ["/", "/docs", "/openapi.json", "/health/ready", "/api/ada/tasks", "/nothing", "/%ff"],
)
def test_it_holds_for_every_path_and_method(api: httpx.Client, path: str) -> None:
    url = httpx.URL(api.base_url, raw_path=path.encode())
    for method in ["GET", "HEAD", "POST", "DELETE", "OPTIONS", "TRACE"]:
        response = api.request(method, url, headers={"Host": "tasks.example"})

        assert response.status_code == 421
        assert response.headers["content-type"] == "application/problem+json"
        assert response.headers["x-request-id"]


def test_a_page_under_a_name_of_its_own_writes_and_reads_nothing(
    api: httpx.Client, user: str
) -> None:
    """As it would after DNS rebinding: the page's own origin is the service's to the browser."""
    page = {"Host": "tasks.example:8000", "Origin": "http://tasks.example:8000"}

    for headers in [page, page | {"Origin": FRONTEND_ORIGIN}]:
        response = api.post(tasks_path(user), json={"title": "Forged"}, headers=headers)
        assert_problem(response, 421, MISDIRECTED)
        assert "access-control-allow-origin" not in response.headers

    assert listed(api, user) == []


def test_it_holds_for_preflights(api: httpx.Client) -> None:
    assert api.options(tasks_path("ada"), headers=PREFLIGHT).status_code == 204

    for raw_path in [b"/api/ada/tasks", b"/%ff"]:
        url = httpx.URL(api.base_url, raw_path=raw_path)
        response = api.options(url, headers=PREFLIGHT | {"Host": "tasks.example"})
        assert_problem(response, 421, MISDIRECTED)
        assert "access-control-allow-origin" not in response.headers


def test_names_that_were_refused_before_stay_so_among_many(api: httpx.Client) -> None:
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


def test_a_target_in_absolute_form_does_not_stand_in_for_the_host(server: Server) -> None:
    target = b"GET http://localhost/health/live HTTP/1.1\r\nHost: %b\r\n\r\n"

    assert answer_to(server, target % b"localhost").status == 200
    assert answer_to(server, target % b"tasks.example").status == 421


def test_http_1_0_may_have_no_host(server: Server) -> None:
    assert answer_to(server, b"GET /health/live HTTP/1.0\r\n\r\n").status == 200


@pytest.mark.parametrize("server", ["jwt"], indirect=True)
@pytest.mark.parametrize("name", ["tasks.example", ""])
def test_with_tokens_every_name_is_answered(api: httpx.Client, name: str) -> None:
    assert api.get(tasks_path("ada"), headers={"Host": name}).status_code == 200
    assert api.options(tasks_path("ada"), headers=PREFLIGHT | {"Host": name}).status_code == 204


# At which address


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
def test_what_loopback_is(address: str, is_it: bool) -> None:
    assert is_loopback(address) is is_it


@pytest.fixture(scope="module")
def everywhere(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service that is open on every address, for both versions of IP, on purpose."""
    if not socket.has_dualstack_ipv6():
        pytest.skip("needs IPv6")
    log = tmp_path_factory.mktemp("everywhere") / "log"
    settings = {"HOST": "::", "WORKERS": "2", "AUTH_MODE": "open", "DATABASE_URL": postgres}
    with serving(log, **settings) as server:
        yield server


@pytest.mark.parametrize("loopback", ["127.0.0.1", "127.0.0.2", "[::1]"])
def test_it_holds_on_loopback_whatever_else_the_service_listens_on(
    everywhere: Server, loopback: str
) -> None:
    url = f"http://{loopback}:{urlsplit(everywhere.url).port}/health/live"

    assert httpx.get(url).status_code == 200
    assert_problem(httpx.get(url, headers={"Host": "tasks.example"}), 421, MISDIRECTED)


def test_beyond_loopback_every_name_is_answered(everywhere: Server) -> None:
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
