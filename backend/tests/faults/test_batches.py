"""Batches beside other writes, and when sessions and workers end under them."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from itertools import count
from pathlib import Path
from random import Random, random
from typing import Any

import pytest

from tests.faults.cluster import Cluster
from tests.faults.conftest import Report
from tests.faults.load import Client, Figures, clients, connected
from tests.faults.test_database import END_BACKENDS
from tests.serving import Server, serving, workers_of
from tests.tasks import Task, task_path, tasks_path

PATH = f"{tasks_path('ada')}/batch"
DEADLOCKS = "SELECT sum(deadlocks)::int FROM pg_stat_database"


def update(task: Task, title: str) -> dict[str, Any]:
    return {"op": "update", "id": task["id"], "task": {"title": title}}


@pytest.mark.anyio
async def test_batches_beside_single_writes_over_the_same_tasks_never_deadlock(
    own: Cluster, tmp_path: Path, report: Report, full: bool
) -> None:
    """Each batch names its tasks in another order. Every answer is a state that the tasks had."""
    batches = 10_000 if full else 600
    figures = Figures()
    states: dict[str, list[Task]] = defaultdict(list)
    numbers = iter(range(batches))

    async def batch(client: Client, chance: Random, tasks: list[Task]) -> None:
        for number in numbers:
            title = f"Batch {number}"
            chosen = chance.sample(tasks, chance.randint(2, 12))
            operations = [update(task, title) for task in chosen]
            key = {"Idempotency_Key": str(number)} if number % 3 == 0 else {}
            answer = await client.request("POST", PATH, {"operations": operations}, **key)
            changed = [result["task"] for result in answer.json["results"]]
            assert [task["id"] for task in changed] == [task["id"] for task in chosen]
            assert {task["title"] for task in changed} == {title}
            for task in changed:
                states[task["id"]].append(task)

    async def write(client: Client, chance: Random, tasks: list[Task]) -> None:
        while not all(each.done() for each in senders):
            task = chance.choice(tasks)
            answer = await client.request("PATCH", f"{task_path(task)}/complete")
            states[task["id"]].append(answer.json)

    with serving(tmp_path / "log", DATABASE_URL=own.url, DATABASE_POOL_SIZE="20") as server:
        async with clients(server.url, figures, 16) as opened:
            tasks = [
                (await opened[0].request("POST", tasks_path("ada"), {"title": "First"})).json
                for _ in range(20)
            ]
            senders = [
                asyncio.create_task(batch(client, Random(random()), tasks))
                for client in opened[:10]
            ]
            writers = [write(client, Random(random()), tasks) for client in opened[10:]]
            await asyncio.gather(*senders, *writers)
            last = (await opened[0].request("GET", tasks_path("ada"))).json
        async with connected(own.url) as admin:
            deadlocks = await admin.fetchval(DEADLOCKS)
    figures.note = f"{batches:,} batches, {deadlocks} deadlocks"
    report(figures)

    assert set(figures.answers) == {"200", "201"}
    assert deadlocks == 0
    for task in last:
        assert task in states[task["id"]]
        same = [state["updated_at"] for state in states[task["id"]]]
        assert task["updated_at"] == max(same)


async def end_sessions(_server: Server, own: Cluster) -> None:
    async with connected(own.url) as admin:
        await admin.fetchval(END_BACKENDS)


async def kill_a_worker(server: Server, _own: Cluster) -> None:
    alive = workers_of(server.process.pid)
    if len(alive) == 2:
        alive[0].kill()


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("fault", "pause"),
    [(end_sessions, 0.3), (kill_a_worker, 2)],
    ids=["sessions end", "workers are killed"],
)
async def test_a_batch_is_applied_whole_or_not_at_all(
    own: Cluster,
    tmp_path: Path,
    report: Report,
    full: bool,
    fault: Callable[[Server, Cluster], Awaitable[None]],
    pause: float,
) -> None:
    """A batch with a key is repeated until the service acknowledges it, and is applied once."""
    figures = Figures()
    acknowledged: dict[str, bool] = {}
    until = 0.0

    async def send(client: Client, name: str) -> None:
        has_key = name.startswith("key")
        for number in count():
            title = f"{name} {number}"
            operations = [{"op": "create", "task": {"title": title}}] * 10
            key = {"Idempotency_Key": title.replace(" ", "-")} if has_key else {}
            acknowledged[title] = False
            while not acknowledged[title]:
                if time.monotonic() > until:
                    return
                answer = await client.request("POST", PATH, {"operations": operations}, **key)
                acknowledged[title] = answer.is_ok
                if not answer.is_ok:
                    await asyncio.sleep(0.02)
                    if not has_key:
                        break

    with serving(tmp_path / "log", DATABASE_URL=own.url, WORKERS="2") as server:
        async with clients(server.url, figures, 16) as opened:
            until = time.monotonic() + (20 if full else 5)
            names = [f"{kind} {n}" for n in range(8) for kind in ("key", "plain")]
            sending = asyncio.gather(*map(send, opened, names))
            while time.monotonic() + pause < until:
                await asyncio.sleep(pause)
                await fault(server, own)
            await sending
    async with connected(own.url) as admin:
        rows = await admin.fetch("SELECT title, count(*) AS n FROM tasks GROUP BY title")
    created = {row["title"]: row["n"] for row in rows}
    figures.lost = sum(yes and created.get(title) != 10 for title, yes in acknowledged.items())
    figures.twice = sum(n > 10 for n in created.values())
    figures.note = f"{sum(acknowledged.values()):,} batches of 10"
    report(figures)

    assert set(created.values()) == {10}
    assert figures.lost == 0
    assert sum(acknowledged.values()) > 50
