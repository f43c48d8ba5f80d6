"""The service keeps running when standard output is unread, full, closed or shared."""

import fcntl
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import IO
from urllib.parse import urlsplit

import psutil
import pytest

from src.framework.server import logs
from tests.serving import (
    BACKEND,
    COMMAND,
    SERVICE,
    Server,
    environment,
    eventually,
    free_port,
    start,
    wait_until_ready,
)

LINES_LOST = re.compile(r" (\d+) log lines were dropped: ")


@contextmanager
def pipe() -> Iterator[tuple[IO[bytes], int]]:
    """Make the smallest pipe that the system allows. Give a reader, and a descriptor to write."""
    reading, writing = os.pipe()
    with suppress(AttributeError):  # only Linux has F_SETPIPE_SZ
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    with os.fdopen(reading, "rb") as file:
        try:
            yield file, writing
        finally:
            with suppress(OSError):
                os.close(writing)


def fill(writing: int) -> None:
    os.set_blocking(writing, False)
    with suppress(BlockingIOError):
        while os.write(writing, b"x"):
            pass
    os.set_blocking(writing, True)


@contextmanager
def started_into(stdout: int, stderr: int | None = None, **settings: str) -> Iterator[Server]:
    settings.setdefault("PORT", str(free_port()))
    process = start(SERVICE, settings, stdout, stdout if stderr is None else stderr)
    server = Server(f"http://127.0.0.1:{settings['PORT']}", process, Path(os.devnull))
    try:
        yield server
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def ask(server: Server, times: int) -> None:
    """Send many requests at once on one connection. Every answer must be a 200."""
    address = ("127.0.0.1", urlsplit(server.url).port or 0)
    request = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: mine-%0100d\r\n\r\n"
    sent = b"".join(request % number for number in range(times))
    with socket.create_connection(address, timeout=10) as client:
        sender = Thread(target=client.sendall, args=[sent])
        sender.start()
        answered = b""
        while answered.count(b"HTTP/1.1 200 OK") < times and (chunk := client.recv(1 << 20)):
            answered += chunk
        sender.join()
    assert answered.count(b"HTTP/1.1 200 OK") == times


class Reader(Thread):
    """Reads lines in a thread, with an optional pause after each."""

    def __init__(self, file: IO[bytes], pause: float = 0) -> None:
        super().__init__(daemon=True)
        self.file, self.pause = file, pause
        self.lines: list[str] = []
        self.start()

    def run(self) -> None:
        for line in self.file:
            self.lines.append(line.decode())
            time.sleep(self.pause)

    def of_requests(self) -> list[str]:
        return [line for line in self.lines if "mine-" in line]

    def lost(self) -> int:
        return sum(int(said[1]) for line in self.lines if (said := LINES_LOST.search(line)))


@pytest.mark.parametrize("workers", ["1", "2"])
def test_unread_lines_block_no_request_and_are_counted(postgres: str, workers: str) -> None:
    with (
        pipe() as (file, writing),
        started_into(writing, DATABASE_URL=postgres, WORKERS=workers) as server,
    ):
        wait_until_ready(server)
        for _ in range(20):
            ask(server, 1000)

        reader = Reader(file)
        assert eventually(lambda: reader.lost() > 0)
        assert eventually(lambda: len(reader.of_requests()) + reader.lost() == 20_000)
        ask(server, 100)
        assert eventually(lambda: len(reader.of_requests()) + reader.lost() == 20_100)


@pytest.mark.parametrize(
    ("workers", "number"), [("1", signal.SIGTERM), ("2", signal.SIGTERM), ("2", signal.SIGINT)]
)
def test_a_full_pipe_does_not_prevent_the_stop(
    postgres: str, workers: str, number: signal.Signals
) -> None:
    with (
        pipe() as (_, writing),
        started_into(writing, DATABASE_URL=postgres, WORKERS=workers) as server,
    ):
        wait_until_ready(server)
        ask(server, 1000)
        fill(writing)
        os.kill(server.process.pid, number)
        server.process.wait(timeout=10)


def test_a_full_pipe_does_not_prevent_the_start(
    postgres: str,
) -> None:
    with pipe() as (file, writing):
        fill(writing)
        with started_into(writing, DATABASE_URL=postgres) as server:
            wait_until_ready(server)
            reader = Reader(file)
            assert eventually(lambda: any("Stop  Ctrl-C" in line for line in reader.lines))


def test_a_full_standard_error_does_not_prevent_the_end() -> None:
    with pipe() as (_, writing), Path(os.devnull).open("wb") as nowhere:
        fill(writing)
        with started_into(nowhere.fileno(), stderr=writing, LOG_LEVEL="loud") as server:
            assert server.process.wait(timeout=10) == 3


@pytest.mark.parametrize(
    ("workers", "number"), [("1", signal.SIGTERM), ("2", signal.SIGTERM), ("2", signal.SIGINT)]
)
def test_a_late_reader_gets_every_line(postgres: str, workers: str, number: signal.Signals) -> None:
    with (
        pipe() as (file, writing),
        started_into(writing, DATABASE_URL=postgres, WORKERS=workers) as server,
    ):
        os.close(writing)
        wait_until_ready(server)
        ask(server, 60)  # three times the pipe's size
        os.kill(server.process.pid, number)
        time.sleep(0.5)  # until the service waits for a reader, which it does for 2 s
        reader = Reader(file)
        server.process.wait(timeout=10)
        reader.join(timeout=10)

    assert len(reader.of_requests()) == 60
    assert reader.lines[-1].endswith("\n")


