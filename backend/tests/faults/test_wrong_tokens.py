"""When somebody tries tokens that do not exist."""

import asyncio
import statistics
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import psutil
import pytest

from src.framework.sql.engine import create_engine
from src.schemas.personal_token import PersonalTokenCreate
from src.services.personal_token_service import create_token
from src.services.token_text import new_token_text
from tests.faults.cluster import Cluster
from tests.faults.conftest import Report
from tests.faults.load import Client, Figures, clients, connected
from tests.faults.test_share import TWENTY_OF_OTHERS
from tests.serving import serving
from tests.tasks import tasks_path
from tests.tokens import bearer

SECONDS = 15.0
A_SECOND = 1000
TRYING = 20
MIB = 1024 * 1024


@pytest.mark.slow
@pytest.mark.anyio
async def test_a_thousand_wrong_tokens_a_second_slow_no_other_request(
    own: Cluster, tmp_path: Path, report: Report
) -> None:
    """The tokens have the right checksum. Half of them come with the path of the user who works."""
    settings = {"AUTH_MODE": "personal", "DATABASE_URL": own.url}
    with serving(tmp_path / "log", **settings) as server:
        async with connected(own.url) as admin:
            await admin.execute(TWENTY_OF_OTHERS)
        engine = create_engine(own.url, pool_size=1)
        _, text = await create_token(engine, "other", PersonalTokenCreate(name="cron"))
        await engine.dispose()
        process = psutil.Process(server.process.pid)
        await working(server.url, text, 2)
        calm, alone = await working(server.url, text, SECONDS)
        nothing, beside_nothing = await beside(server.url, text, lambda: "")
        before = process.memory_info().rss
        tried, beside_tokens = await beside(server.url, text, new_token_text)
        grown = (process.memory_info().rss - before) / MIB
    medians = [1000 * statistics.median(each) for each in (alone, beside_nothing, beside_tokens)]
    tried.note = (
        f"{tried.answers['401'] / SECONDS:,.0f} wrong tokens a second; others' median "
        f"{medians[2]:.1f} ms, {medians[1]:.1f} ms beside as many requests without a token, "
        f"{medians[0]:.1f} ms alone; {grown:.1f} MiB of memory"
    )
    report(tried)

    assert set(calm.answers) == {"200"}
    assert set(nothing.answers) == set(tried.answers) == {"200", "401"}
    assert tried.answers["200"] == len(beside_tokens)
    assert tried.slowest < 1
    assert grown < 30
    assert "Traceback" not in server.log


async def beside(url: str, token: str, wrong: Callable[[], str]) -> tuple[Figures, list[float]]:
    """Work while others send wrong tokens; return all answers, and how long the work took."""
    tried, until = Figures(), time.monotonic() + SECONDS
    async with clients(url, tried, TRYING) as strangers:
        users = (f"user-{number}" if number % 2 else "other" for number in count())
        trying = [asyncio.create_task(send(each, users, wrong, until)) for each in strangers]
        figures, taken = await working(url, token, SECONDS)
        await asyncio.gather(*trying)
    figures.answers += tried.answers
    return figures, taken


async def working(url: str, token: str, seconds: float) -> tuple[Figures, list[float]]:
    """List tasks with four clients; return the answers and how long each took."""
    figures, taken, until = Figures(), list[float](), time.monotonic() + seconds

    async def ask(client: Client) -> None:
        while time.monotonic() < until:
            began = time.monotonic()
            await client.request("GET", tasks_path("other"), **bearer(token))
            taken.append(time.monotonic() - began)
            await asyncio.sleep(0.005)

    async with clients(url, figures, 4) as others:
        await asyncio.gather(*map(ask, others))
    return figures, taken


async def send(
    client: Client, users: Iterator[str], wrong: Callable[[], str], until: float
) -> None:
    """Send a new wrong token whenever one is due; all clients together send A_SECOND."""
    due = time.monotonic()
    while due < until:
        due += TRYING / A_SECOND
        await client.request("GET", tasks_path(next(users)), **bearer(wrong()))
        await asyncio.sleep(due - time.monotonic())
