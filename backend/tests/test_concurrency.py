"""Many at once."""

import asyncio
from pathlib import Path

import httpx
import psutil
import pytest

from tests.serving import Server, serving
from tests.tasks import create, listed, task_path, tasks_path


def many(server: Server, at_once: int) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=at_once)
    return httpx.AsyncClient(base_url=server.url, limits=limits, timeout=60)


@pytest.mark.anyio
async def test_100_toggles_at_once_lose_none(server: Server, api: httpx.Client, user: str) -> None:
    task = create(api, user)

    async with many(server, 100) as client:
        answers = await asyncio.gather(
            *(client.patch(f"{task_path(task)}/complete") for _ in range(100))
        )
        last = await client.patch(f"{task_path(task)}/complete")

    assert {answer.status_code for answer in answers} == {200}
    assert sum(answer.json()["completed"] for answer in answers) == 50
    assert last.json()["completed"] is True


@pytest.mark.anyio
async def test_300_creates_100_at_a_time_are_all_there(
    server: Server, api: httpx.Client, user: str
) -> None:
    async with many(server, 100) as client:
        answers = await asyncio.gather(
            *(client.post(tasks_path(user), json={"title": f"Task {n}"}) for n in range(300))
        )

    created = [answer.json() for answer in answers]
    tasks = listed(api, user)
    assert sorted(tasks, key=lambda task: task["title"]) == sorted(
        created, key=lambda task: task["title"]
    )
    assert tasks == sorted(tasks, key=lambda task: (task["created_at"], task["id"]))


def serving_workers(server: Server) -> int:
    """How many processes hold one of the connections that are open now."""
    return sum(
        any(connection.status == psutil.CONN_ESTABLISHED for connection in open_ones)
        for worker in psutil.Process(server.process.pid).children(recursive=True)
        for open_ones in [worker.net_connections("tcp")]
    )


def test_lists_are_in_creation_order_through_different_workers(
    postgres: str, user: str, tmp_path: Path
) -> None:
    with serving(tmp_path / "log", DATABASE_URL=postgres, WORKERS="2") as server:
        clients = [server.client() for _ in range(16)]
        for client in clients:
            client.get("/health/live")
        assert serving_workers(server) == 2
        created = [create(clients[turn % 16], user, title=f"Task {turn}") for turn in range(400)]

        assert listed(clients[0], user) == created
        for client in clients:
            client.close()
