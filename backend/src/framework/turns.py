"""Turns for work that few can do at once: no key waits for all turns of another key."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from time import perf_counter


class Turns:
    """At most `most` turns at once. Each waiting key has one turn before any key has two."""

    def __init__(self, most: int) -> None:
        self.free = most
        self.waiting: dict[Hashable, deque[asyncio.Future[None]]] = {}

    @asynccontextmanager
    async def turn(self, key: Hashable) -> AsyncIterator[None]:
        if self.free:
            self.free -= 1
        else:
            await self._wait(key)
        try:
            yield
        finally:
            self._give_back()

    async def work(self, key: Hashable, rest: float) -> None:
        """Wait for a turn that lasts until the caller waits for something else.

        The next turn begins after `rest` times the time that this turn took.
        """
        if self.free:
            self.free -= 1
        else:
            await self._wait(key)
        loop = asyncio.get_running_loop()
        began = perf_counter()

        def end() -> None:
            loop.call_later(rest * (perf_counter() - began), self._give_back)

        loop.call_soon(end)

    async def _wait(self, key: Hashable) -> None:
        turn = asyncio.get_running_loop().create_future()
        self.waiting.setdefault(key, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # its turn came too late
                self._give_back()
            raise

    def _give_back(self) -> None:
        while self.waiting:
            key, queue = next(iter(self.waiting.items()))
            del self.waiting[key]
            turn = queue.popleft()
            if queue:
                self.waiting[key] = queue  # behind all other keys
            if not turn.done():
                turn.set_result(None)
                return
        self.free += 1
