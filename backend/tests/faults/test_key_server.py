"""When the key server is slow."""

import asyncio
import signal
import time
from pathlib import Path

import psutil
import pytest

from tests.faults.cluster import Cluster
from tests.faults.conftest import Report
from tests.faults.load import Client, Figures, clients
from tests.serving import serving
from tests.tasks import tasks_path
from tests.tokens import bearer, key_server, signing_key

KNOWN, NEW = signing_key("known"), signing_key("new")


@pytest.mark.slow
@pytest.mark.anyio
async def test_key_servers_that_trickle_leave_nothing_behind(
    own: Cluster, tmp_path: Path, report: Report
) -> None:
    """Key servers send a byte a second for a minute. Tokens of known and new keys arrive."""
    known, new = Figures(), Figures()
    with key_server(KNOWN) as issuer:
        settings = {"AUTH_MODE": "jwt", "AUTH_JWKS_URL": issuer.url, "DATABASE_URL": own.url}
        with serving(tmp_path / "log", **settings) as server:
            process = psutil.Process(server.process.pid)
            before = process.num_threads()
            issuer.publish(KNOWN, NEW)
            issuer.seconds_per_byte = 1
            async with (
                clients(server.url, known, 1) as [old],
                clients(server.url, new, 1) as [late],
            ):
                until = time.monotonic() + 60
                await asyncio.gather(
                    ask(old, KNOWN.token("ada"), until), ask(late, NEW.token("ada"), until)
                )
                threads = process.num_threads() - before
                issuer.seconds_per_byte = 0
                new.recovered = await recovered(late)
            issuer.seconds_per_byte = 1
            began = time.monotonic()
            await asyncio.to_thread(server.stop, signal.SIGINT)
            stopped = time.monotonic() - began
    new.answers += known.answers
    new.note = f"{issuer.fetches} fetches, {threads} threads left, stopped in {stopped:.2f} s"
    report(new)

    assert set(known.answers) == {"200"}
    assert known.slowest < 1
    assert set(new.answers) == {"200", "503"}
    assert new.recovered < 10
    assert threads == 0
    assert stopped < 3
    assert "Traceback" not in server.log


async def ask(client: Client, token: str, until: float) -> None:
    while time.monotonic() < until:
        await client.request("GET", tasks_path("ada"), **bearer(token))
        await asyncio.sleep(0.1)


async def recovered(client: Client) -> float:
    """Return how many seconds it takes until the service accepts tokens of the new key."""
    began = time.monotonic()
    while time.monotonic() < began + 60:
        answer = await client.request("GET", tasks_path("ada"), **bearer(NEW.token("ada")))
        if answer.is_ok:
            break
        await asyncio.sleep(0.1)
    return time.monotonic() - began
