"""A client's connection that sends exactly the bytes of a test, in the test's segments."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import parse_headers
from typing import Any
from urllib.parse import urlsplit

from tests.serving import Server

SEGMENT_SECONDS = 0.05
"""How long to wait between two segments, so that the server reads each segment by itself."""


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:  # noqa: ANN401 - whatever was answered
        return json.loads(self.body)


class Connection:
    def __init__(self, server: Server) -> None:
        address = urlsplit(server.url)
        self.socket = socket.create_connection((address.hostname, address.port or 80), timeout=60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.received = self.socket.makefile("rb")

    def send(self, *segments: bytes) -> None:
        for number, segment in enumerate(segments):
            if number:
                time.sleep(SEGMENT_SECONDS)
            self.socket.sendall(segment)

    def send_no_more(self) -> None:
        self.socket.shutdown(socket.SHUT_WR)

    def read(self) -> Answer:
        version, status, _ = self.received.readline().split(b" ", 2)
        assert version == b"HTTP/1.1"
        fields = {name.lower(): value for name, value in parse_headers(self.received).items()}
        return Answer(int(status), fields, self.received.read(int(fields["content-length"])))

    def is_closed(self) -> bool:
        """Wait until the server closes the connection. Discard all that the server sends before."""
        try:
            while self.received.read(65536):
                pass
        except ConnectionResetError:
            pass
        return True


@contextmanager
def connected(server: Server) -> Iterator[Connection]:
    connection = Connection(server)
    try:
        yield connection
    finally:
        connection.received.close()
        connection.socket.close()


def request(
    method: str, path: str, *fields: str, body: bytes = b"", host: str = "Host: localhost"
) -> bytes:
    """Build a request. A request with a body and no Transfer-Encoding gets a Content-Length."""
    lines = [f"{method} {path} HTTP/1.1", *filter(None, [host]), *fields]
    if body and not any(field.startswith("Transfer-Encoding") for field in fields):
        lines += [f"Content-Length: {len(body)}", "Content-Type: application/json"]
    return "\r\n".join([*lines, "", ""]).encode() + body


def chunked(body: bytes, *trailers: str) -> bytes:
    return b"%x\r\n%b\r\n0\r\n" % (len(body), body) + "\r\n".join([*trailers, "", ""]).encode()
