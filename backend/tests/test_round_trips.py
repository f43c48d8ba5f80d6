"""Exactly one network round trip for a warm request, direct and through a pooler."""

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

import httpx

from benchmarks.proxy import Link, proxy
from src.framework.sql.etag import etag
from tests.pgbouncer import host, port
from tests.serving import serving, with_limits
from tests.tasks import Task, create, task_path, tasks_path, unknown_path

NO_SWEEP = with_limits(expiry_FIRST_SECONDS=3600)
"""The command of a service whose first sweep comes late: otherwise it could come among requests."""


@contextmanager
def counted(postgres: str) -> Iterator[Link]:
    """Run the counting proxy beside the test."""
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever)
    thread.start()

    stack = AsyncExitStack()
    entering = stack.enter_async_context(proxy(host(postgres), port(postgres)))
    link = asyncio.run_coroutine_threadsafe(entering, loop).result()
    try:
        yield link
    finally:
        asyncio.run_coroutine_threadsafe(stack.aclose(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


def warm_requests(api: httpx.Client) -> Iterator[Callable[[], httpx.Response]]:
    """Yield requests to every endpoint, in each variant, with their statements prepared."""
    for warm in (False, True):
        task, other, third, fourth = [create(api, "ada") for _ in range(4)]
        since = api.get(f"{tasks_path('ada')}/changes").json()["next"]
        patch = partial(api.patch, task_path(task), json={"title": "Buy rye bread"})
        key = {"Idempotency-Key": task["id"]}
        batch = partial(api.post, f"{tasks_path('ada')}/batch")
        content = {
            "operations": [
                {"op": "create", "task": {"title": "Buy flour"}},
                {"op": "update", "id": task["id"], "task": {"completed": False}},
                {"op": "delete", "id": fourth["id"]},
            ]
        }
        in_batch = {"Idempotency-Key": fourth["id"]}
        requests = [
            partial(api.get, tasks_path("ada")),
            partial(api.post, tasks_path("ada"), json={"title": "Buy bread"}),
            partial(api.get, task_path(task)),
            partial(api.put, task_path(task), json={"title": "Buy bread"}),
            partial(api.put, task_path(task), json={"description": None, "completed": True}),
            partial(api.put, task_path(task), json={}),
            partial(api.post, tasks_path("ada"), json={"title": "Buy bread", "own": {"a": 1}}),
            partial(api.put, task_path(task), json={"own": {"a": 1}}),
            partial(api.patch, task_path(task), json={"own": {"b": {"c": 1}, "a": None}}),
            partial(api.patch, f"{task_path(task)}/complete"),
            partial(api.delete, task_path(other)),
            partial(api.get, unknown_path("ada")),
            partial(api.get, "/health/ready"),
            patch,
            partial(patch, headers={"If-Match": '"another"'}),
            partial(api.patch, f"{task_path(task)}/complete", json={"completed": True}),
            partial(api.patch, f"{task_path(task)}/complete", headers={"If-Match": '"another"'}),
            partial(api.put, task_path(task), json={}, headers={"If-Match": '"another"'}),
            partial(api.delete, task_path(third), headers={"If-Match": '"another"'}),
            partial(api.delete, task_path(third), headers={"If-Match": etag_of(third)}),
            partial(api.get, task_path(task), headers={"If-None-Match": "*"}),
            partial(api.get, task_path(task), headers={"If-Match": '"another"'}),
            partial(patch, headers={"If-None-Match": '"another"'}),
            partial(patch, headers={"If-None-Match": "*"}),
            partial(patch, headers={"If-None-Match": '"another"', "If-Match": etag_of(task)}),
            partial(api.delete, task_path(third), headers={"If-None-Match": "*"}),
            partial(api.get, f"{tasks_path('ada')}?limit=1"),
            partial(api.get, f"{tasks_path('ada')}?completed=true&q=milk&sort=-title&limit=1000"),
            partial(api.get, f"{tasks_path('ada')}/changes"),
            partial(api.get, f"{tasks_path('ada')}/changes?since={since}"),
            partial(api.post, tasks_path("ada"), json={"title": "Buy eggs"}, headers=key),
            partial(api.post, tasks_path("ada"), json={"title": "Buy eggs"}, headers=key),
            partial(api.post, tasks_path("ada"), json={"title": "Buy rice"}, headers=key),
            partial(batch, json=content, headers=in_batch),
            partial(batch, json=content, headers=in_batch),
            partial(batch, json={"operations": content["operations"][:1] * 100}),
            partial(batch, json=content),
        ]
        for request in requests:
            if warm:
                yield request
            else:
                request()


def etag_of(task: Task) -> str:
    return f'"{etag(json.dumps(task, separators=(",", ":")).encode())}"'


def round_trips(postgres: str, log: Path) -> list[int]:
    """Count the round trips of every request, with one connection to PostgreSQL."""
    with counted(postgres) as link:
        database = urlsplit(postgres).path
        url = f"postgresql://postgres@127.0.0.1:{link.port}{database}?sslmode=disable"
        with (
            serving(log, NO_SWEEP, DATABASE_URL=url, DATABASE_POOL_SIZE="1") as server,
            server.client() as api,
        ):
            counts = []
            for request in warm_requests(api):
                before = link.round_trips
                assert request().status_code < 500
                counts.append(link.round_trips - before)
            return counts


def test_a_warm_request_is_one_round_trip(direct: str, tmp_path: Path) -> None:
    assert round_trips(direct, tmp_path / "log") == [1] * 37


def test_a_warm_request_is_one_round_trip_through_a_pooler(pooler: str, tmp_path: Path) -> None:
    assert round_trips(pooler, tmp_path / "log") == [1] * 37
