"""A TCP proxy in front of PostgreSQL that counts round trips and can add a delay."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass


@dataclass
class Link:
    """What a proxy saw. A round trip begins each time the client sends after the server."""

    port: int = 0
    round_trips: int = 0


@asynccontextmanager
async def proxy(host: str, port: int, delay: float = 0.0) -> AsyncIterator[Link]:
    """Forward to a host, or to the socket in a folder: `host` may be either.

    Each way, the proxy forwards bytes `delay` seconds late.
    """
    link = Link()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server = await connect(host, port)
        turns = ["server"]

        def asked() -> None:
            link.round_trips += turns[-1] == "server"
            turns[:] = ["client"]

        def answered() -> None:
            turns[:] = ["server"]

        # Either side may break off, and the proxy may end before both sides end.
        with suppress(ConnectionError, asyncio.CancelledError):
            await asyncio.gather(
                _forward(reader, server[1], delay, asked),
                _forward(server[0], writer, delay, answered),
            )

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    link.port = listener.sockets[0].getsockname()[1]
    try:
        yield link
    finally:
        listener.close()


async def connect(host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to a PostgreSQL. `host` may be the folder of PostgreSQL's socket."""
    if host.startswith("/"):
        return await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
    return await asyncio.open_connection(host, port)


async def _forward(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    delay: float,
    seen: Callable[[], None],
) -> None:
    loop = asyncio.get_running_loop()

    def send(chunk: bytes) -> None:
        if not writer.is_closing():
            writer.write(chunk)

    while chunk := await reader.read(65536):
        seen()
        loop.call_later(delay, send, chunk)
    loop.call_later(delay, writer.close)
