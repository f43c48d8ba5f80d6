"""What one account, or a few, may take from all others."""

import asyncio
import json
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import TypeAlias
from urllib.parse import urlsplit
from uuid import UUID

import psutil
import pytest

from src.config import Settings
from src.framework.web.bodies import MOST_OF_ALL
from tests.connections import request
from tests.faults.cluster import Cluster
from tests.faults.conftest import Report
from tests.faults.load import Client, Figures, clients, connected, on_and_on
from tests.faults.test_share import TWENTY_OF_OTHERS, watched
from tests.serving import Server, eventually, serving
from tests.streams import Reader
from tests.tasks import tasks_path

MIB = 1024 * 1024
MOST_MB = 150
"""How much memory each of these attacks may add to the process."""

# Work

CLIENTS = 10
ACCOUNTS = ("greedy-0", "greedy-1")
PAUSE = 0.05
"""Seconds between two requests of a client."""

ORDINARY = 0.020
"""Seconds: a shorter 99th percentile beside ordinary lists counts as this long."""

UNKNOWN = UUID(int=0)
LARGEST = {
    "title": "💡" * 500,
    "description": "💡" * 5000,
    "tags": [f"{n:02}" + "💡" * 48 for n in range(20)],
}
TASKS_OF_A_GREEDY_ONE = """
INSERT INTO tasks (id, user_id, title, description, completed, created_at, updated_at, tags)
SELECT gen_random_uuid(), user_id, 'Task ' || n, repeat('a', 5000), false, now(), now(),
    (SELECT array_agg('tag ' || i) FROM generate_series(1, 19) i) || '{a}'::text[]
FROM unnest($1::text[]) AS user_id, generate_series(1, 2000) n
"""

Ask: TypeAlias = Callable[[str], bytes]
"""Write the request of a user."""


def get(query: str = "", *fields: str) -> Ask:
    return lambda user: request("GET", f"{tasks_path(user)}{query}", *fields)


def batch(operations: bytes, more: bytes = b"null") -> Ask:
    body = b'{"operations":[%b],"more":%b}' % (operations, more)
    return lambda user: request("POST", f"{tasks_path(user)}/batch", body=body)


