"""Clients that write all the time and record the answers, and an audit of what was applied.

A write that was acknowledged must have been applied once. Any other write, which was refused or
whose answer got lost, may have been applied once or not at all.
"""

import asyncio
import json
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg

from tests.tasks import tasks_path

CLIENTS = 40
CUT = "cut"
"""A reused connection broke after a request was sent and before its answer."""
RESET = "reset"
"""A new connection broke before its first answer."""
CLOSED = "closed"
"""The connection was not accepted: the request was not sent."""

AUDIT = """
CREATE TABLE audit (operation text, id uuid, title text);
CREATE FUNCTION write_audit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO audit SELECT TG_OP, COALESCE(NEW.id, OLD.id), COALESCE(NEW.title, OLD.title);
    RETURN NULL;
END $$;
CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON tasks
FOR EACH ROW EXECUTE FUNCTION write_audit();
"""


@dataclass
class Figures:
    """What a fault did, as a row of the table."""

    answers: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    lost: int = 0
    twice: int = 0
    recovered: float | None = None
    note: str = ""

    def add(self, answer: str, seconds: float) -> None:
        self.answers[answer] += 1
        self.slowest = max(self.slowest, seconds)


@dataclass
class Answer:
    status: str
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def json(self) -> Any:  # noqa: ANN401 - whatever was answered
        return json.loads(self.body)

    @property
    def is_ok(self) -> bool:
        return self.status.startswith("2")


