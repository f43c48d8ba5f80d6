"""The rules of HTTP for every path: methods, HEAD, OPTIONS, request ids, bodies, CORS."""

import json
import socket
from collections.abc import Iterator
from http.client import HTTPResponse
from urllib.parse import urlsplit

import httpx
import pytest

from tests.serving import FRONTEND_ORIGIN, Server
from tests.tasks import assert_problem, create, listed, task_path, tasks_path, unknown_path

LIMIT = 128 * 1024
COLLECTION = "GET, HEAD, OPTIONS, POST"
ITEM = "DELETE, GET, HEAD, OPTIONS, PATCH, PUT"
COMPLETE = "OPTIONS, PATCH"
PATCH = "application/json, application/merge-patch+json"


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PUT", "", COLLECTION),
        ("PATCH", "", COLLECTION),
        ("DELETE", "/", COLLECTION),
        ("POST", "/{id}", ITEM),
        ("TRACE", "/{id}", ITEM),
        ("GET", "/{id}/complete", COMPLETE),
        ("HEAD", "/{id}/complete", COMPLETE),
        ("POST", "/{id}/complete/", COMPLETE),
    ],
)
def test_a_405_names_every_allowed_method(
    api: httpx.Client, user: str, method: str, path: str, allow: str
) -> None:
    task = create(api, user)

    response = api.request(method, tasks_path(user) + path.format_map(task))

    assert response.status_code == 405
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["allow"] == allow
    assert listed(api, user) == [task]


@pytest.mark.parametrize(
    ("path", "allow", "patch"),
    [("", COLLECTION, None), ("/{id}", ITEM, PATCH), ("/{id}/complete", COMPLETE, PATCH)],
)
def test_options_answers_204_with_every_method_and_the_types_of_a_patch(
    api: httpx.Client, user: str, path: str, allow: str, patch: str | None
) -> None:
    task = create(api, user)

    response = api.options(tasks_path(user) + path.format_map(task))

    assert response.status_code == 204
    assert response.headers["allow"] == allow
    assert response.headers.get("accept-patch") == patch
    assert response.content == b""


@pytest.mark.parametrize(
    "path",
    ["/docs", "/redoc", "/openapi.json", "/health/live", "/health/ready", "/assets/swagger-ui.css"],
)
def test_head_answers_like_get_without_a_body(api: httpx.Client, path: str) -> None:
    got, head = api.get(path), api.head(path)

    assert got.status_code == head.status_code == 200
    assert head.content == b""
    for name in ["content-type", "content-length"]:
        assert head.headers[name] == got.headers[name]


def test_head_works_for_tasks_and_for_their_errors(api: httpx.Client, user: str) -> None:
    task = create(api, user)

    for path in [tasks_path(user), task_path(task), unknown_path(user), "/nowhere"]:
        got, head = api.get(path), api.head(path)
        assert head.status_code == got.status_code
        assert head.headers["content-length"] == got.headers["content-length"]
        assert head.content == b""


def test_an_unknown_path_is_not_found(api: httpx.Client) -> None:
    for path in ["/nowhere", "/api", "/api/ada", "/api//tasks", "/api/ada/tasks/x/y", "/assets/x"]:
        assert_problem(api.get(path), 404, "There is nothing at this path")


@pytest.mark.parametrize("path", ["/docs%0A", "/health/live%0A", "/api/ada/tasks%0A"])
def test_a_line_feed_at_the_end_of_a_path_is_part_of_it(api: httpx.Client, path: str) -> None:
    assert_problem(api.get(path), 404, "There is nothing at this path")


def test_assets_allow_get_and_head(api: httpx.Client) -> None:
    asset = "/assets/swagger-ui.css"

    assert api.options(asset).headers["allow"] == "GET, HEAD, OPTIONS"
    assert api.post(asset).headers["allow"] == "GET, HEAD, OPTIONS"
    assert_problem(api.get("/assets/__init__.py"), 404)
    assert api.get(asset, headers={"Range": "bytes=999999999-"}).status_code == 200