def repeated(text: bytes, length: int) -> bytes:
    return text * (length // len(text))


def in_chunks_of_a_byte(user: str) -> bytes:
    fields = ("Transfer-Encoding: chunked", "Content-Type: application/json")
    return request("POST", f"{tasks_path(user)}/batch", *fields) + b"1\r\n[\r\n" * 4000


NOTHING = b'{"op":"delete","id":"%b"}' % str(UNKNOWN).encode()
CREATE = b'{"op":"create","task":%b}'
ALMOST_3_MIB = 3 * MIB - 1000
LARGEST_OPERATION = CREATE % json.dumps(LARGEST, ensure_ascii=False).encode()

WORST: dict[str, tuple[Ask, int]] = {
    "a tag 10,000 times": (get(f"?limit=10&tags={'a,' * 10_000}"), 200),
    "a priority 6,000 times": (get(f"?limit=10&priority={'low,' * 6000}"), 200),
    "20 tags": (get("?limit=10&tags=a," + ",".join(f"tag%20{n}" for n in range(1, 20))), 200),
    "a search that finds nothing": (get(f"?limit=10&q={'a' * 499}b"), 200),
    "a query of escapes": (get(f"?limit=10&x={'%41' * 8000}"), 200),
    "12,000 parameters": (get(f"?{'a&' * 12_000}"), 400),
    "a query of 60 KB": (get(f"?x={'%41' * 19_000}"), 414),
    "a path of escapes": (lambda _: request("GET", f"/api/{'%2F' * 19_000}/tasks"), 414),
    "Accept of quotation marks": (get("/changes", "Accept: " + '"\\' * 30_000), 200),
    "If-None-Match of 15,000 ETags": (get("?limit=10", "If-None-Match: " + '"a",' * 15_000), 422),
    "chunks of a byte": (in_chunks_of_a_byte, 413),
    "3 MiB of lists": (batch(NOTHING, b"[%b[]]" % repeated(b"[],", ALMOST_3_MIB)), 422),
    "3 MiB of members": (
        batch(NOTHING, b"{%b}" % b",".join(b'"%x":1' % n for n in range(260_000))),
        422,
    ),
    "3 MiB of texts": (batch(NOTHING, b"[%b1]" % repeated(b'"%b",' % (b"[{," * 200), MIB)), 404),
    "3 MiB of escapes": (batch(NOTHING, b'"%b"' % repeated(b'\\",', ALMOST_3_MIB)), 404),
    "100 large tasks": (batch(b",".join([LARGEST_OPERATION] * 100)), 200),
    "100 wrong tasks": (batch(b",".join([CREATE % b'{"title":"","tags":["","",""]}'] * 100)), 422),
}


@asynccontextmanager
async def sent_on_and_on(
    url: str, sent: list[tuple[Ask, int]], number: int
) -> AsyncIterator[Counter[str]]:
    """Let `number` clients of two accounts send these requests in turn; count the answers."""
    answers = Counter[str]()
    messages = {user: [(ask(user), str(status)) for ask, status in sent] for user in ACCOUNTS}

    async def send_all(number: int, client: Client) -> None:
        for message, status in messages[ACCOUNTS[number % len(ACCOUNTS)]]:
            answer = await client.send(message)
            answers["expected" if answer.status == status else answer.status] += 1
            await asyncio.sleep(PAUSE)

    async with clients(url, Figures(), number) as greedy, on_and_on(greedy, send_all):
        yield answers


@pytest.mark.anyio
async def test_the_worst_requests_of_ten_clients_of_two_accounts_delay_others_little(
    own: Cluster, tmp_path: Path, report: Report, full: bool
) -> None:
    seconds, number = (4.0, CLIENTS) if full else (0.3, len(ACCOUNTS))
    kinds = {name: [sent] for name, sent in WORST.items()}
    if not full:
        kinds = {"all in turn": [*WORST.values()]}
    others = Figures()
    p99: dict[str, float] = {}
    answers = Counter[str]()
    with serving(tmp_path / "log", DATABASE_URL=own.url) as server:
        async with connected(own.url) as admin:
            await admin.execute(TASKS_OF_A_GREEDY_ONE, [*ACCOUNTS])
            await admin.execute(TWENTY_OF_OTHERS)
        for name, sent in {"ordinary lists": [(get("?limit=20"), 200)], **kinds}.items():
            async with sent_on_and_on(server.url, sent, number) as counted:
                await watched(server.url, seconds / 4)
                beside = await watched(server.url, seconds)
                p99[name] = beside.p99
            others.answers += beside.figures.answers
            others.slowest = max(others.slowest, beside.figures.slowest)
            answers += counted
        assert "Traceback" not in server.log
    ordinary = p99.pop("ordinary lists")
    worst = max(p99, key=p99.__getitem__)
    others.note = (
        f"{answers.total()} bad requests of {len(WORST)} kinds; others' p99 {p99[worst]:.3f} s at "
        f"most ({worst}), {ordinary:.3f} s beside ordinary lists"
    )
    report(others)

    assert set(others.answers) == {"200"}
    assert set(answers) == {"expected"}
    # Only `make faults` has the machine to itself.
    assert p99[worst] < 3 * max(ordinary, ORDINARY) or not full, p99


# Memory


@contextmanager
def added_memory(server: Server) -> Iterator[list[float]]:
    """Record the most MB that the process has had above its start; the last number is the peak."""
    process = psutil.Process(server.process.pid)
    before, most = process.memory_info().rss, [0.0]
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.wait(0.02):
            most.append(max(most[-1], (process.memory_info().rss - before) / MIB))

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield most
    finally:
        is_over.set()
        watching.join()


def body_without_end(user: str) -> bytes:
    body = b'{"operations":[%b],"more":"%b' % (NOTHING, b"a" * ALMOST_3_MIB)
    return request("POST", f"{tasks_path(user)}/batch", body=body + b'"}')[:-1]


@pytest.mark.slow
@pytest.mark.anyio
async def test_slow_bodies_have_a_budget(own: Cluster, tmp_path: Path, report: Report) -> None:
    """Each client sends 3 MiB without the last byte."""
    number = 200
    refused = Figures()
    with serving(tmp_path / "log", DATABASE_URL=own.url) as server:
        async with clients(server.url, refused, number) as slow:
            with added_memory(server) as memory:
                sending = [
                    asyncio.create_task(client.send(body_without_end(f"slow-{n % 20}")))
                    for n, client in enumerate(slow)
                ]
                held = MOST_OF_ALL // (3 * MIB)
                while len([each for each in sending if not each.done()]) > held:
                    await asyncio.wait(sending, return_when="FIRST_COMPLETED", timeout=0.1)
                others = await watched(server.url, 1)
            for each in sending:
                each.cancel()
    others.figures.note = (
        f"{number} bodies of 3 MiB: {held} held, {refused.answers.total()} refused; "
        f"memory +{memory[-1]:.0f} MB"
    )
    report(others.figures)

    assert set(others.figures.answers) == {"200"}
    assert set(refused.answers) <= {"429", "503"}
    assert refused.answers.total() == number - held
    assert memory[-1] < MOST_MB


@pytest.mark.anyio
async def test_bodies_of_a_million_members_are_not_built(
    own: Cluster, tmp_path: Path, report: Report
) -> None:
    """16 requests at once, while their user has no connection left."""
    members = b"[%b{}]" % (b"{}," * 1_000_000)
    figures = Figures()
    with serving(tmp_path / "log", DATABASE_URL=own.url) as server:
        async with connected(own.url) as admin, clients(server.url, figures, 16) as greedy:
            await admin.execute("BEGIN; LOCK TABLE tasks IN ACCESS EXCLUSIVE MODE")
            with added_memory(server) as memory:
                answers = await asyncio.gather(
                    *(
                        client.send(batch(NOTHING, members)(f"greedy-{n % 4}"))
                        for n, client in enumerate(greedy)
                    )
                )
    figures.note = f"16 bodies of a million members; memory +{memory[-1]:.0f} MB"
    report(figures)

    assert {answer.status for answer in answers} == {"422"}
    assert memory[-1] < MOST_MB


READERS_OF_A_USER = 100
HUNDRED_LARGE = """
INSERT INTO tasks (id, user_id, title, description, completed, created_at, updated_at)
SELECT gen_random_uuid(), user_id, 'Task ' || n, repeat('💡', 5000), false, now(), now()
FROM unnest($1::text[]) AS user_id, generate_series(1, 100) n
"""


def unread_by(port: int) -> float:
    """Return the MB of unread bytes that the system keeps for the peers of this port."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    fields = [line.split() for line in lines]
    queues = [each[4] for each in fields if each[1].endswith(f":{port:04X}")]
    return sum(int(queue.partition(":")[0], 16) for queue in queues) / MIB


@pytest.mark.slow
@pytest.mark.usefixtures("many_files")
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.anyio
async def test_streams_that_nobody_reads_keep_little(
    own: Cluster, tmp_path: Path, report: Report
) -> None:
    users = [f"still-{number}" for number in range(6)]
    with ExitStack() as open_sockets, serving(tmp_path / "log", DATABASE_URL=own.url) as server:
        address = urlsplit(server.url)
        async with clients(server.url, Figures(), 1) as [client], connected(own.url) as admin:
            since = {
                user: (await client.request("GET", f"{tasks_path(user)}/changes")).json["next"]
                for user in users
            }
            await admin.execute(HUNDRED_LARGE, users)
            await admin.execute(TWENTY_OF_OTHERS)
            port = address.port or 0
            kernel = [0.0]
            with added_memory(server) as memory:
                for user in users * READERS_OF_A_USER:
                    connection = open_sockets.enter_context(socket.socket())
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                    await asyncio.to_thread(connection.connect, (address.hostname, port))
                    path = f"{tasks_path(user)}/changes?since={since[user]}"
                    connection.send(request("GET", path, "Accept: text/event-stream"))
                for _ in range(10):
                    others = await watched(server.url, 0.5)
                    kernel.append(unread_by(port))
    number = len(users) * READERS_OF_A_USER
    others.figures.note = (
        f"{number} streams of 2 MB of changes: memory +{memory[-1]:.0f} MB, "
        f"in the system's queues {max(kernel):.0f} MB"
    )
    report(others.figures)

    assert set(others.figures.answers) == {"200"}
    assert memory[-1] < MOST_MB
    assert max(kernel) > 1
    assert memory[-1] + max(kernel) < 2 * MOST_MB


# Streams

OTHERS = 5
MOST_STREAMS: int = Settings.model_fields["live_streams_per_user"].default


class Listening:
    """Other users, each with a stream, measure how long a change takes to arrive."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.readers = [Reader(server.url, f"listener-{number}") for number in range(OTHERS)]

    async def delays(self, rounds: int) -> list[float]:
        delays = []
        async with clients(self.server.url, Figures(), 1) as [client]:
            for number in range(rounds):
                reader = self.readers[number % OTHERS]
                reader.has_heard.clear()
                await client.request("POST", tasks_path(reader.user), {"title": "Buy milk"})
                written = time.monotonic()
                await asyncio.wait_for(reader.has_heard.wait(), 30)
                delays.append(time.monotonic() - written)
        return delays


async def opened(readers: list[Reader]) -> list[asyncio.Task[None]]:
    reading = [asyncio.create_task(reader.read()) for reader in readers]
    for reader in readers:
        await asyncio.wait_for(reader.is_open.wait(), 60)
    return reading


async def closed(reading: list[asyncio.Task[None]]) -> None:
    for each in reading:
        each.cancel()
    await asyncio.gather(*reading, return_exceptions=True)


@pytest.mark.usefixtures("many_files")
@pytest.mark.anyio
async def test_many_streams_of_one_user_delay_the_events_of_others_little(
    own: Cluster, tmp_path: Path, report: Report, full: bool
) -> None:
    """The user writes batches of large tasks, each of which goes to each of the user's streams."""
    number, rounds = (1000, 20) if full else (150, 2)
    figures = Figures()
    with serving(tmp_path / "log", DATABASE_URL=own.url) as server:
        listening = Listening(server)
        reading = await opened(listening.readers)
        alone = await listening.delays(rounds)
        greedy = [Reader(server.url, "greedy") for _ in range(number)]
        reading += [asyncio.create_task(reader.read()) for reader in greedy]

        def are_open() -> bool:
            return sum(reader.is_open.is_set() for reader in greedy) >= MOST_STREAMS

        assert await asyncio.to_thread(eventually, are_open, 30)
        is_over = asyncio.Event()

        async def write() -> None:
            task = b'{"title":"Large","description":"%b"}' % (b"a" * 5000)
            operations = b",".join([CREATE % task] * 50)
            async with clients(server.url, figures, 1) as [client]:
                while not is_over.is_set():
                    await client.send(batch(operations)("greedy"))
                    await asyncio.sleep(PAUSE)

        writing = asyncio.create_task(write())
        beside = await listening.delays(rounds)
        is_over.set()
        await writing
        is_open = sum(reader.is_open.is_set() for reader in greedy)
        await closed(reading)
    figures.note = (
        f"one user asks for {number} streams, has {is_open}, and writes 250 KB again and again; "
        "others' events after "
        f"{max(beside):.2f} s at most, {max(alone):.2f} s without"
    )
    report(figures)

    assert is_open == MOST_STREAMS
    assert set(figures.answers) == {"200"}
    assert len(beside) == rounds
    assert max(beside) < max(alone) + 1 or not full


@pytest.mark.usefixtures("many_files")
@pytest.mark.anyio
async def test_streams_that_come_back_at_once_delay_the_events_of_others_little(
    own: Cluster, tmp_path: Path, report: Report, full: bool
) -> None:
    """Each stream goes on from another position, so that each has its own pages."""
    number, rounds = (500, 10) if full else (50, 2)
    figures = Figures()
    settings = {"DATABASE_URL": own.url, "LIVE_STREAMS_PER_USER": str(number)}
    with serving(tmp_path / "log", **settings) as server:
        listening = Listening(server)
        reading = await opened(listening.readers)
        alone = await listening.delays(rounds)
        returning = [Reader(server.url, "greedy") for _ in range(number)]
        async with clients(server.url, figures, 1) as [client]:
            for reader in returning:
                path = tasks_path("greedy")
                await client.request("POST", path, {"title": "Large", "description": "a" * 5000})
                reader.token = (await client.request("GET", f"{path}/changes")).json["next"]
        coming = asyncio.create_task(opened(returning))
        beside = await listening.delays(rounds)
        reading += await coming
        await closed(reading)
    figures.note = (
        f"{number} streams of one user come back at different positions; others' events after "
        f"{max(beside):.2f} s at most, {max(alone):.2f} s without"
    )
    report(figures)

    assert set(figures.answers) == {"200", "201"}
    assert len(beside) == rounds
    assert max(beside) < max(alone) + 1 or not full
