"""Requests that wait together share a statement.

While few statements of a kind are under way, a request sends its own at once. Beyond that, requests
wait until one of those returns, or for a moment, and go together in one statement. Once many have
gone together, even the first waits for the others of its turn of the event loop. This ends when a
shared statement is for one request only. A request that a shared statement does not answer sends
its own after all: its row is locked, gone, or asked for twice.

If no other is under way, a shared statement takes half of the clients, counting those just
answered. PostgreSQL then works for one half while Python works for the other. If all went together,
one of the two would always be idle.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import NamedTuple, TypeAlias

ALONE = 2
"""How many statements of a kind may be under way before requests wait for each other."""

WAIT_SECONDS = 0.003
"""How long they wait if no statement returns."""

MANY = 4
"""How many requests have to go together for the next ones to wait for each other, too."""

MOST = 64
"""How many requests may share a statement."""

Values: TypeAlias = dict[str, object]
Key: TypeAlias = tuple[object, object]
"""The owner and the id of a row."""


class Turn(NamedTuple):
    key: Key
    values: Values
    answer: asyncio.Future[bytes | None]


@dataclass(slots=True, eq=False)
class Queue:
    """Requests of one kind.

    `alone` answers one. `together` answers many, each by the row that it asked for; it calls for
    their values when it has a connection, so that all who come until then are among them.
    """

    alone: Callable[[Values], Awaitable[bytes | None]]
    together: Callable[[Callable[[], list[Values]]], Awaitable[dict[Key, bytes]]]
    changes: bool
    """Whether an answer is for one request only."""

    under_way: int = 0
    waiting: list[Turn] = field(default_factory=list)
    timer: asyncio.Handle | None = None
    answered: int = 0
    """How many clients of the last shared statement may soon ask again.

    Whoever waits next counts as one of them.
    """

    is_busy: bool = False
    """Whether many have gone together, and each shared statement since was for several."""

    is_calling: bool = False
    """Whether a shared statement waits for its connection."""

    calls: set[asyncio.Task[None]] = field(default_factory=set)

    async def answer(self, values: Values) -> bytes | None:
        if self.is_busy or self.under_way >= ALONE:
            answer = await self._turn(values)
            if answer is not None:
                return answer
        self.under_way += 1
        try:
            return await self.alone(values)
        finally:
            self._return()

    def _turn(self, values: Values) -> asyncio.Future[bytes | None]:
        loop = asyncio.get_running_loop()
        turn = Turn((values["user_id"], values["id"]), values, loop.create_future())
        self.waiting.append(turn)
        self.answered = max(0, self.answered - 1)
        if self.timer is None:
            call, soon = self._call, self.under_way == 0
            self.timer = loop.call_soon(call) if soon else loop.call_later(WAIT_SECONDS, call)
        return turn.answer

    def _return(self) -> None:
        self.under_way -= 1
        self._call()

    def _call(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        if self.waiting and not self.is_calling:
            self.is_calling = True
            self.under_way += 1
            call = asyncio.create_task(self._answer_together())
            self.calls.add(call)
            call.add_done_callback(self.calls.discard)

    async def _answer_together(self) -> None:
        turns: list[Turn] = []
        began = monotonic()

        def asked() -> list[Values]:
            if not turns:  # otherwise its connection broke, and it is sent again
                takes_all = self.under_way > 1 or monotonic() - began > WAIT_SECONDS
                turns.extend(self._take(MOST if takes_all else self._half()))
            first_for_each_row = {turn.key: turn.values for turn in reversed(turns)}
            return [*first_for_each_row.values()]

        try:
            answers = await self.together(asked)
        except Exception as error:
            failed = turns or self._take(len(self.waiting))
            self._return()
            for turn in failed:
                if not turn.answer.done():  # or its client has gone
                    turn.answer.set_exception(error)
            return
        self.answered = len(turns)
        self._return()  # first, so that the next statement is sent before these go on
        for turn in turns:
            answer = answers.pop(turn.key, None) if self.changes else answers.get(turn.key)
            if not turn.answer.done():
                turn.answer.set_result(answer)

    def _half(self) -> int:
        half = (len(self.waiting) + self.answered + 1) // 2
        return min(max(half, MANY), MOST)

    def _take(self, most: int) -> list[Turn]:
        taken, self.waiting = self.waiting[:most], self.waiting[most:]
        self.is_calling = False
        self.is_busy = len(taken) >= (2 if self.is_busy else MANY)
        if len(taken) == MOST:
            self._call()
        elif self.waiting and self.timer is None:
            self.timer = asyncio.get_running_loop().call_later(WAIT_SECONDS, self._call)
        return taken
