"""Streams of server-sent events, read as a client reads them."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx

from src.framework.web.events import EVENT_STREAM
from tests.tasks import tasks_path

SECONDS = 10
"""How many seconds to wait for an event that has to come."""


@dataclass
class Event:
    """The fields of an event. A comment is a field with an empty name."""

    fields: dict[str, str] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return self.fields["id"]

    @property
    def data(self) -> Any:  # noqa: ANN401 - any JSON
        return json.loads(self.fields["data"])


async def lines(response: httpx.Response) -> AsyncIterator[str]:
    """Split at line feeds only. `aiter_lines` would also split at other characters in JSON."""
    text = b""
    async for part in response.aiter_raw():
        *whole, text = (text + part).split(b"\n")
        for line in whole:
            yield line.decode()


class Stream:
    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.lines = lines(response)

    async def next(self) -> Event | None:
        """Wait for the next event, and return it. Return None at the stream's end."""
        async with asyncio.timeout(SECONDS):
            event = Event()
            async for line in self.lines:
                if line == "":
                    return event
                name, _, value = line.partition(":")
                event.fields[name] = value.removeprefix(" ")
        return None

    async def event(self) -> Event:
        """Wait for the next event that has data."""
        while (event := await self.next()) is not None:
            if "data" in event.fields:
                return event
        raise EOFError


@asynccontextmanager
async def streaming(
    api: httpx.AsyncClient,
    user: str,
    since: str | None = None,
    last: str | None = None,
    **headers: str,
) -> AsyncIterator[Stream]:
    headers |= {"Accept": EVENT_STREAM} | ({"Last-Event-ID": last} if last else {})
    parameters = {"since": since} if since else {}
    path = f"{tasks_path(user)}/changes"
    async with api.stream("GET", path, params=parameters, headers=headers) as response:
        yield Stream(response)


class Reader:
    """A client so small that a test can have thousands."""

    def __init__(self, url: str, user: str) -> None:
        self.address = urlsplit(url)
        self.user = user
        self.token = ""
        self.heard: list[str] = []
        self.is_open = asyncio.Event()
        self.has_heard = asyncio.Event()
        self.ended_at = 0.0

    async def read(self) -> None:
        """Read a stream to its end. Begin where the client's last stream ended."""
        reader, writer = await asyncio.open_connection(
            self.address.hostname, self.address.port, limit=2**20
        )
        last = f"Last-Event-ID: {self.token}\r\n" if self.token else ""
        path = f"{tasks_path(self.user)}/changes"
        head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: {EVENT_STREAM}\r\n{last}"
        writer.write(f"{head}\r\n".encode())
        try:
            async for line in reader:
                if line.startswith(b"id: "):
                    self.token = line[4:-1].decode()
                    self.is_open.set()
                elif line.startswith(b"data: "):
                    self.heard.append(line.decode())
                    self.has_heard.set()
                elif line == b"0\r\n":
                    break
        finally:
            self.ended_at = time.monotonic()
            self.is_open.clear()
            writer.close()