@pytest.mark.parametrize(
    "request_line",
    [
        b"FOO / HTTP/1.1",
        b"GET /\xff HTTP/1.1",
        b"GET / HTTP/1.1\r\nContent-Length: x",
        b"GET / HTTP/1.1\r\nA: \0",
        b"\x16\x03\x01\x02",
    ],
)
def test_invalid_http_is_a_problem_too(server: Server, request_line: bytes) -> None:
    with socket.create_connection(("127.0.0.1", urlsplit(server.url).port or 0)) as client:
        client.sendall(request_line + b"\r\nHost: localhost\r\n\r\n")
        answer = HTTPResponse(client)
        answer.begin()
        body = json.loads(answer.read())

    assert answer.status == 400
    assert answer.getheader("content-type") == "application/problem+json"
    assert body["detail"] == "The request is not valid HTTP"


def test_the_root_leads_to_the_docs(api: httpx.Client) -> None:
    response = api.get("/")

    assert response.status_code == 307
    assert urlsplit(response.headers["location"]).path == "/docs"


def test_a_safe_request_id_is_kept(api: httpx.Client) -> None:
    response = api.get("/health/live", headers={"X-Request-ID": "abc-123"})

    assert response.headers["x-request-id"] == "abc-123"


@pytest.mark.parametrize("sent", ["", "a b", "x" * 129, "<script>", "ä", "a\tb"])
def test_any_other_request_id_is_replaced(api: httpx.Client, sent: str) -> None:
    response = api.get("/health/live", headers={b"X-Request-ID": sent.encode()})

    assert len(response.headers["x-request-id"]) == 32
    assert response.headers["x-request-id"].isalnum()


def test_every_answer_has_a_request_id_of_its_own(api: httpx.Client) -> None:
    paths = ["/health/live", "/health/live", "/nowhere", "/api/%FF/tasks"]

    ids = [api.get(path).headers["x-request-id"] for path in paths]

    assert len(set(ids)) == len(paths)


def body_of(size: int) -> bytes:
    body = b'{"title": "ok"'
    return body + b" " * (size - len(body) - 1) + b"}"


def in_chunks(body: bytes) -> Iterator[bytes]:
    for start in range(0, len(body), 10_000):
        yield body[start : start + 10_000]


def test_a_body_of_128_kib_is_accepted(api: httpx.Client, user: str) -> None:
    headers = {"Content-Type": "application/json"}

    whole = api.post(tasks_path(user), content=body_of(LIMIT), headers=headers)
    chunked = api.post(tasks_path(user), content=in_chunks(body_of(LIMIT)), headers=headers)

    assert [whole.status_code, chunked.status_code] == [201, 201]


def test_a_larger_body_is_413_with_and_without_its_length(api: httpx.Client, user: str) -> None:
    headers = {"Content-Type": "application/json", "Origin": FRONTEND_ORIGIN}

    bodies: list[bytes | Iterator[bytes]] = [
        body_of(LIMIT + 1),
        body_of(20 * LIMIT),
        in_chunks(body_of(LIMIT + 1)),
        in_chunks(body_of(20 * LIMIT)),
    ]
    for body in bodies:
        response = api.post(tasks_path(user), content=body, headers=headers)
        assert_problem(response, 413, "The body may have at most 131072 bytes")
        assert response.headers["access-control-allow-origin"] == FRONTEND_ORIGIN
    assert listed(api, user) == []


