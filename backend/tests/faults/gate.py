"""A TCP proxy in front of a server: the proxy can fall silent or cut every connection."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field

from anyio.from_thread import BlockingPortal, start_blocking_portal


@dataclass
class Gate:
    portal: BlockingPortal
    port: int = 0
    opened: int = 0
    writers: set[asyncio.StreamWriter] = field(default_factory=set)
    passing: asyncio.Event = field(default_factory=asyncio.Event)

    def fall_silent(self) -> None:
        """Accept connections and data, and answer nothing."""
        self.portal.call(self.passing.clear)

    def pass_again(self) -> None:
        """Serve new connections; earlier connections are lost."""
        self.cut()
        self.portal.call(self.passing.set)

    def cut(self) -> None:
        """Reset every connection without a farewell, as a firewall does."""
        self.portal.call(self._cut)

    @property
    def url(self) -> str:
        """The connection string through this gate, if PostgreSQL is behind the gate."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres?sslmode=disable"

    async def _cut(self) -> None:
        for writer in self.writers:
            writer.transport.abort()
        self.writers.clear()
        await asyncio.sleep(0)  # in which the transports close


@contextmanager
def gate(behind: str | int) -> Iterator[Gate]:
    """Listen in front of the PostgreSQL whose socket is in this folder, or of another port."""
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(_gate(behind, portal)) as opened,
    ):
        yield opened


@asynccontextmanager
async def _gate(behind: str | int, portal: BlockingPortal) -> AsyncIterator[Gate]:
    opened = Gate(portal)
    opened.passing.set()

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while chunk := await reader.read(65536):
                await opened.passing.wait()
                writer.write(chunk)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        opened.opened += 1
        opened.writers.add(writer)
        await opened.passing.wait()
        if writer.is_closing():
            return
        if isinstance(behind, int):
            server = await asyncio.open_connection("127.0.0.1", behind)
        else:
            server = await asyncio.open_unix_connection(f"{behind}/.s.PGSQL.5432")
        await asyncio.gather(forward(reader, server[1]), forward(server[0], writer))
        opened.writers.discard(writer)

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    opened.port = listener.sockets[0].getsockname()[1]
    try:
        yield opened
    finally:
        listener.close()
        opened.passing.set()
        await opened._cut()
