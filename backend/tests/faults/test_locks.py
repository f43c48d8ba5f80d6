"""When someone holds rows by hand."""

import asyncio
import statistics
import time
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from tests.faults.cluster import Cluster
from tests.faults.conftest import Report
from tests.faults.load import Client, Figures, clients, connected
from tests.serving import serving
from tests.tasks import Task, task_path, tasks_path

OTHERS = 8
HELD_CLIENTS = 8

HOLD = "UPDATE tasks SET title = title WHERE user_id = ANY($1)"


async def one_task_each(client: Client, users: list[str]) -> list[Task]:
    made = [await client.request("POST", tasks_path(user), {"title": "Buy milk"}) for user in users]
    return [answer.json for answer in made]


async def read_and_write(client: Client, task: Task, seconds: float) -> list[float]:
    """Read, toggle and create in turn; return how long each took."""
    taken = []
    until = time.monotonic() + seconds
    requests: list[tuple[str, str, Any]] = [
        ("GET", task_path(task), None),
        ("PATCH", f"{task_path(task)}/complete", None),
        ("POST", tasks_path(task["user_id"]), {"title": "Buy rye"}),
    ]
    while time.monotonic() < until:
        for request in requests:
            began = time.monotonic()
            await client.request(*request)
            taken.append(time.monotonic() - began)
    return taken


async def readiness(client: Client, seconds: float) -> list[float]:
    taken = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        began = time.monotonic()
        answer = await client.request("GET", "/health/ready")
        assert answer.is_ok
        taken.append(time.monotonic() - began)
        await asyncio.sleep(0.02)
    return taken


def p99(taken: list[list[float]]) -> float:
    return statistics.quantiles(chain(*taken), n=100)[98]


@pytest.mark.slow
@pytest.mark.parametrize("number", [1, 3, 20])
@pytest.mark.anyio
async def test_rows_of_users_held_for_6_s_fail_no_other_user(
    own: Cluster, tmp_path: Path, report: Report, number: int
) -> None:
    seconds = 6.0
    held_users = [f"held-{n}" for n in range(number)]
    other_users = [f"other-{n}" for n in range(OTHERS)]
    others, held = Figures(), Figures()

    async def toggle(client: Client, task: Task) -> None:
        """Toggle again and again until the transaction by hand ends."""
        while time.monotonic() < until:
            await client.request("PATCH", f"{task_path(task)}/complete")

    with serving(tmp_path / "log", DATABASE_URL=own.url) as server:
        async with (
            clients(server.url, others, OTHERS + 1) as [probe, *opened],
            clients(server.url, held, HELD_CLIENTS * number) as holders,
            connected(own.url) as hand,
        ):
            tasks = await one_task_each(probe, other_users)
            theirs = await one_task_each(probe, held_users)
            await asyncio.gather(*map(read_and_write, opened, tasks, [1.0] * OTHERS))
            alone = await asyncio.gather(*map(read_and_write, opened, tasks, [seconds] * OTHERS))
            transaction = hand.transaction()
            await transaction.start()
            await hand.execute(HOLD, held_users)
            until = time.monotonic() + seconds
            asked = asyncio.gather(*map(toggle, holders, theirs * HELD_CLIENTS))
            ready = asyncio.create_task(readiness(probe, seconds))
            beside = await asyncio.gather(*map(read_and_write, opened, tasks, [seconds] * OTHERS))
            await transaction.rollback()
            await asked
            slowest_ready = max(await ready)
    before, meanwhile = p99(alone), p99(beside)
    others.note = (
        f"of held users {held.answers['200']} answered and {held.answers['503']} refused within "
        f"{held.slowest:.1f} s; others' p99 {meanwhile:.3f} s, {before:.3f} s without; "
        f"readiness {slowest_ready:.3f} s at most"
    )
    report(others)

    assert set(others.answers) == {"200", "201"}
    assert set(held.answers) <= {"200", "503"}
    assert held.slowest < 8.5
    assert meanwhile < 3 * before
    assert slowest_ready < 0.2
