"""SIGTERM stops gracefully; Ctrl-C, or a second signal, stops at once."""

import os
import platform
import signal
import socket
import time
from collections.abc import Callable
from http.client import HTTPResponse
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from src.framework.server.process import SAME_SIGNAL_SECONDS
from tests.connections import connected, request
from tests.serving import COMMAND, DEFAULTS, Server, eventually, serving, started, workers_of
from tests.tasks import tasks_path

POLL = "7"
"""The number of poll(2) on x86-64."""

GO_ON = b"HTTP/1.1 100 Continue\r\n\r\n"

LONG = "30"
"""A value of DRAIN_SECONDS that is so long that no test waits for the end of this time."""


def is_draining(server: Server) -> bool:
    return server.status("/health/ready") == 503


def ends_at_once(server: Server) -> bool:
    return eventually(lambda: server.process.poll() is not None)


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("send", [os.killpg, os.kill], ids=["terminal", "process"])
def test_ctrl_c_stops_the_service_at_once(
    postgres: str,
    tmp_path: Path,
    workers: str,
    send: Callable[[int, int], None],
) -> None:
    with serving(
        tmp_path / "log", DATABASE_URL=postgres, WORKERS=workers, DRAIN_SECONDS=LONG
    ) as server:
        send(server.process.pid, signal.SIGINT)
        assert ends_at_once(server)


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_a_graceful_stop(
    postgres: str, tmp_path: Path, workers: str, second: signal.Signals
) -> None:
    with serving(
        tmp_path / "log", DATABASE_URL=postgres, WORKERS=workers, DRAIN_SECONDS=LONG
    ) as server:
        os.kill(server.process.pid, signal.SIGTERM)
        assert eventually(lambda: is_draining(server))
        time.sleep(1.5)  # otherwise the next signal would count as the same signal
        assert is_draining(server)
        os.kill(server.process.pid, second)
        assert ends_at_once(server)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_signal_sent_twice_at_once_counts_once(
    postgres: str, tmp_path: Path, workers: str
) -> None:
    """A service under `make` gets a signal twice: from the terminal, and from `make`."""
    by_default = DEFAULTS["DRAIN_SECONDS"]

    def signalled_twice(log: Path) -> tuple[float, float]:
        """Return the seconds until the second signal, and the seconds until the service's end."""
        with serving(
            log, DATABASE_URL=postgres, WORKERS=workers, DRAIN_SECONDS=by_default
        ) as server:
            began = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            assert eventually(lambda: is_draining(server))
            server.process.send_signal(signal.SIGTERM)
            second = time.monotonic() - began
            server.process.wait(timeout=30)
            return second, time.monotonic() - began

    seconds = (signalled_twice(tmp_path / f"log{number}") for number in range(10))
    # On a busy machine, the test may see too late that the first signal has come.
    ended = next(end for second, end in seconds if second < SAME_SIGNAL_SECONDS * 0.8)
    assert ended > 3


def test_only_the_supervisor_can_cut_a_workers_stop_short(postgres: str, tmp_path: Path) -> None:
    """A service manager may signal every process. The supervisor signals its workers later."""
    with serving(tmp_path / "log", DATABASE_URL=postgres, WORKERS="2", DRAIN_SECONDS="3") as server:
        began = time.monotonic()
        workers = workers_of(server.process.pid)
        for worker in workers:
            worker.send_signal(signal.SIGTERM)
        time.sleep(1.5)  # otherwise the next signal would count as the same signal
        server.process.send_signal(signal.SIGTERM)
        psutil.wait_procs(workers, timeout=30)

    assert time.monotonic() - began > 3


def waits_for_an_answer(supervisor: int) -> bool:
    return Path(f"/proc/{supervisor}/syscall").read_text().split()[0] == POLL


@pytest.mark.skipif(platform.machine() != "x86_64", reason="knows the number of one system's call")
def test_the_supervisor_notices_that_a_worker_ended_before_its_answer(
    postgres: str, tmp_path: Path
) -> None:
    """Otherwise the supervisor, after Ctrl-C, would wait 5 s for each worker that has ended."""
    with serving(tmp_path / "log", COMMAND, DATABASE_URL=postgres, WORKERS="2") as server:
        worker, other = workers_of(server.process.pid)
        worker.suspend()
        assert eventually(lambda: waits_for_an_answer(server.process.pid))
        worker.kill()
        worker.wait(timeout=4)

        assert other.is_running()


def is_refused(address: tuple[str, int]) -> bool:
    """Whether nothing listens, not even a queue that nobody serves."""
    try:
        socket.create_connection(address, timeout=0.5).close()
    except OSError as error:
        return isinstance(error, ConnectionRefusedError)
    return False


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_request_in_flight_is_answered_after_ctrl_c(
    postgres: str, tmp_path: Path, workers: str
) -> None:
    body = b'{"title": "Buy milk"}'
    head = f"POST {tasks_path('ada')} HTTP/1.1\r\nHost: localhost\r\n"
    head += "Content-Type: application/json\r\nExpect: 100-continue\r\n"
    with serving(tmp_path / "log", DATABASE_URL=postgres, WORKERS=workers) as server:
        address = ("127.0.0.1", urlsplit(server.url).port or 0)
        with socket.create_connection(address) as client:
            client.sendall(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body))
            assert client.recv(len(GO_ON)) == GO_ON  # the request is under way
            os.killpg(server.process.pid, signal.SIGINT)
            assert eventually(lambda: is_refused(address))  # every process has closed its socket
            client.sendall(body)
            answer = HTTPResponse(client)
            answer.begin()
            assert answer.status == 201
        assert ends_at_once(server)


def test_a_stop_waits_only_five_seconds_for_a_slow_upload(postgres: str, tmp_path: Path) -> None:
    """Without this limit, the request would end 20 seconds after its last byte."""
    upload = request("POST", tasks_path("ada"), body=b'{"title": "Buy milk"}')[:-1]
    with (
        serving(tmp_path / "log", DATABASE_URL=postgres) as server,
        connected(server) as connection,
    ):
        connection.send(request("GET", "/health/live") + upload)
        assert connection.read().status == 200
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(timeout=30)
        took = time.monotonic() - began

    assert 5 <= took < 15


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_workers_that_are_stopped_as_they_start_end_in_order(
    postgres: str, tmp_path: Path, number: signal.Signals
) -> None:
    with started(tmp_path / "log", DATABASE_URL=postgres, WORKERS="2", LOG_LEVEL="debug") as server:
        assert eventually(lambda: len(workers_of(server.process.pid)) == 2)
        os.killpg(server.process.pid, number)
        assert ends_at_once(server)

    assert server.log.count("Waiting for application shutdown") == 2
    assert "Traceback" not in server.log


def test_ctrl_c_while_the_service_imports_shows_no_traceback(postgres: str, tmp_path: Path) -> None:
    with started(tmp_path / "log", COMMAND, DATABASE_URL=postgres) as server:
        process = psutil.Process(server.process.pid)
        assert eventually(lambda: "pydantic_core" in str(process.memory_maps()))
        server.process.send_signal(signal.SIGINT)
        assert ends_at_once(server)

    assert "Traceback" not in server.log
