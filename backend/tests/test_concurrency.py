"""Concurrent requests."""

import asyncio
from contextlib import ExitStack
from itertools import cycle
from pathlib import Path

import httpx
import psutil
import pytest

from tests.serving import NO_TLS, Server, eventually, serving
from tests.tasks import (
    create,
    listed,
    task_after,
    task_path,
    tasks_path,
)


def many(server: Server, at_once: int) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=at_once)
    return httpx.AsyncClient(
        base_url=server.url, limits=limits, timeout=60, auth=server.auth, verify=NO_TLS
    )


@pytest.mark.anyio
async def test_100_concurrent_toggles_lose_none(
    server: Server, api: httpx.Client, user: str
) -> None:
    task = create(api, user)

    async with many(server, 50) as client:
        answers = await asyncio.gather(
            *(client.patch(f"{task_path(task)}/complete") for _ in range(100))
        )
        last = await client.patch(f"{task_path(task)}/complete")

    assert {answer.status_code for answer in answers} == {200}
    assert sum(answer.json()["completed"] for answer in answers) == 50
    assert last.json()["completed"] is True


@pytest.mark.anyio
async def test_150_creates_50_at_a_time_are_all_kept(
    server: Server, api: httpx.Client, user: str
) -> None:
    async with many(server, 100) as client:
        answers = await asyncio.gather(
            *(client.post(tasks_path(user), json={"title": f"Task {n}"}) for n in range(150))
        )

    created = [answer.json() for answer in answers]
    tasks = listed(api, user)
    assert sorted(tasks, key=lambda task: task["title"]) == sorted(
        created, key=lambda task: task["title"]
    )
    assert tasks == sorted(tasks, key=lambda task: (task["created_at"], task["id"]))


def serving_workers(server: Server) -> int:
    """Count the processes that hold one of the currently open connections."""
    return sum(
        any(connection.status == psutil.CONN_ESTABLISHED for connection in open_ones)
        for worker in psutil.Process(server.process.pid).children(recursive=True)
        for open_ones in [worker.net_connections("tcp")]
    )


def test_lists_are_in_creation_order_through_different_workers(
    postgres: str, user: str, tmp_path: Path
) -> None:
    with serving(tmp_path / "log", DATABASE_URL=postgres, WORKERS="2") as server:
        clients: list[httpx.Client] = []

        def both_are_connected() -> bool:
            clients.append(server.client())
            clients[-1].get("/health/live")
            return serving_workers(server) == 2

        assert eventually(both_are_connected)
        created = [
            create(client, user, title=f"Task {turn}")
            for turn, client in zip(range(100), cycle(clients), strict=False)
        ]

        assert listed(clients[0], user) == created
        for client in clients:
            client.close()


def test_three_servers_on_one_database_agree(own_database: str, tmp_path: Path) -> None:
    """Each request goes to the next server, as behind a load balancer."""
    with ExitStack() as stack:
        apis = [
            stack.enter_context(
                stack.enter_context(
                    serving(tmp_path / f"log{number}", DATABASE_URL=own_database)
                ).client()
            )
            for number in range(3)
        ]
        turn = cycle(apis)
        expected = []
        for number in range(100):
            task = create(next(turn), "ada", title=f"Task {number}")
            assert next(turn).get(task_path(task)).json() == task
            renamed = next(turn).put(task_path(task), json={"title": f"Renamed {number}"}).json()
            assert renamed["title"] == f"Renamed {number}"
            toggled = next(turn).patch(f"{task_path(task)}/complete").json()
            assert toggled == task_after(renamed, {"completed": True}, toggled)
            expected.append(toggled)
        for task in expected[::3]:
            assert next(turn).delete(task_path(task)).status_code == 200
            assert next(turn).get(task_path(task)).status_code == 404
            assert next(turn).delete(task_path(task)).status_code == 404
        expected = [task for task in expected if task not in expected[::3]]
        assert [listed(api, "ada") for api in apis] == [expected] * 3
