"""What one account, or a few, may take from all others."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeAlias
from uuid import UUID

import pytest

from tests.connections import request
from tests.faults.cluster import Cluster
from tests.faults.conftest import Report
from tests.faults.load import Client, Figures, clients, connected
from tests.faults.test_share import TWENTY_OF_OTHERS, watched
from tests.serving import serving
from tests.tasks import tasks_path

MIB = 1024 * 1024
MOST_MB = 150
"""How much memory each of these may add to the process."""

# Work

CLIENTS = 10
ACCOUNTS = ("greedy-0", "greedy-1")
PAUSE = 0.05
"""Seconds between two requests of a client."""

ORDINARY = 0.020
"""Seconds that may always count as the 99th percentile beside ordinary lists."""

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
    """Let so many clients of two accounts send these in turn; count the answers."""
    answers = Counter[str]()
    is_over = asyncio.Event()

    async def send(client: Client, number: int) -> None:
        user = ACCOUNTS[number % len(ACCOUNTS)]
        messages = [(ask(user), str(status)) for ask, status in sent]
        while not is_over.is_set():
            for message, status in messages:
                answer = await client.send(message)
                answers["expected" if answer.status == status else answer.status] += 1
                await asyncio.sleep(PAUSE)

    async with clients(url, Figures(), number) as greedy, asyncio.TaskGroup() as sending:
        for each, client in enumerate(greedy):
            sending.create_task(send(client, each))
        yield answers
        is_over.set()


@pytest.mark.anyio
async def test_the_worst_that_ten_clients_of_two_accounts_send_delays_others_little(
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
