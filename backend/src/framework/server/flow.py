"""How fast a connection reads and writes."""

import asyncio
from collections.abc import Callable, Collection

from uvicorn.protocols.http.flow_control import FlowControl


class Flow(FlowControl):
    """Stops reading while a request waits for the request before it. `sent` counts bytes."""

    taken_at: float

    def __init__(
        self, transport: asyncio.Transport, waiting: Collection[object], parse: Callable[[], None]
    ) -> None:
        super().__init__(transport)
        self.transport = transport
        self.waiting = waiting
        self.parse = parse
        self.sent = 0
        self.taken: int | None = None

    def resume_reading(self) -> None:
        if self.read_paused and not self.waiting:
            self.read_paused = False
            asyncio.get_running_loop().call_soon(self._parse_and_read_on)

    def _parse_and_read_on(self) -> None:
        if not self.read_paused and not self.transport.is_closing():
            self.parse()
            if not self.read_paused:
                self.transport.resume_reading()

    def stands_still(self, now: float, seconds: float) -> bool:
        """Whether the peer has read nothing for `seconds` although data is waiting."""
        waiting = self.transport.get_write_buffer_size()
        taken = self.sent - waiting
        if waiting == 0 or taken != self.taken:
            self.taken, self.taken_at = taken, now
        return now - self.taken_at > seconds
