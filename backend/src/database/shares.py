"""Fair shares of the pool: no key has more than so many of its connections at once."""

import asyncio
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field

from src.database.exceptions import DatabaseUnavailable


@dataclass(slots=True)
class Shares:
    """How many each key has taken, `most` at most, and who waits for one, up to `seconds`."""

    most: int
    seconds: float
    taken: dict[Hashable, int] = field(default_factory=dict)
    waiting: dict[Hashable, deque[asyncio.Future[None]]] = field(default_factory=dict)

    def of(self, key: Hashable) -> "Share":
        return Share(self, key)


@dataclass(slots=True)
class Share:
    """Keeps one for as long as its block takes.

    Raises DatabaseUnavailable when there is none in time.
    """

    shares: Shares
    key: Hashable

    async def __aenter__(self) -> None:
        taken = self.shares.taken.get(self.key, 0)
        if taken < self.shares.most:
            self.shares.taken[self.key] = taken + 1
        else:
            await self._wait()

    async def __aexit__(self, *_: object) -> None:
        self._pass_on()

    async def _wait(self) -> None:
        loop = asyncio.get_running_loop()
        turn = loop.create_future()
        self.shares.waiting.setdefault(self.key, deque()).append(turn)
        timer = loop.call_later(self.shares.seconds, _refuse, turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not (turn.cancelled() or turn.exception()):  # it came too late
                self._pass_on()
            raise
        finally:
            timer.cancel()

    def _pass_on(self) -> None:
        """Give it to who waits longest; who comes only now cannot be faster."""
        queue = self.shares.waiting.get(self.key)
        while queue:
            turn = queue.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        taken = self.shares.taken
        taken[self.key] -= 1
        if not taken[self.key]:
            del taken[self.key]
            self.shares.waiting.pop(self.key, None)


def _refuse(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_exception(DatabaseUnavailable("the share of the connections is taken"))
