"""When the service is told to stop, loses a worker, or has too many or too slow clients."""

import asyncio
import os
import signal
import socket
import struct
import time
from contextlib import closing
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from tests.faults.cluster import Cluster
from tests.faults.conftest import Report, idiomatic
from tests.faults.load import (
    CLOSED,
    CUT,
    RESET,
    Client,
    Figures,
    Load,
    clients,
    connected,
    message,
)
from tests.serving import Server, eventually, serving, workers_of
from tests.tasks import tasks_path

BACKENDS = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"


async def stop_under(load: Load, server: Server) -> list[str]:
    """Stop the service under 50 clients; return what /health/ready answers until the end."""
    readiness = []
    async with clients(server.url, Figures(), 1) as [probe], load.under_way(50):
        await asyncio.sleep(1)
        os.kill(server.process.pid, signal.SIGTERM)
        while server.process.poll() is None:
            readiness.append((await probe.request("GET", "/health/ready")).status)
            await asyncio.sleep(0.02)
    return readiness


@pytest.mark.anyio
async def test_sigterm_turns_readiness_off_and_requests_in_flight_are_answered(
    own: Cluster, tmp_path: Path, report: Report
) -> None:
    with serving(tmp_path / "log", DATABASE_URL=own.url, WORKERS="2", DRAIN_SECONDS="1") as server:
        load = Load(server.url, own.url)
        readiness = await stop_under(load, server)
    figures = await load.audit()
    figures.note = "50 clients, no load balancer in front"
    report(figures)

    told = [status for status in readiness if status not in {CUT, RESET, CLOSED}]
    assert told[-10:] == ["503"] * 10
    assert set(figures.answers) <= {"200", "201", RESET, CLOSED}
    assert figures.answers[RESET] <= 3
    assert (figures.lost, figures.twice) == (0, 0)
    assert "Traceback" not in server.log


@pytest.mark.slow
@pytest.mark.anyio
async def test_uvicorn_by_itself_cuts_connections_when_it_stops(
    own: Cluster, tmp_path: Path, report: Report
) -> None:
    with idiomatic(own, tmp_path / "log", workers=2) as server:
        load = Load(server.url, own.url, is_plain=True)
        await stop_under(load, server)
    figures = await load.audit()
    figures.note = "for comparison: idiomatic FastAPI on uvicorn, 50 clients"
    report(figures)

    assert figures.answers[CUT] + figures.answers[RESET] > 30


@pytest.mark.anyio
async def test_a_killed_worker_is_replaced_while_the_others_go_on(
    own: Cluster, tmp_path: Path, report: Report, full: bool
) -> None:
    with serving(tmp_path / "log", DATABASE_URL=own.url, WORKERS="2") as server:
        load = Load(server.url, own.url)
        supervisor = server.process.pid
        recovered = 0.0
        async with load.under_way():
            for _ in range(5 if full else 1):
                await asyncio.sleep(1)
                before = workers_of(supervisor)
                before[0].kill()
                killed = time.monotonic()
                assert await asyncio.to_thread(eventually, partial(replaced, supervisor, before))
                recovered = max(recovered, time.monotonic() - killed)
            await asyncio.sleep(1)
        figures = await load.audit()
    figures.recovered = recovered
    figures.note = f"recovered: two workers again; {figures.answers[CUT]} cut"
    report(figures)

    assert set(figures.answers) <= {"200", "201", CUT, RESET}
    assert (figures.lost, figures.twice, load.wrong_reads) == (0, 0, 0)


def replaced(supervisor: int, before: list[psutil.Process]) -> bool:
    now = workers_of(supervisor)
    return len(now) == 2 and before[0] not in now


