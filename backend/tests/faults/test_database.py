"""When PostgreSQL ends sessions, stops, crashes, falls silent or is slow."""

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from tests.faults.cluster import Cluster
from tests.faults.conftest import Report, idiomatic
from tests.faults.gate import gate
from tests.faults.load import Client, Figures, Load, answers_again, clients, connected
from tests.pgbouncer import host
from tests.serving import serving
from tests.tasks import task_path, tasks_path

LIKE_IT = 6
"""How many clients send the same request at the same time; they may share a statement."""

END_BACKENDS = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
"""
WAITING = """
SELECT count(*) FROM pg_stat_activity
WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND state <> 'idle'
"""


async def end_sessions_under(load: Load, times: int) -> int:
    """End sessions this many times; return how many sessions ended."""
    ended = 0
    async with load.under_way(), connected(load.database) as admin:
        for _ in range(times):
            await asyncio.sleep(0.25)
            ended += await admin.fetchval(END_BACKENDS)
    return ended


@pytest.mark.anyio
async def test_ended_sessions_fail_no_read_or_create_and_apply_nothing_twice(
    own: Cluster, tmp_path: Path, report: Report, full: bool
) -> None:
    with serving(tmp_path / "log", DATABASE_URL=own.url) as server:
        load = Load(server.url, own.url)
        ended = await end_sessions_under(load, 80 if full else 8)
        figures = await load.audit()
    figures.note = f"{ended} sessions ended"
    report(figures)

    assert ended > 50
    assert set(load.answers["GET"]) == {"200"}
    assert set(load.answers["POST"]) == {"201"}
    assert set(figures.answers) <= {"200", "201", "503"}
    # For most writes it is known that they were not applied. Any other fails all who share it.
    assert figures.answers["503"] <= ended / 20 * LIKE_IT
    assert (figures.lost, figures.twice, load.wrong_reads) == (0, 0, 0)
    assert "Traceback" not in server.log


@pytest.mark.slow
@pytest.mark.anyio
async def test_the_idiomatic_service_fails_requests_when_sessions_end(
    own: Cluster, tmp_path: Path, report: Report
) -> None:
    with idiomatic(own, tmp_path / "log") as server:
        load = Load(server.url, own.url, is_plain=True)
        ended = await end_sessions_under(load, 20)
        figures = await load.audit()
    figures.note = f"for comparison: idiomatic FastAPI, {ended} sessions ended"
    report(figures)

    assert figures.answers["500"] > 0


async def one_of_each(url: str, figures: Figures) -> None:
    """Send ten of each request at once, and check the answers."""

    async def ask(client: Client, user: str) -> None:
        task = (await client.request("POST", tasks_path(user), {"title": "One"})).json
        renamed = await client.request("PUT", task_path(task), {"title": "Two"})
        toggled = await client.request("PATCH", f"{task_path(task)}/complete")
        assert renamed.json["title"] == "Two"
        assert toggled.json["completed"] is True
        assert (await client.request("GET", tasks_path(user))).json == [toggled.json]
        assert (await client.request("DELETE", task_path(task))).is_ok

    async with clients(url, figures, 10) as ten:
        await asyncio.gather(*(ask(client, f"user-{id(client)}") for client in ten))


@pytest.mark.anyio
async def test_ended_idle_sessions_fail_no_request(
    own: Cluster, tmp_path: Path, report: Report, full: bool
) -> None:
    figures = Figures()
    ended = 0
    with serving(tmp_path / "log", DATABASE_URL=own.url) as server:
        async with connected(own.url) as admin:
            for _ in range(50 if full else 5):
                await one_of_each(server.url, figures)
                ended += await admin.fetchval(END_BACKENDS)
        await one_of_each(server.url, figures)
    figures.note = f"{ended} sessions ended"
    report(figures)

    assert ended > 20
    assert set(figures.answers) == {"200", "201"}


@pytest.mark.anyio
async def test_connections_reset_during_a_pause_fail_no_request(
    own: Cluster, tmp_path: Path, report: Report
) -> None:
    """The service wakes up to requests before it has read that its connections are gone."""
    figures = Figures()
    with (
        gate(host(own.url)) as link,
        serving(tmp_path / "log", DATABASE_URL=link.url) as server,
    ):
        async with clients(server.url, figures, 20) as twenty:
            created = [
                await client.request("POST", tasks_path("ada"), {"title": "Buy milk"})
                for client in twenty
            ]
            await one_of_each(server.url, figures)
            before = link.opened
            os.kill(server.process.pid, signal.SIGSTOP)
            link.cut()
            toggles = [
                asyncio.create_task(client.request("PATCH", f"{task_path(answer.json)}/complete"))
                for client, answer in zip(twenty, created, strict=True)
            ]
            await asyncio.sleep(0)
            os.kill(server.process.pid, signal.SIGCONT)
            toggled = await asyncio.gather(*toggles)
    report(figures)

    assert link.opened > before
    assert [answer.status for answer in toggled] == ["200"] * 20
    assert all(answer.json["completed"] for answer in toggled)
    assert set(figures.answers) == {"200", "201"}


@pytest.mark.anyio
async def test_a_stopped_postgresql_gives_503_at_once_and_recovers(
    own: Cluster, tmp_path: Path, report: Report, full: bool
) -> None:
    with serving(tmp_path / "log", DATABASE_URL=own.url) as server:
        load = Load(server.url, own.url)
        async with clients(server.url, Figures(), 1) as [probe], load.under_way():
            await asyncio.sleep(1)
            await asyncio.to_thread(own.stop)
            assert (await probe.request("GET", "/health/ready")).status == "503"
            assert (await probe.request("GET", "/health/live")).status == "200"
            await asyncio.sleep(10 if full else 1)
            await asyncio.to_thread(own.start)
            recovered = await answers_again(server.url, since=time.monotonic())
            await asyncio.sleep(1)
        figures = await load.audit()
    figures.recovered = recovered
    report(figures)

    assert set(figures.answers) == {"200", "201", "503"}
    assert figures.slowest < 5
    assert recovered < 1
    assert (figures.lost, figures.twice, load.wrong_reads) == (0, 0, 0)
    assert "Traceback" not in server.log


@pytest.mark.anyio
async def test_a_crash_of_postgresql_loses_no_acknowledged_write(
    own: Cluster, tmp_path: Path, report: Report, full: bool
) -> None:
    crashes = 8 if full else 1
    recovered = 0.0
    with serving(tmp_path / "log", DATABASE_URL=own.url) as server:
        load = Load(server.url, own.url)
        async with load.under_way():
            for _ in range(crashes):
                await asyncio.sleep(1)
                await asyncio.to_thread(own.kill)
                await asyncio.to_thread(own.start)
                recovered = max(recovered, await answers_again(server.url, since=time.monotonic()))
        figures = await load.audit()
    figures.recovered, figures.note = recovered, f"{crashes} crashes"
    report(figures)

    assert set(figures.answers) == {"200", "201", "503"}
    assert recovered < 1
    assert (figures.lost, figures.twice, load.wrong_reads) == (0, 0, 0)
    assert "Traceback" not in server.log


@pytest.mark.slow
@pytest.mark.anyio
async def test_a_silent_database_gives_503_in_time_and_its_connections_are_dropped(
    own: Cluster, tmp_path: Path, report: Report
) -> None:
    figures = Figures()
    with (
        gate(host(own.url)) as link,
        serving(tmp_path / "log", DATABASE_URL=link.url) as server,
    ):
        await one_of_each(server.url, figures)
        link.fall_silent()
        async with clients(server.url, figures, 30) as thirty:
            silent = await asyncio.gather(
                *(each.request("POST", tasks_path("ada"), {"title": "Lost"}) for each in thirty)
            )
        link.pass_again()
        opened = link.opened
        figures.recovered = await answers_again(server.url, since=time.monotonic())
        await one_of_each(server.url, figures)
    report(figures)

    assert [answer.status for answer in silent] == ["503"] * 30
    assert figures.slowest < 12
    assert link.opened > opened
    assert figures.recovered < 1
    assert "Traceback" not in server.log


@pytest.mark.slow
@pytest.mark.anyio
async def test_a_locked_task_gives_503_in_time_and_leaks_nothing(
    own: Cluster, tmp_path: Path, report: Report
) -> None:
    figures = Figures()
    with serving(tmp_path / "log", DATABASE_URL=own.url) as server:
        async with (
            clients(server.url, figures, 6) as [client, *others],
            connected(own.url) as admin,
        ):
            task = (await client.request("POST", tasks_path("ada"), {"title": "Locked"})).json
            transaction = admin.transaction()
            await transaction.start()
            await admin.execute("SELECT * FROM tasks FOR UPDATE")
            locked = [
                asyncio.create_task(other.request("PUT", task_path(task), {"title": "Waits"}))
                for other in others
            ]
            listed = await client.request("GET", tasks_path("ada"))
            refused = await asyncio.gather(*locked)
            still_waiting = await admin.fetchval(WAITING)
            await transaction.rollback()
            renamed = await client.request("PUT", task_path(task), {"title": "Free again"})
            await one_of_each(server.url, figures)
    report(figures)

    assert listed.json == [task]
    assert [answer.status for answer in refused] == ["503"] * 5
    assert figures.slowest < 12
    assert still_waiting == 0
    assert renamed.json["title"] == "Free again"
    assert "Traceback" not in server.log


@pytest.mark.slow
@pytest.mark.anyio
async def test_a_slow_statement_gives_503_in_time_and_is_cancelled(
    own: Cluster, tmp_path: Path, report: Report
) -> None:
    figures = Figures()
    with serving(tmp_path / "log", DATABASE_URL=own.url) as server:
        async with (
            clients(server.url, figures, 5) as five,
            connected(own.url) as admin,
        ):
            tasks = [
                (await client.request("POST", tasks_path("ada"), {"title": "Slow"})).json
                for client in five
            ]
            await admin.execute(
                "CREATE FUNCTION doze() RETURNS trigger LANGUAGE plpgsql AS"
                " $$ BEGIN PERFORM pg_sleep(60); RETURN NEW; END $$;"
                "CREATE TRIGGER doze BEFORE UPDATE ON tasks FOR EACH ROW EXECUTE FUNCTION doze()"
            )
            slow = await asyncio.gather(
                *(
                    client.request("PATCH", f"{task_path(task)}/complete")
                    for client, task in zip(five, tasks, strict=True)
                )
            )
            still_running = await admin.fetchval(WAITING)
            await admin.execute("DROP TRIGGER doze ON tasks")
            listed = (await five[0].request("GET", tasks_path("ada"))).json
            await one_of_each(server.url, figures)
    report(figures)

    assert [answer.status for answer in slow] == ["503"] * 5
    assert figures.slowest < 12
    assert still_running == 0
    assert listed == tasks
    assert "Traceback" not in server.log
