"""Measure the feed of changes, by requests and as streams. No peer has a feed."""

import asyncio
import statistics
import time
from contextlib import suppress

import httpx

from benchmarks import peers
from tests.streams import Reader

STREAMS = 1000
WRITES = 20


def asked_for(url: str, times: int = 100) -> dict[str, float]:
    """Return the median time in ms of each kind of request of one client."""
    path = "/api/feed/tasks"
    with peers.running(peers.ours(), url) as server, httpx.Client(base_url=server.url) as client:
        before = client.get(f"{path}/changes").json()["next"]
        for number in range(100):
            client.post(path, json={"title": f"Task {number}"}).raise_for_status()
        now = client.get(f"{path}/changes").json()["next"]
        asked = {
            "list of 100": f"{path}?limit=100",
            "100 changes": f"{path}/changes?since={before}",
            "nothing new": f"{path}/changes?since={now}",
        }
        taken: dict[str, list[float]] = {name: [] for name in asked}
        for _ in range(times):
            for name, request in asked.items():
                began = time.perf_counter()
                client.get(request).raise_for_status()
                taken[name].append(time.perf_counter() - began)
    return {name: statistics.median(each) * 1000 for name, each in taken.items()}


async def _streams(server: peers.Running, seconds: int) -> dict[str, str]:
    before = server.memory()
    readers = [Reader(server.url, f"stream-{number}") for number in range(STREAMS)]
    reading = [asyncio.create_task(reader.read()) for reader in readers]
    began = time.monotonic()
    await asyncio.gather(*(reader.is_open.wait() for reader in readers))
    opened = time.monotonic() - began
    megabytes = server.memory() - before
    spent = server.processor_time()
    await asyncio.sleep(seconds)
    silent = (server.processor_time() - spent) / seconds
    delays = []
    async with httpx.AsyncClient(base_url=server.url) as client:
        for reader in readers[:WRITES]:
            reader.has_heard.clear()
            began = time.monotonic()
            answer = await client.post(f"/api/{reader.user}/tasks", json={"title": "Buy milk"})
            answer.raise_for_status()
            await reader.has_heard.wait()
            delays.append(time.monotonic() - began)
    for task in reading:
        task.cancel()
    with suppress(asyncio.CancelledError):
        await asyncio.gather(*reading)
    return {
        f"{STREAMS:,} streams are open after": f"{opened:.1f} s",
        "memory for each": f"{megabytes * 1e6 / 1024 / STREAMS:.0f} KiB",
        "processor time for all while nothing changes": f"{silent * 1000:.0f} ms a second",
        "from sending a write to its event": f"{statistics.median(delays) * 1000:.0f} ms, "
        f"{max(delays) * 1000:.0f} at most",
    }


def streamed(url: str, seconds: int) -> dict[str, str]:
    """Keep streams open, for this many seconds without a change, and then with some changes."""
    with peers.running(peers.ours(), url) as server:
        return asyncio.run(_streams(server, seconds))
