"""Peers that take more than their share: of memory, of time, of connections."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from itertools import chain
from pathlib import Path
from statistics import median

import psutil
import pytest

from tests.connections import Connection, request
from tests.connections import connected as open_connection
from tests.faults.conftest import Report
from tests.faults.load import Client, Figures, clients, connected
from tests.serving import COMMAND, Server, eventually, serving, with_limits
from tests.tasks import tasks_path

MIB = 2**20
LIVE = request("GET", "/health/live")


def peak(server: Server) -> float:
    """The most memory that the service has had since `forget_peak`, in bytes."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


def forget_peak(server: Server) -> float:
    """Reset `peak`, and return its new value."""
    Path(f"/proc/{server.process.pid}/clear_refs").write_text("5")
    return float(psutil.Process(server.process.pid).memory_info().rss)


async def ask(server: Server, seconds: float) -> list[float]:
    """Send one request after the other for this long; return how long each answer took."""
    took = []
    async with clients(server.url, Figures(), 1) as [client]:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            began = time.monotonic()
            assert (await client.request("GET", "/health/live")).is_ok
            took.append(time.monotonic() - began)
    return took


async def flood(server: Server, data: Sequence[bytes]) -> None:
    """Send as fast as the service takes it, until all is sent or the connection ends."""
    client = Client(server.url, Figures())
    await client.connect()
    assert client.writer is not None
    try:
        for piece in data:
            client.write(piece)
            await client.writer.drain()
        await asyncio.wait_for(client.reader.read(), 5)
    except (OSError, TimeoutError):
        pass
    finally:
        client.close()


HEADERS = b"".join(b"X-%d: x\r\n" % number for number in range(100_000))
FLOODS = {
    "one header": [LIVE[:-2] + b"X: ", *[b"x" * MIB] * 86],
    "small headers": [LIVE[:-2], *[HEADERS] * 100],
    "pipelined requests": [LIVE * 1000] * 300,
}


@pytest.mark.parametrize("name", FLOODS)
@pytest.mark.anyio
async def test_a_flood_on_one_connection_takes_little_memory_and_time(
    postgres: str, tmp_path: Path, report: Report, full: bool, name: str
) -> None:
    data = FLOODS[name][: None if full else 10]
    figures = Figures()
    with serving(tmp_path / "log", DATABASE_URL=postgres, LOG_LEVEL="warning") as server:
        alone = await ask(server, 1 if full else 0.5)
        before = forget_peak(server)
        flooding = asyncio.create_task(flood(server, data))
        beside = await ask(server, 2 if full else 1)
        await flooding
        grown = (peak(server) - before) / MIB
    slower = median(beside) / median(alone)
    figures.slowest = max(beside)
    figures.note = (
        f"{name}, {sum(map(len, data)) / MIB:.0f} MiB: {grown:.1f} MiB of memory, others' median "
        f"{slower:.1f} times what it is without, slowest {max(beside) * 1000:.0f} ms"
    )
    report(figures)

    assert grown < (5 if name == "pipelined requests" else 2)
    assert max(beside) < 0.5
    assert "Traceback" not in server.log


HALF = request("POST", tasks_path("slow"), body=b'{"title": "Patience"}')[:-10]
SLOW = {"nothing": b"", "half a head": LIVE[:20], "half a body": HALF, "an answered request": LIVE}


@asynccontextmanager
async def silent(server: Server, number: int) -> AsyncIterator[dict[str, list[Client]]]:
    """Open this many connections of each kind that then stay silent."""
    opened: dict[str, list[Client]] = {name: [] for name in SLOW}
    for name, sent in SLOW.items():
        for _ in range(number):
            client = Client(server.url, Figures())
            await client.connect()
            client.write(sent)
            opened[name].append(client)
    try:
        yield opened
    finally:
        for client in chain.from_iterable(opened.values()):
            client.close()


async def answers(connections: list[Client]) -> set[bytes]:
    """Wait until the service has closed each connection; return the first lines of the answers."""
    said = await asyncio.gather(*(client.reader.read() for client in connections))
    return {text.partition(b"\r\n")[0] for text in said}


@pytest.mark.usefixtures("many_files")
@pytest.mark.anyio
async def test_stalled_connections_are_closed(
    postgres: str, tmp_path: Path, report: Report, full: bool
) -> None:
    command = COMMAND if full else with_limits(protocol_HEAD_SECONDS=1, protocol_BODY_SECONDS=1)
    number = 1250 if full else 50
    figures = Figures()
    with serving(tmp_path / "log", command, DATABASE_URL=postgres) as server:
        began = time.monotonic()
        async with silent(server, number) as opened, asyncio.timeout(30):
            assert await answers(opened["nothing"]) == {b""}
            assert await answers(opened["half a head"]) == {b"HTTP/1.1 408 Request Timeout"}
            assert await answers(opened["half a body"]) == {b"HTTP/1.1 408 Request Timeout"}
            figures.recovered = time.monotonic() - began
            # The service keeps an idle connection: a browser or a proxy will use it again.
            for client in opened["an answered request"]:
                assert (await client.read()).is_ok
                client.write(LIVE)
                assert (await client.read()).is_ok
    figures.note = f"{4 * number} connections; recovered: all closed but those that were idle"
    report(figures)

    assert "Traceback" not in server.log


