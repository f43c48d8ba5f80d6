"""When many users ask for everything at once."""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack
from itertools import chain
from pathlib import Path
from random import Random, random
from typing import Any

import pytest

from tests.faults.cluster import Cluster
from tests.faults.conftest import Report
from tests.faults.load import Answer, Client, Figures, clients, connected
from tests.serving import serving
from tests.tasks import Task, task_after, task_path, tasks_path

USERS = [f"user {number}" for number in range(200)]
CONNECTIONS = 64


class Person:
    """One of many clients, who records the expected state of each of its tasks."""

    def __init__(
        self, client: Client, everyone: list[Task], number: int, users: list[str] = USERS
    ) -> None:
        self.client = client
        self.users = users
        self.everyone = everyone
        self.chance = Random(random())
        self.titles = (f"Title {number}.{turn}" for turn in range(10**9))
        self.tasks: dict[str, Task] = {}

    async def go_on(self, turns: int) -> None:
        await self.create()
        kinds = [self.create, self.read, self.change]
        if len(self.users) > 1:
            kinds.append(self.trespass)
        for _ in range(turns):
            await self.chance.choice(kinds)()

    async def create(self) -> None:
        user, title = self.chance.choice(self.users), next(self.titles)
        task = (await self.client.request("POST", tasks_path(user), {"title": title})).json
        assert (task["user_id"], task["title"]) == (user, title)
        self.tasks[task["id"]] = task
        self.everyone.append(task)

    async def read(self) -> None:
        task = self.chance.choice([*self.tasks.values()])
        assert (await self.client.request("GET", task_path(task))).json == task

    async def change(self) -> None:
        task = self.chance.choice([*self.tasks.values()])
        method, path, body = self.chance.choice([*changes(task, next(self.titles))])
        answer = await self.client.request(method, path, body)
        assert answer.status == "200"
        if method == "DELETE":
            del self.tasks[task["id"]]
            await self.create()
            return
        wanted = body or {"completed": not task["completed"]}
        assert answer.json == task_after(task, wanted, answer.json)
        self.tasks[task["id"]] = answer.json

    async def trespass(self) -> None:
        """Ask for another user's task."""
        task = self.chance.choice(self.everyone)
        user = self.chance.choice([user for user in self.users if user != task["user_id"]])
        theirs = task | {"user_id": user}
        method, path, body = self.chance.choice(
            [("GET", task_path(theirs), None), *changes(theirs, "Stolen")]
        )
        answer: Answer = await self.client.request(method, path, body)
        assert answer.status == "404"


def changes(task: Task, title: str) -> Iterator[tuple[str, str, dict[str, Any] | None]]:
    yield "PUT", task_path(task), {"title": title}
    yield "PATCH", task_path(task), {"title": title, "completed": True}
    yield "PATCH", f"{task_path(task)}/complete", None
    yield "DELETE", task_path(task), None


@pytest.mark.anyio
async def test_every_client_gets_the_answer_to_its_own_request(
    own: Cluster, tmp_path: Path, report: Report, full: bool
) -> None:
    requests = 300_000 if full else 10_000
    everyone: list[Task] = []
    figures = Figures()
    with serving(tmp_path / "log", DATABASE_URL=own.url) as server:
        async with clients(server.url, figures, CONNECTIONS) as opened:
            people = [Person(client, everyone, n) for n, client in enumerate(opened)]
            await asyncio.gather(*(person.go_on(requests // CONNECTIONS) for person in people))
            for person in people:
                for task in person.tasks.values():
                    assert (await person.client.request("GET", task_path(task))).json == task
    async with connected(own.url) as admin:
        kept = await admin.fetchval("SELECT count(*) FROM tasks")
    report(figures)

    assert set(figures.answers) == {"200", "201", "404"}
    assert kept == sum(len(person.tasks) for person in people)


@pytest.mark.anyio
async def test_three_services_answer_one_users_clients_rightly(
    own: Cluster, tmp_path: Path, report: Report, full: bool
) -> None:
    requests = 30_000 if full else 1_500
    figures = Figures()
    with ExitStack() as stack:
        servers = [
            stack.enter_context(serving(tmp_path / f"log {n}", DATABASE_URL=own.url))
            for n in range(3)
        ]
        async with AsyncExitStack() as opening:
            opened = [
                await opening.enter_async_context(clients(server.url, figures, CONNECTIONS // 4))
                for server in servers
            ]
            people = [
                Person(client, [], number, ["ada"]) for number, client in enumerate(chain(*opened))
            ]
            await asyncio.gather(*(person.go_on(requests // len(people)) for person in people))
        logs = [server.log for server in servers]
    async with connected(own.url) as admin:
        kept = await admin.fetchval("SELECT count(*) FROM tasks")
        [numbers] = await admin.fetch("SELECT count(*), min(seq), max(seq) FROM changes")
        writes = await admin.fetchval("SELECT seq FROM feeds")
    report(figures)

    assert set(figures.answers) == {"200", "201"}
    assert kept == sum(len(person.tasks) for person in people)
    assert [*numbers] == [writes, 1, writes]
    assert not [log for log in logs if "Traceback" in log]
