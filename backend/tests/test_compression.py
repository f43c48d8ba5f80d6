"""Long lists are compressed on request: RFC 9110 §12.5.3."""

import asyncio
import gzip
import socket
from collections.abc import Callable
from http.client import HTTPResponse
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import pytest
from zstandard import ZstdDecompressor

from src.framework.web.responses import COMPRESSED_FROM_BYTES
from tests.conftest import execute
from tests.serving import Server
from tests.tasks import create, task_path, tasks_path, unknown_path
from tests.tokens import bearer, token

DECOMPRESSED: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.decompress,
    "zstd": lambda content: ZstdDecompressor().decompressobj().decompress(content),
}
every_encoding = pytest.mark.parametrize("encoding", DECOMPRESSED)


def insert(url: str, user: str, number: int) -> None:
    text = "'Größe 💡 \"' || n || '\" ' || md5(n::text)"
    asyncio.run(
        execute(
            url,
            f"INSERT INTO tasks SELECT gen_random_uuid(), '{user}', {text}, repeat({text}, n % 9), "
            f"n % 2 = 0, now(), now() FROM generate_series(1, {number}) n",
        )
    )


@pytest.fixture(scope="module")
def path(postgres: str) -> str:
    """The path of a list of 1,000 tasks."""
    user = f"user-{uuid4().hex}"
    insert(postgres, user, 1000)
    return tasks_path(user)


def get(
    api: httpx.Client, path: str, accepted: str, method: str = "GET", **headers: str
) -> tuple[httpx.Response, bytes]:
    """Return the response, and its content before decoding."""
    headers = {"Accept-Encoding": accepted, **headers}
    with api.stream(method, path, headers=headers) as response:
        return response, b"".join(response.iter_raw())


def encoding_for(api: httpx.Client, path: str, accepted: str) -> str | None:
    response, _ = get(api, path, accepted)
    assert response.status_code == 200
    encoding: str | None = response.headers.get("content-encoding")
    return encoding


@every_encoding
@pytest.mark.parametrize("number", [499, 500, 501, 1000, 3000])
def test_a_compressed_list_is_the_same_list(
    api: httpx.Client, postgres: str, user: str, encoding: str, number: int
) -> None:
    insert(postgres, user, number)
    plain, content = get(api, tasks_path(user), "identity")

    response, compressed = get(api, tasks_path(user), encoding)

    assert response.headers["content-encoding"] == encoding
    assert response.headers["content-type"] == "application/json"
    assert DECOMPRESSED[encoding](compressed) == content
    assert len(compressed) < len(content) / 2
    assert content.count(b'{"id":') == number
    assert int(plain.headers["content-length"]) == len(content)
    assert "content-encoding" not in plain.headers
    assert "content-length" not in response.headers


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [
        ("gzip", "gzip"),
        ("zstd", "zstd"),
        ("GZip", "gzip"),
        ("gzip, deflate, br, zstd", "zstd"),
        ("gzip,zstd", "zstd"),
        ("zstd ,\tgzip", "zstd"),
        ("gzip;q=1.0, zstd;q=0.9", "gzip"),
        ("gzip;q=0.001", "gzip"),
        ("gzip ; Q=0.5", "gzip"),
        ("gzip, *;q=0.1", "gzip"),
        ("gzip, identity;q=0.5", "gzip"),
        ("gzip, identity", "gzip"),
        ("identity;q=0, gzip;q=0.1", "gzip"),
        ("*", "zstd"),
        ("*;q=0.5", "zstd"),
        ("zstd;q=0, *", "gzip"),
        ("gzip;q=0, zstd;q=0, *", None),
        ("gzip;q=0", None),
        ("gzip;q=0.000, zstd; q=0.", None),
        ("*;q=0", None),
        ("*;q=0, gzip", "gzip"),
        ("identity", None),
        ("identity, gzip;q=0.5", None),
        ("identity;q=0", None),
        ("br, deflate, compress", None),
        ("gzipped, azstd", None),
        (",, ,", None),
        ("", None),
        (";q=1", None),
    ],
)
def test_accept_encoding_chooses_the_compression_of_a_list(
    api: httpx.Client, path: str, accepted: str, encoding: str | None
) -> None:
    assert encoding_for(api, path, accepted) == encoding


def test_without_accept_encoding_a_list_is_not_compressed(api: httpx.Client, path: str) -> None:
    request = api.build_request("GET", path)
    del request.headers["Accept-Encoding"]

    assert "content-encoding" not in api.send(request).headers


