"""Expired rows are deleted within a day, also those of users who never come back."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from src.framework.sql.exceptions import DatabaseUnavailable
from src.services import expiry_service
from src.services.expiry_service import SWEEP_EVERY, sweep_if_due, sweeping
from tests.conftest import execute
from tests.faults.load import connected
from tests.serving import eventually, serving
from tests.test_by_hand import age
from tests.test_feed import created, now, numbers, since
from tests.test_key_storage import keep

DAY = timedelta(days=1, seconds=1)
KEYS = "SELECT user_id FROM idempotency_keys WHERE user_id <> '' GROUP BY 1 ORDER BY 1"


async def owners_of_keys(url: str) -> list[str]:
    async with connected(url) as driver:
        return [row[0] for row in await driver.fetch(KEYS)]


@pytest.mark.anyio
async def test_the_sweep_deletes_expired_keys_of_all_users_and_no_other_key(
    engine: AsyncEngine, own_database: str
) -> None:
    for number in range(250):
        await keep(own_database, f"user-{number}", 3, DAY)
    await keep(own_database, "busy", 1500, DAY)
    await keep(own_database, "young", 2, timedelta(hours=23))

    await sweep_if_due(engine)

    assert await owners_of_keys(own_database) == ["young"]


@pytest.mark.anyio
async def test_the_sweep_deletes_old_changes_of_absent_users_but_their_last_change(
    engine: AsyncEngine, own_database: str
) -> None:
    for user, total, old in (("gone", 30, 30), ("back", 30, 20), ("young", 5, 0)):
        for _ in range(total):
            await created(engine, user)
        await age(own_database, user, old)
    token = await now(engine, "gone")

    await sweep_if_due(engine)

    async with connected(own_database) as driver:
        assert await numbers(driver, "gone") == [30]
        assert await numbers(driver, "back") == list(range(20, 31))
        assert await numbers(driver, "young") == list(range(1, 6))
    assert await since(engine, "gone", token) == []


@pytest.mark.anyio
async def test_one_of_many_workers_sweeps_twice_a_day(
    engine: AsyncEngine, own_database: str
) -> None:
    await asyncio.gather(*(sweep_if_due(engine) for _ in range(8)))
    await keep(own_database, "late", 1, DAY)
    await sweep_if_due(engine)
    assert await owners_of_keys(own_database) == ["late"]

    await execute(
        own_database,
        f"UPDATE idempotency_keys SET created_at = '{datetime.now(UTC) - SWEEP_EVERY}'"
        " WHERE user_id = ''",
    )
    await sweep_if_due(engine)
    assert await owners_of_keys(own_database) == []


def test_a_service_sweeps_soon_after_its_start(own_database: str, tmp_path: Path) -> None:
    asyncio.run(keep(own_database, "gone", 3, DAY))

    with serving(tmp_path / "log", DATABASE_URL=own_database):
        assert eventually(lambda: asyncio.run(owners_of_keys(own_database)) == [])


@pytest.mark.anyio
async def test_sweeping_goes_on_after_any_error_and_ends_with_the_service(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    errors: list[Exception] = [RuntimeError("odd"), DatabaseUnavailable("away")]
    has_gone_on = asyncio.Event()

    async def sweep(_engine: AsyncEngine) -> None:
        if errors:
            raise errors.pop(0)
        has_gone_on.set()

    monkeypatch.setattr(expiry_service, "FIRST_SECONDS", 0)
    monkeypatch.setattr(expiry_service, "SWEEP_EVERY", timedelta())
    monkeypatch.setattr(expiry_service, "sweep_if_due", sweep)
    before = asyncio.all_tasks()
    async with asyncio.timeout(5), sweeping(engine):
        await has_gone_on.wait()
    await asyncio.sleep(0)

    assert asyncio.all_tasks() == before
    assert caplog.messages == [
        "The service could not delete expired rows, and tries again later",
        "The service could not delete expired rows, and tries again later: away",
    ]
