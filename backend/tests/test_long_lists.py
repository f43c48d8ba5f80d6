"""A long list is one snapshot, in bounded memory."""

import asyncio
import gc
import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, suppress
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import httpx
import psutil
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from xxhash import xxh3_128

from src.framework.spool import IN_MEMORY_BYTES, PIECE_BYTES
from src.framework.sql.engine import (
    BATCH_ROWS,
    Statement,
    create_engine,
    fetch,
    fetch_batches_into,
    fetch_into,
)
from src.framework.sql.exceptions import DatabaseUnavailable
from src.schemas.other_names import MAX_PAGE
from tests.conftest import execute
from tests.serving import NO_TLS, Server, eventually, serving
from tests.tasks import assert_problem, create, tasks_path
from tests.test_compression import DECOMPRESSED, get
from tests.test_round_trips import counted


def insert(url: str, user: str, number: int, length: int = 0) -> None:
    """Insert tasks with different descriptions of this many characters."""
    parts = f"SELECT string_agg(md5(n || ' ' || m), '') FROM generate_series(0, {length // 32}) m"
    text = f"left(({parts}), {length})"
    asyncio.run(
        execute(
            url,
            f"INSERT INTO tasks SELECT gen_random_uuid(), '{user}', 'Task ' || n, {text}, false,"
            f" now() + n * interval '1 second', now() FROM generate_series(1, {number}) n",
        )
    )


# The same list, however a client reads it

