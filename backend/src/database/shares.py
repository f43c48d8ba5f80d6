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

    def take(self, key: Hashable) -> bool:
        """Take one, unless all of the key's are taken; wait for a `turn` then."""
        taken = self.taken.get(key, 0)
        if taken == self.most:
            return False
        self.taken[key] = taken + 1
        return True

    async def turn(self, key: Hashable) -> None:
        """Wait until one is given back, and take that.

        Raises DatabaseUnavailable when there is none in time.
        """
        loop = asyncio.get_running_loop()
        turn = loop.create_future()
        self.waiting.setdefault(key, deque()).append(turn)
        timer = loop.call_later(self.seconds, _refuse, turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not (turn.cancelled() or turn.exception()):  # it came too late
                self.give_back(key)
            raise
        finally:
            timer.cancel()

    def give_back(self, key: Hashable) -> None:
        """Give it to who waits longest; who comes only now cannot be faster."""
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
        turn.set_exception(DatabaseUnavailable("the share of the connections is taken"))