class Client:
    """HTTP/1.1 over a connection that is reused, and reopened when it breaks."""

    def __init__(self, url: str, figures: Figures) -> None:
        self.address = urlsplit(url)
        self.figures = figures
        self.writer: asyncio.StreamWriter | None = None
        self.is_kept = False

    async def request(
        self, method: str, path: str, content: object = None, **headers: str
    ) -> Answer:
        return await self.send(message(method, path, content, **headers))

    async def send(self, request: bytes) -> Answer:
        began = time.monotonic()
        answer = await self._answer(request)
        self.figures.add(answer.status, time.monotonic() - began)
        assert answer.status != "503" or "retry-after" in answer.headers
        return answer

    async def _answer(self, request: bytes) -> Answer:
        try:
            await self.connect()
        except OSError:
            return Answer(CLOSED)
        try:
            self.write(request)
            answer = await self.read()
        except (OSError, asyncio.IncompleteReadError):
            self.close()
            return Answer(CUT if self.is_kept else RESET)
        self.is_kept = True
        if answer.headers.get("connection") == "close":
            self.close()
        return answer

    async def connect(self) -> None:
        if self.writer is None:
            self.reader, self.writer = await asyncio.open_connection(
                self.address.hostname, self.address.port
            )
            self.is_kept = False

    def write(self, data: bytes) -> None:
        assert self.writer is not None
        self.writer.write(data)

    async def read(self) -> Answer:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        status, *lines = head.strip().split("\r\n")
        pairs = (line.partition(":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        body = await self.reader.readexactly(int(headers["content-length"]))
        return Answer(status.split()[1], headers, body)

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()
            self.writer = None


@asynccontextmanager
async def clients(url: str, figures: Figures, number: int) -> AsyncIterator[list[Client]]:
    opened = [Client(url, figures) for _ in range(number)]
    try:
        yield opened
    finally:
        for client in opened:
            client.close()
        await asyncio.sleep(0)


@asynccontextmanager
async def on_and_on(
    crowd: list[Client], ask: Callable[[int, Client], Awaitable[object]]
) -> AsyncIterator[None]:
    """Call `ask` with each client and its number, again and again until the block ends."""
    is_over = asyncio.Event()

    async def repeat(number: int, client: Client) -> None:
        while not is_over.is_set():
            await ask(number, client)

    async with asyncio.TaskGroup() as asking:
        for number, client in enumerate(crowd):
            asking.create_task(repeat(number, client))
        yield
        is_over.set()


def message(method: str, path: str, content: object = None, **headers: str) -> bytes:
    """Write a request; `If_Match` is the header If-Match."""
    body = b"" if content is None else json.dumps(content).encode()
    fields = {
        "Host": "localhost",
        "Content-Length": str(len(body)),
        "Content-Type": "application/json",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


class Load:
    """Clients of the six endpoints. Unless `is_plain`, more clients send keys and conditions."""

    def __init__(
        self,
        url: str,
        database: str,
        *,
        is_plain: bool = False,
        users: Iterator[str] | None = None,
    ) -> None:
        self.url = url
        self.database = database
        self.is_plain = is_plain
        self.users = users or (f"user-{uuid4().hex}" for _ in count())
        self.figures = Figures()
        self.answers: dict[str, Counter[str]] = defaultdict(Counter)
        self.wrong_reads = 0
        self.running = True
        # Whether each write was acknowledged.
        self.creates: dict[str, bool] = {}
        self.updates: dict[str, bool] = {}
        self.deletes: dict[str, bool] = {}
        self.toggles: dict[str, list[bool]] = defaultdict(list)

    @asynccontextmanager
    async def under_way(self, clients: int = CLIENTS, audit: str = AUDIT) -> AsyncIterator[None]:
        """Send requests for as long as the block takes, and wait for the last answers.

        From the start of the block, PostgreSQL records each change of the tasks.
        """
        async with connected(self.database) as admin:
            for command in audit.split("\n\n"):
                await admin.execute(command)
        kinds = [self._read, self._create, self._update, self._toggle, self._delete]
        if not self.is_plain:
            kinds += [self._create_once, self._update_if_unchanged]
        async with asyncio.TaskGroup() as group:
            for number in range(clients):
                group.create_task(kinds[number % len(kinds)](next(self.users)))
            try:
                yield
            finally:
                self.running = False

    async def _ask(
        self, client: Client, method: str, path: str, content: object = None, **headers: str
    ) -> Answer:
        answer = await client.request(method, path, content, **headers)
        self.answers[method][answer.status] += 1
        if not answer.is_ok:
            await asyncio.sleep(0.02)
        return answer

    async def _task(self, client: Client, user: str, title: str) -> dict[str, Any] | None:
        """Create a task, and retry until it succeeds."""
        for attempt in count():
            self.creates[f"{title} {attempt}"] = False
            answer = await self._ask(
                client, "POST", tasks_path(user), {"title": f"{title} {attempt}"}
            )
            if answer.is_ok:
                self.creates[f"{title} {attempt}"] = True
                task: dict[str, Any] = answer.json
                return task
            if not self.running:
                break
        return None

    async def _read(self, user: str) -> None:
        client = Client(self.url, self.figures)
        task = await self._task(client, user, f"To read {user}")
        while self.running:
            answer = await self._ask(client, "GET", tasks_path(user))
            if answer.is_ok:
                self.wrong_reads += task not in answer.json
        client.close()

    async def _create(self, user: str) -> None:
        client = Client(self.url, self.figures)
        for number in count():
            if not self.running:
                break
            await self._task(client, user, f"New {user} {number}")
        client.close()

    async def _create_once(self, user: str) -> None:
        """Repeat each create with a key until it is acknowledged: it must make one task."""
        client = Client(self.url, self.figures)
        for number in count():
            if not self.running:
                break
            title = f"Once {user} {number}"
            self.creates[title] = False
            while not self.creates[title] and self.running:
                answer = await self._ask(
                    client, "POST", tasks_path(user), {"title": title}, Idempotency_Key=str(number)
                )
                self.creates[title] = answer.is_ok
        client.close()

    async def _update_if_unchanged(self, user: str) -> None:
        """Make each change conditional on the last seen state: none can be applied twice."""
        client = Client(self.url, self.figures)
        task = await self._task(client, user, f"To update if unchanged {user}")
        path = f"{tasks_path(user)}/{task['id']}" if task else ""
        for number in count():
            seen = await self._ask(client, "GET", path)
            if not self.running or task is None:
                break
            if seen.is_ok:
                title = f"Changed {user} {number}"
                self.updates[title] = False
                answer = await self._ask(
                    client, "PATCH", path, {"title": title}, If_Match=seen.headers["etag"]
                )
                assert answer.status != "412", "nobody else changes this task"
                self.updates[title] = answer.is_ok
        client.close()

    async def _update(self, user: str) -> None:
        client = Client(self.url, self.figures)
        task = await self._task(client, user, f"To update {user}")
        for number in count():
            if not self.running or task is None:
                break
            title = f"Updated {user} {number}"
            path = f"{tasks_path(user)}/{task['id']}"
            self.updates[title] = False
            answer = await self._ask(client, "PUT", path, {"title": title})
            self.updates[title] = answer.is_ok
        client.close()

    async def _toggle(self, user: str) -> None:
        client = Client(self.url, self.figures)
        task = await self._task(client, user, f"To toggle {user}")
        while self.running and task is not None:
            path = f"{tasks_path(user)}/{task['id']}/complete"
            answer = await self._ask(client, "PATCH", path)
            self.toggles[task["id"]].append(answer.is_ok)
        client.close()

    async def _delete(self, user: str) -> None:
        client = Client(self.url, self.figures)
        for number in count():
            task = await self._task(client, user, f"To delete {user} {number}")
            if not self.running or task is None:
                break
            answer = await self._ask(client, "DELETE", f"{tasks_path(user)}/{task['id']}")
            self.deletes[task["id"]] = answer.is_ok
        client.close()

    async def audit(self) -> Figures:
        """Compare the answers to clients with the changes in PostgreSQL."""
        async with connected(self.database) as connection:
            rows = await connection.fetch("SELECT operation, id::text, title FROM audit")
        inserted = Counter(title for operation, _, title in rows if operation == "INSERT")
        updated = Counter(title for operation, _, title in rows if operation == "UPDATE")
        deleted = Counter(task for operation, task, _ in rows if operation == "DELETE")
        toggled = Counter(task for operation, task, _ in rows if operation == "UPDATE")
        lost = twice = 0
        for told, done in (
            (self.creates, inserted),
            (self.updates, updated),
            (self.deletes, deleted),
        ):
            lost += sum(acknowledged and not done[write] for write, acknowledged in told.items())
            twice += sum(done[write] > 1 for write in told)
        for task, answers in self.toggles.items():
            lost += max(0, sum(answers) - toggled[task])
            twice += max(0, toggled[task] - len(answers))
        self.figures.lost, self.figures.twice = lost, twice
        return self.figures


async def answers_again(url: str, since: float, seconds: float = 30, user: str = "after") -> float:
    """Wait until the service is ready and a task can be written; return the seconds it took."""
    async with clients(url, Figures(), 1) as [client]:
        while time.monotonic() < since + seconds:
            ready = await client.request("GET", "/health/ready")
            created = await client.request("POST", tasks_path(user), {"title": "After it"})
            if ready.is_ok and created.is_ok:
                return time.monotonic() - since
            await asyncio.sleep(0.02)
    raise AssertionError(f"no service {seconds} s after the fault")


@asynccontextmanager
async def connected(database: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    connection = await asyncpg.connect(database)
    try:
        yield connection
    finally:
        await connection.close()