def test_lines_of_processes_that_share_a_slow_pipe_stay_whole() -> None:
    writer = (
        "import sys, time; from src.framework.server.logs import standard_output\n"
        "output = standard_output('text')\n"
        "for _ in range(20): output.write([sys.argv[1] * 200] * 50); time.sleep(0.02)\n"
        "output.flush()"
    )
    with pipe() as (file, writing):
        processes = [
            subprocess.Popen([sys.executable, "-c", writer, letter], cwd=BACKEND, stdout=writing)
            for letter in "ab"
        ]
        os.close(writing)
        reader = Reader(file, pause=0.00005)
        for process in processes:
            assert process.wait(timeout=10) == 0
        reader.join(timeout=10)

    assert set(reader.lines) == {"a" * 200 + "\n", "b" * 200 + "\n"}
    assert len(reader.lines) == 2000


def test_lines_dropped_on_a_full_disk_are_counted_when_there_is_room(tmp_path: Path) -> None:
    """The service ends a line that was cut short, so that the next line stands alone."""
    writer = (
        "import os, resource, signal, sys, time\n"
        "from src.framework.server.logs import standard_output\n"
        "output = standard_output('text')\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, -1))\n"
        "for number in range(30): output.write([f'before {number:0100}']); output.flush()\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))\n"
        "output.write(['after']); output.flush()"
    )
    with (tmp_path / "log").open("wb") as log:
        subprocess.run([sys.executable, "-c", writer], cwd=BACKEND, stdout=log, check=True)

    *whole, torn, after, counted = (tmp_path / "log").read_text().splitlines()
    assert whole == [f"before {number:0100}" for number in range(9)]
    assert f"before {9:0100}".startswith(torn)
    assert after == "after"
    assert counted.endswith(
        " 21 log lines were dropped: their reader is slow or gone, or the disk is full"
    )


def test_short_lines_are_written_together_and_a_line_longer_than_a_write_alone() -> None:
    long = b"x" * logs.PIPE_BUF + b"\n"
    pieces = vars(logs)["_pieces"]

    assert [*pieces(b"a\nb\n" + long + b"c\nd\n")] == [b"a\nb\n", long, b"c\nd\n"]


def test_the_wait_for_the_last_lines_ends_when_a_reader_has_the_lines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logs, "LAST_LINES_SECONDS", 30)
    with pipe() as (file, writing):
        fill(writing)
        output = logs.Output(writing, logs.TextFormatter())
        output.write(["last"])
        flushing = Thread(target=output.flush, daemon=True)
        flushing.start()
        reader = Reader(file)
        flushing.join(timeout=10)
        is_waiting = flushing.is_alive()
        os.close(writing)
        reader.join(timeout=10)

    assert reader.lines[-1].endswith("last\n")
    assert not is_waiting


def test_a_non_blocking_pipe_gets_every_line() -> None:
    writer = (
        "from src.framework.server.logs import standard_output; output = standard_output('text')\n"
        "for number in range(300): output.write([f'{number:0100}'])\n"
        "output.flush()"
    )
    with pipe() as (file, writing):
        os.set_blocking(writing, False)
        process = subprocess.Popen([sys.executable, "-c", writer], cwd=BACKEND, stdout=writing)
        os.close(writing)
        reader = Reader(file, pause=0.0001)
        assert process.wait(timeout=10) == 0
        reader.join(timeout=10)

    assert reader.lines == [f"{number:0100}\n" for number in range(300)]


def test_a_reader_that_goes_away_does_not_stop_the_service(postgres: str) -> None:
    with (
        pipe() as (file, writing),
        started_into(writing, DATABASE_URL=postgres) as server,
    ):
        os.close(writing)
        wait_until_ready(server)
        file.close()
        ask(server, 1000)
        time.sleep(0.3)  # while the lines have no reader
        ask(server, 1000)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(timeout=10) == -signal.SIGTERM


def test_a_full_disk_does_not_stop_the_service(postgres: str) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    with started_into(full, DATABASE_URL=postgres) as server:
        wait_until_ready(server)
        ask(server, 1000)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(timeout=10) == -signal.SIGTERM
    os.close(full)


def test_a_closed_output_does_not_become_another_file(postgres: str) -> None:
    """Otherwise lines would go to the next file with the output's number, such as a socket."""
    settings = {"PORT": str(free_port()), "DATABASE_URL": postgres, "WORKERS": "2"}
    process = subprocess.Popen(
        ["bash", "-c", 'exec "$@" <&- >&- 2>&-', "bash", *COMMAND],
        cwd=BACKEND,
        env=environment(**settings),
        start_new_session=True,
    )
    server = Server(f"http://127.0.0.1:{settings['PORT']}", process, Path(os.devnull))
    try:
        wait_until_ready(server)
        ask(server, 1000)
        family = [process.pid, *(each.pid for each in psutil.Process(process.pid).children())]
        numbers = [Path(f"/proc/{pid}/fd/{number}") for pid in family for number in range(3)]
        assert {number.readlink() for number in numbers} == {Path(os.devnull)}
    finally:
        assert server.stop() == 0
