"""Fair shares of the pool: a limit on the connections that each key holds at once."""

import asyncio
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field

from src.framework.sql.exceptions import DatabaseUnavailable


@dataclass(slots=True)
class Shares:
    """At most `most` connections for each key; more requests wait, up to `seconds`."""

    most: int
    seconds: float
    taken: dict[Hashable, int] = field(default_factory=dict)
    waiting: dict[Hashable, deque[asyncio.Future[None]]] = field(default_factory=dict)

    def take(self, key: Hashable) -> bool:
        """Take a connection if the key has one left. Otherwise, the caller waits for a `turn`."""
        taken = self.taken.get(key, 0)
        if taken == self.most:
            return False
        self.taken[key] = taken + 1
        return True

    async def turn(self, key: Hashable) -> None:
        """Wait until a connection is given back, and take it.

        Raises DatabaseUnavailable after `seconds`.
        """
        loop = asyncio.get_running_loop()
        turn = loop.create_future()
        self.waiting.setdefault(key, deque()).append(turn)
        timer = loop.call_later(self.seconds, _refuse, turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not (turn.cancelled() or turn.exception()):  # its turn came too late
                self.give_back(key)
            raise
        finally:
            timer.cancel()

    def give_back(self, key: Hashable) -> None:
        """Hand the connection to the request that has waited longest, before any new one."""
        queue = self.waiting.get(key)
        while queue:
            turn = queue.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        taken = self.taken[key] - 1
        if taken:
            self.taken[key] = taken
        else:
            del self.taken[key]
            self.waiting.pop(key, None)


def _refuse(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_exception(DatabaseUnavailable("one user's share of the connections is in use"))
