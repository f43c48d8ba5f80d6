"""Two releases side by side on one database, as during a rolling deploy."""

import asyncio
import io
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import httpx
import pytest

from tests.conftest import database
from tests.faults.load import Load
from tests.serving import BACKEND, Server, serving
from tests.tasks import assert_problem, create, listed, task_path, tasks_path

RELEASE_BEFORE = "601f712"
"""The last commit whose tables are those of revision 0007."""

WITHOUT_FIELDS = "192909e"
"""A release that knows no priority, no due date and no tags: its tables are of revision 0003."""


@pytest.fixture(scope="module", params=[RELEASE_BEFORE, WITHOUT_FIELDS])
def earlier(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source of an earlier release, from the history of this repository."""
    command = ["git", "archive", request.param, "src"]
    archive = subprocess.run(command, cwd=BACKEND, capture_output=True, check=False)
    if archive.returncode:
        pytest.skip(f"needs the commit {request.param}: git fetch --unshallow")
    folder = tmp_path_factory.mktemp(request.param)
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(folder, filter="data")
    return folder


Pairs: TypeAlias = list[tuple[httpx.Client, httpx.Client]]


class Releases(NamedTuple):
    database: str
    before: Server
    now: Server


@pytest.fixture(scope="module")
def releases(
    earlier: Path, postgres: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Releases]:
    """An earlier release, and this release, which upgrades the tables while the other serves."""
    command = ["bash", "-c", f"cd {earlier} && exec {sys.executable} -m src"]
    logs = tmp_path_factory.mktemp("logs")
    with (
        database(postgres) as url,
        serving(logs / "before", command, DATABASE_URL=url) as before,
        serving(logs / "now", DATABASE_URL=url) as now,
    ):
        yield Releases(url, before, now)
    assert "Traceback" not in before.log + now.log


@pytest.fixture
def apis(releases: Releases) -> Iterator[Pairs]:
    """The earlier release and this release, in either order."""
    with releases.before.client() as before, releases.now.client() as now:
        yield [(before, now), (now, before)]


only = partial(pytest.mark.parametrize, "earlier", indirect=True)


@pytest.mark.anyio
async def test_two_releases_lose_nothing_and_fail_no_request(releases: Releases) -> None:
    load = Load(releases.before.url, releases.database)
    async with load.under_way(7), asyncio.TaskGroup() as group:
        await asyncio.sleep(0)  # the first seven clients now send to the earlier release
        load.url = releases.now.url
        for work in (load._create, load._toggle, load._update_if_unchanged, load._create_once):
            group.create_task(work(next(load.users)))
        await asyncio.sleep(1)
        load.running = False
    figures = await load.audit()

    assert (figures.lost, figures.twice, load.wrong_reads) == (0, 0, 0)
    assert set(figures.answers) == {"200", "201"}


def test_releases_with_the_same_json_share_etags_and_other_releases_answer_412(
    apis: Pairs, user: str
) -> None:
    for one, other in apis:
        task = create(one, user)
        read, same = (api.get(task_path(task)) for api in (one, other))
        change: dict[str, Any] = {
            "json": {"title": "Buy bread"},
            "headers": {"If-Match": read.headers["etag"]},
        }
        across = other.patch(task_path(task), **change)
        expected = 200 if read.content == same.content else 412

        assert across.status_code == expected
        assert one.get(task_path(task)).json()["title"] == (
            "Buy bread" if expected == 200 else "Buy milk"
        )


def test_both_releases_know_a_key_of_a_create(apis: Pairs, user: str) -> None:
    for number, (one, other) in enumerate(apis):
        sent: dict[str, Any] = {
            "json": {"title": "Buy milk"},
            "headers": {"Idempotency-Key": f"key-{number}"},
        }
        first, second = one.post(tasks_path(user), **sent), other.post(tasks_path(user), **sent)

        assert (first.status_code, second.status_code) == (201, 201)
        assert second.json()["id"] == first.json()["id"]


@only([WITHOUT_FIELDS])
def test_a_repeated_create_with_a_field_that_one_release_does_not_know_is_422(
    apis: Pairs, user: str
) -> None:
    for number, (one, other) in enumerate(apis):
        task = {"title": "Buy milk", "priority": "high"}
        sent: dict[str, Any] = {"json": task, "headers": {"Idempotency-Key": f"key-{number}"}}

        assert one.post(tasks_path(user), **sent).status_code == 201
        assert_problem(other.post(tasks_path(user), **sent), 422)


@only([WITHOUT_FIELDS])
def test_a_change_at_the_release_before_keeps_the_fields_of_the_newer_release(
    apis: Pairs, user: str
) -> None:
    [(before, now), _] = apis
    task = create(now, user, priority="high", tags=["home"])
    before.put(task_path(task), json={"title": "Buy bread"})
    [changed] = listed(now, user)

    assert [changed[name] for name in ("title", "priority", "tags")] == [
        "Buy bread",
        "high",
        ["home"],
    ]


def test_further_members_of_a_task_outlive_changes_by_the_release_before(
    apis: Pairs, user: str
) -> None:
    [(before, now), _] = apis
    kept = {"recurrence": {"every": "week"}, "x": [1]}
    task = create(now, user, **kept)
    changed = before.put(task_path(task), json={"title": "Buy bread", "recurrence": "lost"})
    before.patch(f"{task_path(task)}/complete")
    [now_is] = listed(now, user)

    assert (changed.status_code, changed.json().keys() & kept.keys()) == (200, set())
    assert now_is == task | kept | {
        "title": "Buy bread",
        "completed": True,
        "completed_at": now_is["updated_at"],
        "updated_at": now_is["updated_at"],
    }
    assert create(before, user, **kept).keys() & kept.keys() == set()


@only([RELEASE_BEFORE])
def test_only_the_newer_release_knows_a_key_of_a_batch(apis: Pairs, user: str) -> None:
    [(before, now), _] = apis
    sent: dict[str, Any] = {
        "json": {"operations": [{"op": "create", "task": {"title": "Buy milk"}}]}
    }

    def repeated(one: httpx.Client, other: httpx.Client, key: str) -> list[int]:
        headers = {"Idempotency-Key": key}
        path = f"{tasks_path(user)}/batch"
        return [api.post(path, **sent, headers=headers).status_code for api in (one, other)]

    assert repeated(before, now, "key-1") == [200, 200]
    assert repeated(now, before, "key-2") == [200, 422]
    assert len(listed(now, user)) == 2