@pytest.mark.parametrize(
    "sent",
    [
        "authorization,content-type,idempotency-key,if-match,if-none-match,x-request-id",
        "authorization,x-requested-with",
        "cache-control,pragma",
        "baggage,traceparent,tracestate",
        "last-event-id",
        "content-type,prefer",
        "Authorization, X-Requested-With, Prefer",
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH"])
def test_a_preflight_allows_the_frontend_and_the_headers_of_its_libraries(
    api: httpx.Client, user: str, method: str, sent: str
) -> None:
    response = api.options(
        tasks_path(user),
        headers={
            "Origin": FRONTEND_ORIGIN,
            "Access-Control-Request-Method": method,
            "Access-Control-Request-Headers": sent,
        },
    )

    assert response.status_code == 204
    assert response.headers["access-control-allow-origin"] == FRONTEND_ORIGIN
    assert response.headers["access-control-allow-credentials"] == "true"
    assert method in response.headers["access-control-allow-methods"].split(", ")
    allowed = response.headers["access-control-allow-headers"].lower().split(", ")
    assert {name.strip() for name in sent.lower().split(",")} <= set(allowed)
    assert int(response.headers["access-control-max-age"]) == 7200


ADDED_HEADERS = [
    "sentry-trace",
    "newrelic",
    "x-datadog-trace-id",
    "x-datadog-parent-id",
    "x-datadog-origin",
    "b3",
    "x-b3-traceid",
    "x-b3-spanid",
    "uber-trace-id",
    "elastic-apm-traceparent",
    "request-id",
    "ngrok-skip-browser-warning",
    "apikey",
    "x-client-info",
    "x-csrf-token",
    "x-xsrf-token",
    "dpop",
    "x-api-key",
    "x-timezone",
    "expires",
    "if-modified-since",
    "x-cloud-trace-context",
    "x-amzn-trace-id",
    "bypass-tunnel-reminder",
    "x-colour",
]
"""Headers that monitoring, gateways and libraries add to a page's requests."""


@pytest.mark.parametrize("header", ADDED_HEADERS)
def test_a_preflight_allows_every_header_that_a_page_of_the_frontend_adds(
    api: httpx.Client, user: str, header: str
) -> None:
    response = api.options(
        tasks_path(user),
        headers={
            "Origin": FRONTEND_ORIGIN,
            "Access-Control-Request-Method": "GET",
            "Access-Control-Request-Headers": f"authorization,{header}",
            "Access-Control-Request-Private-Network": "true",
        },
    )

    assert response.status_code == 204
    assert response.headers["access-control-allow-headers"] == f"authorization, {header}"
    assert response.headers["access-control-allow-private-network"] == "true"


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example", "Access-Control-Request-Method": "GET"},
        {"Origin": "null", "Access-Control-Request-Method": "GET"},
        {"Origin": FRONTEND_ORIGIN + ".evil.example", "Access-Control-Request-Method": "GET"},
    ],
)
def test_a_preflight_from_elsewhere_is_refused(
    api: httpx.Client, user: str, headers: dict[str, str]
) -> None:
    response = api.options(tasks_path(user), headers=headers)

    assert_problem(response, 400)
    assert "access-control-allow-origin" not in response.headers


def test_errors_may_be_read_by_the_frontend(api: httpx.Client, user: str) -> None:
    headers = {"Origin": FRONTEND_ORIGIN}

    for response in [
        api.get("/nowhere", headers=headers),
        api.get(unknown_path(user), headers=headers),
        api.get("/api/%FF/tasks", headers=headers),
        api.post(tasks_path(user), json={}, headers=headers),
        api.put(tasks_path(user), headers=headers),
    ]:
        assert response.is_client_error
        assert response.headers["access-control-allow-origin"] == FRONTEND_ORIGIN
        assert response.headers["access-control-allow-credentials"] == "true"
        exposed = response.headers["access-control-expose-headers"]
        assert exposed == (
            "ETag, Link, Location, Preference-Applied, Retry-After, WWW-Authenticate, "
            "X-Total-Count, X-Request-ID"
        )


def test_every_answer_has_origin_in_vary_once(api: httpx.Client) -> None:
    for path in ["/health/live", "/nowhere", "/api/%FF/tasks", "/api/ada/tasks/7"]:
        for headers in [{}, {"Origin": FRONTEND_ORIGIN}, {"Origin": "http://evil.example"}]:
            assert api.get(path, headers=headers).headers["vary"] == "Origin"


def test_another_origin_may_read_no_answer(api: httpx.Client, user: str) -> None:
    response = api.get(tasks_path(user), headers={"Origin": "http://evil.example"})

    assert "access-control-allow-origin" not in response.headers
    assert response.headers["vary"] == "Accept-Encoding, Origin"
