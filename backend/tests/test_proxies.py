"""A stream stays open behind proxies that end a connection after half a minute of silence."""

import json
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.conftest import tool
from tests.nginx import nginx
from tests.serving import NO_TLS, Server, eventually, free_port
from tests.tasks import create
from tests.test_changes import changes_path

HAPROXY = """
defaults
    mode http
    timeout connect 5s
    timeout client {limit}s
    timeout server {limit}s
    timeout http-request {limit}s
frontend tasks
    bind 127.0.0.1:{port}
    default_backend tasks
backend tasks
    server tasks {address}
"""

# A proxy like those of Next and Vite: it destroys an idle socket.
NODE = """
const http = require("http");
const [port, behind, limit] = process.argv.slice(1);
http.createServer((request, response) => {
    const { method, url, headers } = request;
    const passed = http.request(behind + url, { method, headers, timeout: limit * 1000 }, (got) => {
        response.writeHead(got.statusCode, got.headers);
        got.pipe(response);
    });
    passed.on("timeout", () => passed.destroy());
    passed.on("error", () => response.destroy());
    request.pipe(passed);
}).listen(port, "127.0.0.1");
"""


@contextmanager
def running(*command: str | Path) -> Iterator[None]:
    with subprocess.Popen(command) as process:
        try:
            yield
        finally:
            process.terminate()


@contextmanager
def proxy(kind: str, server: Server, limit: int, folder: Path) -> Iterator[str]:
    """Run a proxy that allows `limit` seconds of silence, and give its URL."""
    if kind == "nginx":
        limits = f"proxy_read_timeout {limit}s; send_timeout {limit}s; keepalive_timeout {limit}s;"
        with nginx(folder / kind, f"{limits} location / {{ proxy_pass {server.url}; }}") as url:
            yield url
        return
    port, address = free_port(), server.url.removeprefix("http://")
    if kind == "HAProxy":
        config = folder / "haproxy.cfg"
        config.write_text(HAPROXY.format(limit=limit, port=port, address=address))
        command: list[str | Path] = [tool("haproxy"), "-db", "-f", config]
    else:
        command = [tool("node"), "-e", NODE, str(port), server.url, str(limit)]
    url = f"http://127.0.0.1:{port}"
    with running(*command):
        there = Server(url, server.process, server.log_file)
        assert eventually(lambda: there.status("/health/live") == 200)
        yield url


KINDS = ["nginx", "HAProxy", "Node"]


def silent_for(seconds: float, limit: int, server: Server, folder: Path, user: str) -> list[float]:
    """Follow the feed through each proxy. Return how late a change comes after this silence."""
    accepted = {"Accept": "text/event-stream"}

    def follow(kind: str) -> float:
        with (
            proxy(kind, server, limit, folder) as url,
            httpx.Client(base_url=url, timeout=seconds + 30, verify=NO_TLS) as client,
            client.stream("GET", changes_path(f"{user}-{kind}"), headers=accepted) as stream,
        ):
            lines = (line[6:] for line in stream.iter_lines() if line.startswith("data: "))
            assert json.loads(next(lines))["changes"] == []
            time.sleep(seconds)  # only a wait can show that the stream stays open
            with server.client() as api:
                began = time.monotonic()
                task = create(api, f"{user}-{kind}")
                assert json.loads(next(lines))["changes"] == [task]
                return time.monotonic() - began

    with ThreadPoolExecutor(len(KINDS)) as pool:
        return list(pool.map(follow, KINDS))


def test_a_stream_outlives_the_silence_that_proxies_allow(
    server: Server, tmp_path: Path, user: str
) -> None:
    assert len(silent_for(17, 15, server, tmp_path, user)) == len(KINDS)


@pytest.mark.slow
def test_after_45_seconds_of_silence_a_change_arrives_within_a_second(
    server: Server, tmp_path: Path, user: str
) -> None:
    assert max(silent_for(45, 30, server, tmp_path, user)) < 1