@pytest.mark.anyio
async def test_a_slow_body_that_advances_is_accepted(postgres: str, tmp_path: Path) -> None:
    command = with_limits(protocol_HEAD_SECONDS=2, protocol_BODY_SECONDS=2)
    whole = request("POST", tasks_path("slow"), body=b'{"title": "Patience"}')
    with serving(tmp_path / "log", command, DATABASE_URL=postgres) as server:
        async with clients(server.url, Figures(), 1) as [client]:
            await client.connect()
            client.write(whole[:-4])
            for byte in whole[-4:]:
                await asyncio.sleep(0.7)
                client.write(bytes([byte]))
            assert (await client.read()).status == "201"


@pytest.mark.anyio
async def test_an_endless_body_is_ended(postgres: str, tmp_path: Path) -> None:
    command = with_limits(protocol_REQUEST_SECONDS=2)
    fields = ["Transfer-Encoding: chunked", "Content-Type: application/json"]
    with serving(tmp_path / "log", command, DATABASE_URL=postgres) as server:
        async with clients(server.url, Figures(), 1) as [client], asyncio.timeout(10):
            await client.connect()
            client.write(request("POST", tasks_path("slow"), *fields))
            while not client.reader.at_eof():
                client.write(b"1\r\n \r\n")
                try:
                    answer = await asyncio.wait_for(client.read(), 0.2)
                except TimeoutError:
                    continue
                break
    assert answer.status == "408"


@pytest.mark.anyio
async def test_a_reader_that_does_not_read_is_closed(
    postgres: str, tmp_path: Path, report: Report, full: bool
) -> None:
    command = COMMAND if full else with_limits(protocol_UNREAD_SECONDS=1)
    figures = Figures()
    with serving(tmp_path / "log", command, DATABASE_URL=postgres) as server:
        process = psutil.Process(server.process.pid)
        await fill(postgres, "reader", 50_000)
        with open_connection(server) as still:
            still.send(request("GET", tasks_path("reader")))
            is_open = partial(is_connected, process, still)
            assert await asyncio.to_thread(eventually, is_open)
            began = time.monotonic()
            assert await asyncio.to_thread(eventually, lambda: not is_open(), 60)
            figures.recovered = time.monotonic() - began
        # A peer that goes on reading, however slowly, is served to the end.
        with open_connection(server) as slow:
            slow.send(request("GET", tasks_path("reader"), "Connection: close"))
            received = 0
            while piece := slow.received.read1(MIB):
                received += len(piece)
                await asyncio.sleep(0.1)
            assert received > 10 * MIB
    figures.note = "recovered: the connection is closed"
    report(figures)


def is_connected(process: psutil.Process, connection: Connection) -> bool:
    port = connection.socket.getsockname()[1]
    return any(each.raddr and each.raddr.port == port for each in process.net_connections("tcp"))


async def fill(database: str, user: str, tasks: int) -> None:
    async with connected(database) as admin:
        await admin.execute(
            "INSERT INTO tasks SELECT gen_random_uuid(), $1, 'Task ' || n, NULL, false,"
            " now(), now() FROM generate_series(1, $2) AS n ON CONFLICT DO NOTHING",
            user,
            tasks,
        )


@pytest.mark.anyio
async def test_at_the_limit_of_open_files_existing_clients_are_served(
    postgres: str, tmp_path: Path, report: Report
) -> None:
    command = ["bash", "-c", f"ulimit -n 256; exec {sys.executable} -m src"]
    figures = Figures()
    with serving(tmp_path / "log", command, DATABASE_URL=postgres) as server:
        async with clients(server.url, figures, 20) as inside:
            for client in inside:
                await client.request("GET", "/health/live")
            with ExitStack() as stack:
                for _ in range(400):
                    stack.enter_context(open_connection(server))
                served = await asyncio.gather(
                    *(client.request("GET", tasks_path("ada")) for client in inside)
                )
                refused = stack.enter_context(open_connection(server)).read()
    figures.note = "256 files, 420 connections"
    report(figures)

    assert [answer.status for answer in served] == ["200"] * 20
    assert (refused.status, refused.headers["connection"]) == (503, "close")
    assert server.log.count("New connections are refused") == 1
    assert "Traceback" not in server.log
