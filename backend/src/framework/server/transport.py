"""A connection's transport. Short writes wait for the end of the turn of the event loop.

A shared statement answers many requests in one turn. When each answer went out at once, a
write took 5 to 14 % more processor time.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

LONG_BYTES = 8 * 1024
"""A write of this many bytes does not wait."""

WAITING_BYTES = 64 * 1024
"""How many bytes of a connection may wait."""

logger = logging.getLogger(__name__)


class Transport:
    """Sends what waits before anything else, and before the connection ends.

    `waiting` has the transports of one event loop that have something to send.
    """

    def __init__(self, transport: asyncio.Transport, waiting: list["Transport"]) -> None:
        self.is_closing = transport.is_closing  # each answer asks, and `__getattr__` is slow
        self._transport = transport
        self._waiting = waiting
        self._unsent = b""

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the transport has
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if len(data) >= LONG_BYTES:
            self.send()
            self._transport.write(data)
            return
        if not self._unsent:
            if not self._waiting:
                asyncio.get_running_loop().call_soon(send_all, self._waiting)
            self._waiting.append(self)
        self._unsent += data
        if len(self._unsent) > WAITING_BYTES:
            self.send()

    def writelines(self, pieces: Sequence[bytes]) -> None:
        self.send()
        self._transport.writelines(pieces)

    def write_eof(self) -> None:
        self.send()
        self._transport.write_eof()

    def close(self) -> None:
        self.send()
        self._transport.close()

    def send(self) -> None:
        """Send what waits."""
        unsent, self._unsent = self._unsent, b""
        if unsent and not self.is_closing():  # the client may have gone in the same turn
            self._transport.write(unsent)


def send_all(waiting: list[Transport]) -> None:
    """Send what waits in these transports, and empty the list.

    A transport that raises an error does not keep the others from sending.
    """
    transports = waiting[:]
    waiting.clear()
    for transport in transports:
        try:
            transport.send()
        except Exception:
            logger.exception("An answer cannot be sent")