@pytest.mark.usefixtures("many_files")
@pytest.mark.anyio
async def test_2000_connections_at_once_each_get_an_answer(
    own: Cluster, tmp_path: Path, report: Report
) -> None:
    figures, after = Figures(), Figures()
    with serving(tmp_path / "log", DATABASE_URL=own.url, DATABASE_POOL_SIZE="10") as server:
        async with connected(own.url) as admin:
            await admin.execute(
                "INSERT INTO tasks SELECT gen_random_uuid(), 'ada', 'Task ' || n, NULL, false,"
                " now(), now() FROM generate_series(1, 500) AS n"
            )
        async with clients(server.url, figures, 2000) as crowd:
            await asyncio.gather(
                *(
                    client.request("GET", tasks_path("ada"))
                    if number % 2
                    else client.request("POST", tasks_path("bob"), {"title": "One of many"})
                    for number, client in enumerate(crowd)
                )
            )
            peak = psutil.Process(server.process.pid).memory_info().rss / 2**20
        async with clients(server.url, after, 10) as ten:
            await asyncio.gather(*(each.request("GET", tasks_path("bob")) for each in ten))
        async with connected(own.url) as admin:
            backends = await admin.fetchval(BACKENDS) - 1
    figures.note = f"memory {peak:.0f} MB"
    report(figures)

    assert set(figures.answers) <= {"200", "201", "503"}
    assert sum(figures.answers.values()) == 2000
    assert figures.slowest < 10
    assert peak < 500
    assert backends <= 10
    assert after.answers == {"200": 10}
    assert "Traceback" not in server.log


@pytest.mark.anyio
async def test_clients_that_hang_up_midway_leak_and_poison_no_connection(
    own: Cluster, tmp_path: Path, report: Report, full: bool
) -> None:
    hang_ups = 1000 if full else 300
    figures = Figures(note=f"{hang_ups} hung up")
    with serving(tmp_path / "log", DATABASE_URL=own.url, DATABASE_POOL_SIZE="10") as server:
        address = urlsplit(server.url)
        request = message("POST", tasks_path("ada"), {"title": "Is it there?"})
        for number in range(hang_ups):
            sent = request[: 1 + (number * 7) % len(request)] if number % 3 else request * 3
            hang_up(address.hostname, address.port, sent)
        async with clients(server.url, figures, 20) as twenty:
            for user, client in enumerate(twenty):
                path = tasks_path(f"user-{user}")
                created = await client.request("POST", path, {"title": f"Title {user}"})
                listed = await client.request("GET", path)
                assert listed.json == [created.json]
                assert created.json["title"] == f"Title {user}"
        async with connected(own.url) as admin:
            backends = await admin.fetchval(BACKENDS) - 1
    report(figures)

    assert figures.answers == {"201": 20, "200": 20}
    assert 0 < backends <= 10
    assert "ERROR" not in server.log
    assert "Traceback" not in server.log


def hang_up(host: str | None, port: int | None, sent: bytes) -> None:
    """Send this, and reset the connection before there is an answer."""
    with closing(socket.create_connection((host, port))) as client:
        client.sendall(sent)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@pytest.mark.anyio
async def test_200_slow_clients_do_not_slow_down_other_clients(
    own: Cluster, tmp_path: Path, report: Report, full: bool
) -> None:
    """Each client sends a byte a second: half of the clients in the headers, half in the body."""
    seconds = 10 if full else 1.5
    request = message("POST", tasks_path("slow"), {"title": "Patience"})
    head = len(request) - 25
    with serving(tmp_path / "log", DATABASE_URL=own.url) as server:
        alone = await answered(server.url, seconds)
        async with clients(server.url, Figures(), 200) as slow:
            sent = [head if number % 2 else 5 for number in range(200)]
            for client, first in zip(slow, sent, strict=True):
                await client.connect()
                client.write(request[:first])
            drip = asyncio.create_task(send_slowly(slow, sent, request))
            beside = await answered(server.url, seconds)
            drip.cancel()
            for client, first in zip(slow, sent, strict=True):
                client.write(request[first:])
            last = [await client.read() for client in slow]
    figures = Figures(beside.answers, beside.slowest)
    ratio = sum(beside.answers.values()) / sum(alone.answers.values())
    figures.note = f"others at {ratio:.2f} of their speed without"
    report(figures)

    assert set(beside.answers) == {"200"}
    assert ratio > 0.5
    assert [answer.status for answer in last] == ["201"] * 200


async def answered(url: str, seconds: float) -> Figures:
    figures = Figures()

    async def ask(client: Client) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            await client.request("GET", tasks_path("ada"))

    async with clients(url, figures, 10) as ten:
        await asyncio.gather(*(ask(client) for client in ten))
    return figures


async def send_slowly(slow: list[Client], sent: list[int], request: bytes) -> None:
    while True:
        await asyncio.sleep(1)
        for number, client in enumerate(slow):
            client.write(request[sent[number] : sent[number] + 1])
            sent[number] += 1
