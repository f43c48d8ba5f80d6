"""Log lines for people and for machines."""

import json
import logging
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import pytest

from src.framework.server.logs import TextFormatter
from tests.serving import (
    BACKEND,
    FORKED,
    NO_TLS,
    Server,
    environment,
    eventually,
    free_port,
    serving,
    started,
    wait_until_ready,
)

NOBODY = "postgresql://ada:secret@127.0.0.1:{port}/tasks?sslmode=disable"
PLAIN = (FORKED, "uvicorn", "src.main:app")


def objects(log: str) -> list[dict[str, Any]]:
    """Parse a log; every line must be a JSON object."""
    lines = [json.loads(line) for line in log.splitlines()]
    for line in lines:
        assert {"time", "level", "logger", "message"} <= line.keys()
    return lines


def messages(server: Server) -> list[str]:
    return [line["message"] for line in objects(server.log)]


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_every_line_from_start_to_stop_is_a_json_object(
    postgres: str, tmp_path: Path, workers: str, number: signal.Signals
) -> None:
    with serving(
        tmp_path / "log",
        DATABASE_URL=f"{postgres}&colour=red",
        LOG_FORMAT="json",
        LOG_LEVEL="debug",
        WORKERS=workers,
    ) as server:
        address = ("127.0.0.1", urlsplit(server.url).port or 0)
        with socket.create_connection(address) as client:
            client.sendall(b"no http\r\n\r\n")
            assert client.recv(1000).startswith(b"HTTP/1.1 400 ")
        server.process.send_signal(number)
        server.process.wait(timeout=30)

    first, *others = messages(server)
    assert "the unknown parameter colour" in first
    assert sum(f"Started: API {server.url}/api" in message for message in others) == 1
    assert sum(message.startswith("Stopping on SIG") for message in others) == 1
    assert others.count("Stopped") == 1


def test_a_stop_is_logged_as_text_too(postgres: str, tmp_path: Path) -> None:
    with serving(tmp_path / "log", DATABASE_URL=postgres) as server:
        server.stop()

    stopping, stopped = server.log.splitlines()[-2:]
    assert stopping.endswith(" INFO Stopping on SIGTERM")
    assert stopped.endswith(" INFO Stopped")


@pytest.fixture
def broken(tmp_path: Path) -> str:
    """A folder with a broken copy of a module that the application imports."""
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "xxhash.py").write_text("raise RuntimeError('broken')")
    return str(folder)


@pytest.mark.parametrize(
    ("settings", "workers", "said"),
    [
        ({"PORT": "http"}, "1", "The service cannot start. PORT: "),
        ({"DATABASE_URL": "mysql://"}, "2", "The service cannot start. DATABASE_URL: "),
        ({"DATABASE_URL": NOBODY}, "1", "The service cannot start. The database cannot be reached"),
        ({"DATABASE_URL": NOBODY}, "2", "The service cannot start. The database cannot be reached"),
        (
            {"DATA_DIR": "/dev/null/data"},
            "1",
            "The service cannot start. The embedded PostgreSQL cannot keep",
        ),
        ({"HOST": "192.0.2.1"}, "1", "ssign requested address"),
        ({"HOST": "192.0.2.1"}, "2", "ssign requested address"),
        ({"PYTHONPATH": "broken"}, "1", "The service cannot start."),
        ({"PYTHONPATH": "broken"}, "2", "The service cannot start."),
    ],
)
def test_a_failed_start_is_logged_as_json_objects(
    settings: dict[str, str], workers: str, said: str, tmp_path: Path, broken: str
) -> None:
    settings = {
        name: value.format(port=free_port()).replace("broken", broken)
        for name, value in settings.items()
    }
    with started(
        tmp_path / "log",
        **{"DATA_DIR": str(tmp_path / "data"), "LOG_FORMAT": "json", "WORKERS": workers} | settings,
    ) as server:
        assert server.process.wait(timeout=60) == 3

    assert any(said in message for message in messages(server))


def test_an_error_of_an_import_is_logged_with_its_traceback(tmp_path: Path, broken: str) -> None:
    with started(tmp_path / "log", LOG_FORMAT="json", PYTHONPATH=broken) as server:
        assert server.process.wait(timeout=60) == 3

    [said] = [line["traceback"] for line in objects(server.log) if "traceback" in line]
    assert said.endswith("RuntimeError: broken")


def test_uncaught_errors_are_logged_as_json_objects() -> None:
    script = """
import threading, warnings
from src.framework.server.logs import log_from_the_first_line

class Ungrateful:
    def __del__(self):
        raise RuntimeError("third")

log_from_the_first_line("json")
warnings.warn("first")
thread = threading.Thread(target=lambda: 1 / 0, name="second")
thread.start()
thread.join()
Ungrateful()
raise RuntimeError("fourth")
"""
    process = subprocess.run(
        [sys.executable, "-c", script], cwd=BACKEND, capture_output=True, text=True, check=False
    )

    first, second, third, fourth = objects(process.stdout)
    assert process.stderr == ""
    assert process.returncode == 1
    assert "UserWarning: first" in first["message"]
    assert "ZeroDivisionError" in second["traceback"]
    assert "RuntimeError: third" in third["traceback"]
    assert "RuntimeError: fourth" in fourth["traceback"]