def test_a_list_is_long_from_8_kib(api: httpx.Client, postgres: str, user: str) -> None:
    create(api, user, description="")
    missing = COMPRESSED_FROM_BYTES - len(api.get(tasks_path(user)).content)

    describe(postgres, user, missing - 1)
    short, content = get(api, tasks_path(user), "gzip")
    assert len(content) == COMPRESSED_FROM_BYTES - 1 == int(short.headers["content-length"])
    assert "content-encoding" not in short.headers
    assert short.headers["vary"] == "Accept-Encoding, Origin"

    describe(postgres, user, missing)
    long, content = get(api, tasks_path(user), "gzip")
    assert long.headers["content-encoding"] == "gzip"
    assert len(gzip.decompress(content)) == COMPRESSED_FROM_BYTES


def describe(url: str, user: str, length: int) -> None:
    """Change the description only: new times may have more or fewer digits."""
    sql = f"UPDATE tasks SET description = repeat('d', {length}) WHERE user_id = '{user}'"
    asyncio.run(execute(url, sql))


def test_a_task_and_an_error_are_never_compressed(api: httpx.Client, user: str) -> None:
    task = create(api, user, description="💡" * 5000)

    for each in [task_path(task), unknown_path(user), "/nowhere"]:
        response, content = get(api, each, "gzip, zstd")
        assert "content-encoding" not in response.headers
        assert int(response.headers["content-length"]) == len(content)


@every_encoding
def test_a_page_is_compressed_too_and_keeps_its_link(
    api: httpx.Client, path: str, encoding: str
) -> None:
    plain, content = get(api, f"{path}?limit=100", "identity")

    response, compressed = get(api, f"{path}?limit=100", encoding)

    assert DECOMPRESSED[encoding](compressed) == content
    assert response.links == plain.links
    assert "next" in response.links


def test_every_encoding_has_the_same_etag_and_vary(api: httpx.Client, path: str) -> None:
    headers = [get(api, path, accepted)[0].headers for accepted in ["identity", "gzip", "zstd"]]

    assert {each["vary"] for each in headers} == {"Accept-Encoding, Origin"}
    assert len({each["etag"] for each in headers}) == 1
    assert headers[0]["etag"].startswith('W/"')


@pytest.mark.parametrize("accepted", ["identity", "gzip", "zstd"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_304_has_no_body_and_no_encoding(
    api: httpx.Client, path: str, accepted: str, method: str
) -> None:
    known = get(api, path, "gzip")[0].headers["etag"]

    response, content = get(api, path, accepted, method, **{"If-None-Match": known})

    assert response.status_code == 304
    assert content == b""
    assert response.headers["etag"] == known
    assert response.headers["vary"] == "Accept-Encoding, Origin"
    assert not [name for name in response.headers if name.startswith("content-")]
    assert "transfer-encoding" not in response.headers


@pytest.mark.parametrize("accepted", ["identity", "gzip", "zstd"])
def test_head_has_the_headers_of_get(api: httpx.Client, path: str, accepted: str) -> None:
    got, _ = get(api, path, accepted)

    head, content = get(api, path, accepted, "HEAD")

    assert content == b""
    for name in ["content-encoding", "content-length", "content-type", "etag", "vary"]:
        assert head.headers.get(name) == got.headers.get(name)


def test_a_connection_is_kept_after_a_compressed_list(api: httpx.Client, path: str) -> None:
    for accepted in ["gzip", "identity", "zstd"]:
        for method in ["HEAD", "GET"]:
            assert get(api, path, accepted, method)[0].status_code == 200


def test_accept_encoding_may_be_sent_twice(api: httpx.Client, path: str) -> None:
    accepted = [("Accept-Encoding", "br"), ("Accept-Encoding", "gzip")]

    with api.stream("GET", path, headers=accepted) as response:
        assert response.headers["content-encoding"] == "gzip"


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_an_http_1_0_client_gets_a_list_with_its_length(
    server: Server, path: str, version: str
) -> None:
    """HTTP/1.0 has no chunks, and the compressed length is not known in advance."""
    [authorization] = bearer(token(path.split("/")[2])).items()
    lines = [f"GET {path} HTTP/{version}", "Host: localhost", ": ".join(authorization)]
    with socket.create_connection(("127.0.0.1", urlsplit(server.url).port or 0)) as client:
        client.sendall("\r\n".join([*lines, "Accept-Encoding: gzip", "", ""]).encode())
        answer = HTTPResponse(client)
        answer.begin()
        content = answer.read()

    encodings = {"1.0": (None, None), "1.1": ("gzip", "chunked")}
    assert (
        answer.getheader("content-encoding"),
        answer.getheader("transfer-encoding"),
    ) == encodings[version]
    contents = {"1.0": lambda: content, "1.1": lambda: gzip.decompress(content)}
    assert contents[version]().count(b'{"id":') == 1000