SIZES = {
    "none": (0, 0),
    "one": (1, 0),
    "a piece": (300, 0),
    "a page": (MAX_PAGE, 0),
    "more than a page": (MAX_PAGE + 1, 0),
    "batches": (2 * BATCH_ROWS, 0),
    "a page in a file": (MAX_PAGE, IN_MEMORY_BYTES // MAX_PAGE),
    "batches in a file": (2 * BATCH_ROWS + 1, IN_MEMORY_BYTES // MAX_PAGE),
    "few in a file": (300, 5000),
}
every_size = pytest.mark.parametrize(("number", "length"), SIZES.values(), ids=SIZES)


@every_size
def test_a_list_has_every_task_in_order_and_the_etag_of_its_text(
    api: httpx.Client, postgres: str, user: str, number: int, length: int
) -> None:
    insert(postgres, user, number, length)

    response, content = get(api, tasks_path(user), "identity")

    titles = [task["title"] for task in json.loads(content)]
    assert titles == [f"Task {n}" for n in range(1, number + 1)]
    assert int(response.headers["content-length"]) == len(content)
    assert response.headers["etag"] == f'W/"{xxh3_128(content).hexdigest()}"'


@every_size
@pytest.mark.parametrize("encoding", DECOMPRESSED)
def test_a_list_is_the_same_in_every_encoding(
    api: httpx.Client, postgres: str, user: str, encoding: str, number: int, length: int
) -> None:
    insert(postgres, user, number, length)
    plain, content = get(api, tasks_path(user), "identity")

    response, encoded = get(api, tasks_path(user), encoding)

    compressed = "content-encoding" in response.headers
    assert compressed is (len(content) > 8 * 1024)
    assert (DECOMPRESSED[encoding](encoded) if compressed else encoded) == content
    assert response.headers["etag"] == plain.headers["etag"]


def test_a_long_list_can_be_filtered_and_ordered(
    api: httpx.Client, postgres: str, user: str
) -> None:
    insert(postgres, user, 3000)

    some = api.get(f"{tasks_path(user)}?q=task+2&sort=-created_at").json()

    expected = [f"Task {n}" for n in range(3000, 0, -1) if str(n).startswith("2")]
    assert [task["title"] for task in some] == expected


def test_a_long_list_continues_from_a_cursor(api: httpx.Client, postgres: str, user: str) -> None:
    insert(postgres, user, 3000)
    page = api.get(f"{tasks_path(user)}?limit=10")
    after = urlsplit(page.links["next"]["url"]).query.replace("limit=10&", "")

    rest = api.get(f"{tasks_path(user)}?{after}")

    assert page.json() + rest.json() == api.get(tasks_path(user)).json()
    assert "link" not in rest.headers


def test_a_long_list_works_through_a_pooler(pooler: str, user: str, tmp_path: Path) -> None:
    with serving(tmp_path / "log", DATABASE_URL=pooler) as server, server.client() as api:
        insert(pooler, user, 3000)
        for _ in range(3):
            assert len(api.get(tasks_path(user)).json()) == 3000
            assert create(api, f"{user}-other")


def chunks(server: Server, path: str, encoding: str) -> Iterator[int]:
    """Yield the lengths of the chunks of a body: RFC 9112 §7.1."""
    with socket.create_connection(("127.0.0.1", urlsplit(server.url).port or 0)) as client:
        request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: {encoding}\r\n\r\n"
        client.sendall(request.encode())
        answer = client.makefile("rb")
        while answer.readline() != b"\r\n":
            pass
        while length := int(answer.readline(), 16):
            yield length
            answer.read(length + 2)


@pytest.mark.parametrize("encoding", DECOMPRESSED)
def test_a_long_list_is_sent_in_pieces(
    server: Server, postgres: str, user: str, encoding: str
) -> None:
    insert(postgres, user, 3000, 5000)

    lengths = list(chunks(server, tasks_path(user), encoding))

    assert len(lengths) > 10
    assert max(lengths) <= PIECE_BYTES


def test_a_long_list_takes_few_round_trips(direct: str, user: str, tmp_path: Path) -> None:
    """The trips are a page's statement, BEGIN, the cursor, three batches, and COMMIT."""
    with counted(direct) as link:
        url = f"postgresql://postgres@127.0.0.1:{link.port}/postgres?sslmode=disable"
        with (
            serving(tmp_path / "log", DATABASE_URL=url, DATABASE_POOL_SIZE="1") as server,
            server.client() as api,
        ):
            insert(direct, user, 3 * BATCH_ROWS - 1)
            api.get(tasks_path(user))
            before = link.round_trips
            api.get(tasks_path(user))
            assert link.round_trips - before == 1 + 1 + 1 + 3 + 1


# One snapshot, read again when its connection breaks

NUMBERS = Statement("SELECT to_json(n) FROM generate_series(1, $1::int) n", ("number",))
PID = Statement("SELECT to_json(pg_backend_pid())")
READ_ONLY = Statement("SELECT to_json(current_setting('transaction_read_only'))")
SLOW = Statement("SELECT to_json(n) FROM generate_series(1, 1000) n, pg_sleep(0.1 * n)")
RUNNING = Statement(
    "SELECT to_json(count(*)) FROM pg_stat_activity"
    " WHERE query LIKE '%sleep%' AND pid <> pg_backend_pid()"
)


@pytest.fixture
async def one(direct_database: str) -> AsyncIterator[AsyncEngine]:
    """An engine with one connection."""
    engine = create_engine(direct_database, pool_size=1)
    yield engine
    await engine.dispose()


async def numbers(batches: AsyncIterator[list[bytes]]) -> list[int]:
    return [int(value) async for values in batches for value in values]


@pytest.mark.anyio
async def test_a_long_list_is_one_snapshot(server: Server, postgres: str, user: str) -> None:
    """While tasks are replaced one by one, their number stays the same."""
    await asyncio.to_thread(insert, postgres, user, 4000)
    enough = asyncio.Event()

    async def replace() -> None:
        for n in count():
            await execute(
                postgres,
                "WITH gone AS (DELETE FROM tasks WHERE (user_id, id) IN (SELECT user_id, id FROM"
                f" tasks WHERE user_id = '{user}' ORDER BY created_at LIMIT 500) RETURNING *)"
                " INSERT INTO tasks SELECT gen_random_uuid(), user_id, title, NULL, false,"
                f" created_at + {n + 1} * interval '1 day', now() FROM gone",
            )
            if enough.is_set():
                break

    async with (
        httpx.AsyncClient(base_url=server.url, timeout=60, verify=NO_TLS) as api,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(replace())
        for _ in range(20):
            tasks = (await api.get(tasks_path(user))).json()
            assert len({task["id"] for task in tasks}) == 4000
        enough.set()


@pytest.mark.anyio
async def test_a_long_list_is_read_again_when_its_connection_breaks(
    direct_database: str, one: AsyncEngine
) -> None:
    pid = await fetch(one, PID)
    attempts = []

    async def gather(batches: AsyncIterator[list[bytes]]) -> list[int]:
        attempts.append(await anext(batches))
        if len(attempts) == 1:
            await execute(direct_database, f"SELECT pg_terminate_backend({int(pid or 0)})")
        return [int(value) for value in attempts[-1]] + await numbers(batches)

    got = await fetch_batches_into(one, NUMBERS, gather, number=2500)

    assert got == list(range(1, 2501))
    assert len(attempts) == 2
    assert await fetch(one, PID) != pid


@pytest.mark.anyio
@pytest.mark.parametrize("error", [ValueError, DatabaseUnavailable, asyncio.CancelledError])
async def test_a_broken_off_list_leaves_no_open_transaction(
    one: AsyncEngine, error: type[BaseException]
) -> None:
    async def gather(batches: AsyncIterator[list[bytes]]) -> None:
        await anext(batches)
        raise error

    with pytest.raises(error):
        await fetch_batches_into(one, NUMBERS, gather, number=2500)

    assert await fetch(one, READ_ONLY) == b'"off"'


async def records_in_memory() -> int:
    await asyncio.sleep(0)  # the event loop has the future of an answer until then
    gc.collect()
    return sum(isinstance(each, asyncpg.Record) for each in gc.get_objects())


@pytest.mark.anyio
async def test_memory_has_no_records_of_the_rows_that_are_gathered(one: AsyncEngine) -> None:
    before = await records_in_memory()

    async def of_a_page(rows: list[bytes]) -> tuple[int, int]:
        return len(rows), await records_in_memory() - before

    async def of_a_batch(batches: AsyncIterator[list[bytes]]) -> tuple[int, int]:
        return await of_a_page(await anext(batches))

    assert await fetch_into(one, NUMBERS, of_a_page, number=1000) == (1000, 0)
    assert await fetch_batches_into(one, NUMBERS, of_a_batch, number=2500) == (BATCH_ROWS, 0)


@pytest.mark.anyio
async def test_a_long_list_that_takes_too_long_is_cancelled(direct_database: str) -> None:
    engine = create_engine(direct_database, pool_size=1, statement_seconds=0.5)

    with pytest.raises(DatabaseUnavailable, match="no answer in time"):
        await fetch_batches_into(engine, SLOW, numbers)

    assert await fetch(engine, RUNNING) == b"0"
    await engine.dispose()


# Clients that do not read


@pytest.fixture
def alone(direct_database: str, tmp_path: Path) -> Iterator[Server]:
    """A service with one connection, for tests that look at its process."""
    settings = {"DATABASE_POOL_SIZE": "1", "PYTHONWARNINGS": "always::ResourceWarning"}
    with serving(tmp_path / "log", DATABASE_URL=direct_database, **settings) as server:
        yield server


def ask_and_not_read(stack: ExitStack, server: Server, path: str, encoding: str) -> socket.socket:
    """Read only the first bytes of the answer."""
    client = stack.enter_context(socket.socket())
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", urlsplit(server.url).port or 0))
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: {encoding}\r\n\r\n"
    client.sendall(request.encode())
    assert client.recv(12) == b"HTTP/1.1 200"
    return client


ENCODINGS = ["identity", "gzip", "zstd"]


def test_an_unread_long_list_holds_neither_memory_nor_a_connection(
    alone: Server, direct_database: str
) -> None:
    insert(direct_database, "ada", 20_000, 1000)
    path, process = tasks_path("ada"), psutil.Process(alone.process.pid)
    with ExitStack() as stack, alone.client() as api:
        assert len(api.get(path).json()) == 20_000
        before = process.memory_info().rss
        for number in range(12):
            ask_and_not_read(stack, alone, path, ENCODINGS[number % 3])
        assert create(api, "bob")
        kept = process.memory_info().rss - before

    assert kept < 24 * 2**20  # each list has 23 MB


def files_without_a_name(process: psutil.Process) -> int:
    count = 0
    for link in Path(f"/proc/{process.pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # the service closed the file since the folder was read
            count += link.readlink().name.endswith(" (deleted)")
    return count


def test_files_are_closed_after_a_long_list(alone: Server, direct_database: str) -> None:
    insert(direct_database, "ada", 10_000, 1000)
    path, process = tasks_path("ada"), psutil.Process(alone.process.pid)
    with alone.client() as api:
        etag = api.get(path).headers["etag"]
        before = process.num_fds()
        for accepted in ENCODINGS:
            headers = {"Accept-Encoding": accepted}
            assert api.get(path, headers=headers).status_code == 200
            assert api.head(path, headers=headers).status_code == 200
            assert api.get(path, headers=headers | {"If-None-Match": etag}).status_code == 304
            assert eventually(lambda: process.num_fds() == before)
        with ExitStack() as stack:
            for accepted in ENCODINGS:
                ask_and_not_read(stack, alone, path, accepted)
            assert eventually(lambda: process.num_fds() == before + 3 + 3)
            assert files_without_a_name(process) == 3
        assert eventually(lambda: process.num_fds() == before)

    assert "unclosed file" not in alone.log


def test_a_long_list_is_503_when_the_disk_is_full(alone: Server, direct_database: str) -> None:
    insert(direct_database, "ada", 5000, 1000)
    process = psutil.Process(alone.process.pid)
    with alone.client() as api:
        unlimited = process.rlimit(psutil.RLIMIT_FSIZE)
        process.rlimit(psutil.RLIMIT_FSIZE, (200_000, unlimited[1]))
        assert_problem(api.get(tasks_path("ada")), 503)
        assert eventually(lambda: files_without_a_name(process) == 0)
        process.rlimit(psutil.RLIMIT_FSIZE, unlimited)
        assert len(api.get(tasks_path("ada")).json()) == 5000

    assert "File too large" in alone.log
    assert "unclosed file" not in alone.log
    assert "Traceback" not in alone.log