def test_a_warning_is_written_at_once_even_by_a_process_that_hangs(tmp_path: Path) -> None:
    script = """
import asyncio, logging, time
from src.framework.server.logs import configure_logging

async def hang():
    configure_logging("info", "text")("GET", "/", 200, 0.001, "mine", None)
    logging.getLogger("src").warning("Something is odd")
    time.sleep(60)

asyncio.run(hang())
"""
    log = tmp_path / "log"
    with log.open("wb") as stdout:
        process = subprocess.Popen([sys.executable, "-c", script], cwd=BACKEND, stdout=stdout)
    try:
        assert eventually(lambda: log.read_text().count("\n") == 2)
    finally:
        process.kill()
        process.wait()

    first, second = log.read_text().splitlines()
    assert first.endswith(" INFO GET / 200 1.0 ms mine -")
    assert second.endswith(" WARNING Something is odd")


def test_an_unreadable_settings_file_is_reported_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"LOG_FORMAT=json\nHOST=\xff\n")
    script = (
        "import sys; from src import config\n"
        "config.Settings.model_config['env_file'] = sys.argv[1]\n"
        "config.get_settings()"
    )
    process = subprocess.run(
        [sys.executable, "-c", script, tmp_path / ".env"],
        cwd=BACKEND,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )

    assert process.returncode == 3
    assert process.stderr.startswith(
        f"The service cannot start. The service cannot read {tmp_path}/.env ("
    )
    assert process.stderr.endswith("): make the file readable, as text in UTF-8.\n")
    assert process.stderr.count("\n") == 1


@pytest.mark.parametrize(("style", "host"), [("json", "127.0.0.1"), ("text", "::1")])
def test_the_log_line_of_a_request_names_its_peer(
    postgres: str, tmp_path: Path, style: str, host: str
) -> None:
    settings = {"DATABASE_URL": postgres, "LOG_FORMAT": style, "HOST": host}
    with started(tmp_path / "log", **settings) as server:
        url = f"http://[{host}]" if ":" in host else f"http://{host}"
        server.url = f"{url}:{urlsplit(server.url).port}"
        wait_until_ready(server)
        headers = {"X-Request-ID": "mine", "X-Forwarded-For": "192.0.2.1"}
        httpx.get(f"{server.url}/health/live", headers=headers, verify=NO_TLS)

    [line] = [line for line in server.log.splitlines() if "mine" in line]
    if style == "json":
        assert json.loads(line)["peer"] == host
    else:
        assert line.endswith(f" ms mine {host}")


@pytest.fixture(scope="module")
def believing(
    postgres: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Server]]:
    """A plain uvicorn for each style of the log. uvicorn believes a proxy on this machine."""
    folder = tmp_path_factory.mktemp("believing")
    with ExitStack() as stack:
        yield {
            style: stack.enter_context(
                serving(
                    folder / style,
                    [*PLAIN, "--port", port],
                    DATABASE_URL=postgres,
                    LOG_FORMAT=style,
                    PORT=port,
                )
            )
            for style, port in [("json", str(free_port())), ("text", str(free_port()))]
        }


@pytest.mark.parametrize(
    ("forged", "told"),
    [
        ('1"}{"level":"error', '1"}{"level":"error'),
        ("1 ERROR\x85It burns\x9b2J!", "1 ERROR\x85It burns\x9b2J!"),
        ("9" * 5000, "9" * 64),
    ],
    ids=["quotes", "controls", "length"],
)
def test_a_forged_peer_address_cannot_forge_a_line(
    believing: dict[str, Server], forged: str, told: str
) -> None:
    name = uuid4().hex
    logs = [believing["json"].log_file, believing["text"].log_file]
    for server in believing.values():
        sent = [(b"X-Request-ID", name.encode()), (b"X-Forwarded-For", forged.encode("latin-1"))]
        httpx.get(f"{server.url}/health/live", headers=sent, verify=NO_TLS)
    assert eventually(lambda: all(name in log.read_text() for log in logs))

    in_json, in_text = (
        [line for line in log.read_text().split("\n") if name in line] for log in logs
    )
    [line] = map(json.loads, in_json)
    assert line["peer"] == told
    assert line["level"] == "info"
    [text] = in_text
    assert len(text.split(" ")) == 9
    assert text.isascii()
    assert text.isprintable()


@pytest.mark.parametrize("style", ["text", "json"])
def test_the_log_shows_a_dash_for_a_peer_without_an_address(
    postgres: str, tmp_path: Path, style: str
) -> None:
    listening = str(tmp_path / "socket")
    with started(
        tmp_path / "log",
        [*PLAIN, "--uds", listening],
        DATABASE_URL=postgres,
        LOG_FORMAT=style,
    ) as server:
        assert eventually(Path(listening).is_socket)
        with httpx.Client(transport=httpx.HTTPTransport(uds=listening)) as client:
            client.get("http://x/health/live", headers={"X-Request-ID": "mine"})

    [line] = [line for line in server.log.splitlines() if "mine" in line]
    assert (json.loads(line)["peer"] == "-") if style == "json" else line.endswith(" ms mine -")


def test_no_line_of_a_message_looks_like_a_line_of_the_log() -> None:
    record = logging.makeLogRecord(
        {"levelname": "ERROR", "msg": "One\n2026 ERROR Two\r\x1b[2J\x9b"}
    )

    text = TextFormatter("%(levelname)s %(message)s").format(record)

    assert text == "ERROR One\n  2026 ERROR Two\\x0d\\x1b[2J\\x9b"
