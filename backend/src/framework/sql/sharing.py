"""Requests that wait together share a statement. Few statements wait for rows at once.

| a request | goes | if others hold its rows |
|---|---|---|
| while few statements run | alone, at once | it waits |
| if only requests of its owner wait | with these requests | it waits |
| if requests of several owners wait | with these requests, up to MOST | it is left out |
| that was left out | with other requests of its owner | it waits |
| that cannot share a statement | alone, when its turn comes | it waits |

The writes of an owner are a line. One statement of a line runs at a time: a second statement would
wait for the first in PostgreSQL, or be left out. Statements that may wait take at most half of the
pool. Without room for another such statement, a line waits here, without a connection. All reads of
a kind are a line, too, but reads wait for no rows, and many statements of such a line run at once.

Once MANY requests have shared a statement, each new request waits for the other requests of its
turn of the event loop. New requests stop waiting when a statement is for one request only. If no
other statement runs, a shared statement takes the requests of half of the clients. Clients that
were just answered count, too. PostgreSQL then works for one half while Python works for the other
half. With all requests in one statement, either PostgreSQL or Python would always be idle.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias, TypeVar

from src.framework.sql.exceptions import DatabaseUnavailable, NoConnectionFree, OutcomeUnknown

ALONE = 2
"""How many statements may run before requests wait for each other."""

WAIT_SECONDS = 0.003
"""How long requests wait for each other if no statement returns."""

MANY = 4
"""How many requests must share a statement before the next requests wait for each other."""

MOST = 64
"""How many requests may share a statement."""

HELD_SECONDS = 1.0
"""How long an owner counts as held after others held the owner's rows."""

LOOK_SECONDS = 0.1
"""How often to look for requests that have waited too long."""

T = TypeVar("T")
Values: TypeAlias = dict[str, object]
Key: TypeAlias = tuple[object, object]
"""The owner and the id of a row."""
Send: TypeAlias = Callable[[float], Awaitable[T]]
"""Send the statement of a request that came at this time."""


class Shareable(Protocol):
    """A statement. Statements with the same `shared` can become one."""

    @property
    def shared(self) -> object: ...

    @property
    def repeatable(self) -> bool: ...


@dataclass(slots=True, eq=False)
class Turn:
    """A request that waits. If it `goes_alone`, `answer` is set when the request may be sent."""

    line: "Line"
    statement: Any
    key: Key
    values: Values
    came: float
    answer: asyncio.Future[bytes | None]
    goes_alone: bool

    @property
    def creates(self) -> bool:
        """Whether the request may be sent again, and may be the first of its owner."""
        repeatable: bool = self.statement.repeatable
        return repeatable


@dataclass(slots=True, eq=False)
class Line:
    """The requests of an owner that wait; or all reads of a kind."""

    owner: object
    turns: deque[Turn] = field(default_factory=deque)
    is_placed: bool = False
    """Whether a statement of the line runs, or the line waits for its next statement."""
    left_out: Literal["", "once", "again"] = ""
    """After `once`, the owner may be new. After `again`, someone holds the owner's rows."""
    left_out_at: float = 0


How: TypeAlias = Literal["skip", "add", "wait"]
"""What a statement does about rows that others hold.

It may skip these rows, or skip them and add new owners. A statement for one owner may wait.
"""


class Group(NamedTuple):
    """Requests that share a statement. If `how` is `wait`, several may change the same row."""

    turns: list[Turn]
    how: How


Answers: TypeAlias = dict[Key, list[bytes]]
"""The states of each row: one for each change of the row, or one for all reads."""


@dataclass(slots=True, eq=False)
class Queue:
    """Requests that can share: all reads, or all writes.

    `together` returns the answers of a group, by row, or None if PostgreSQL refuses a value.
    `together` asks for the group when it has a connection, so that all requests until then are in
    the group.
    """

    together: Callable[[Callable[[], Group]], Awaitable[Answers | None]]
    seconds: float
    """How long a request waits until it is refused."""
    room: int | None = None
    """How many more statements may wait for rows; None for reads, which never do."""

    under_way: int = 0
    waiting: int = 0
    lines: dict[object, Line] = field(default_factory=dict)
    ready: deque[Line] = field(default_factory=deque)
    """Lines for the next shared statement."""
    held: deque[Line] = field(default_factory=deque)
    """Lines whose next statement may wait for rows, and has no room yet."""
    timer: asyncio.Handle | None = None
    looks: asyncio.Handle | None = None
    answered: int = 0
    """An estimate of how many clients that were just answered will ask again soon.

    Each new request lowers the estimate by one.
    """

    is_busy: bool = False
    """Whether MANY requests shared a statement, and all later statements had several requests."""

    is_calling: bool = False
    """Whether a shared statement waits for its connection."""

    calls: set[asyncio.Task[None]] = field(default_factory=set)

    async def answer(
        self, statement: Shareable, key: Key, values: Values, send: Send[bytes | None]
    ) -> bytes | None:
        """Answer a request for a row together with others, or alone."""
        owner, came = statement.shared if self.room is None else key[0], monotonic()
        if not self.is_busy and self.under_way < ALONE and self._may_begin(owner):
            line = self._begin(owner)
        else:
            turn = self._wait(owner, statement, key, values, came)
            try:
                answer = await turn.answer
            except asyncio.CancelledError:
                self._give_up(turn)
                raise
            if not turn.goes_alone:
                return answer
            line = turn.line
        try:
            return await send(came)
        finally:
            self._end(line)

    async def alone(self, owner: object, send: Send[T]) -> T:
        """Send a request that cannot share, when no other statement of its owner runs."""
        came = monotonic()
        if self._may_begin(owner):
            line = self._begin(owner)
        else:
            turn = self._wait(owner, None, (owner, object()), {}, came)
            try:
                await turn.answer
            except asyncio.CancelledError:
                self._give_up(turn)
                raise
            line = turn.line
        try:
            return await send(came)
        finally:
            self._end(line)

    def _may_begin(self, owner: object) -> bool:
        line = self.lines.get(owner)
        return self.room != 0 and (line is None or not line.is_placed)

    def _line(self, owner: object) -> Line:
        line = self.lines.get(owner)
        if line is None:
            line = self.lines[owner] = Line(owner)
            if self.looks is None:
                self.looks = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._look)
        return line

    def _wait(
        self, owner: object, statement: Shareable | None, key: Key, values: Values, came: float
    ) -> Turn:
        loop = asyncio.get_running_loop()
        line = self._line(owner)
        turn = Turn(line, statement, key, values, came, loop.create_future(), statement is None)
        line.turns.append(turn)
        self.waiting += 1
        if self.answered:
            self.answered -= 1
        if not line.is_placed:
            self._place(line)
        if self.timer is None and self.ready:
            call, soon = self._call, self.under_way == 0
            self.timer = loop.call_soon(call) if soon else loop.call_later(WAIT_SECONDS, call)
        return turn

    def _give_up(self, turn: Turn) -> None:
        """End a request whose client has gone, if its turn has come."""
        answer = turn.answer
        if turn.goes_alone and not (answer.cancelled() or answer.exception()):
            self._end(turn.line)

    def _place(self, line: Line) -> None:
        """Put a line without a running statement where its next statement is chosen."""
        first = self._first(line)
        line.is_placed = first is not None
        if first is None:
            return
        if first.goes_alone or (line.left_out == "again" and self.room == 0):
            self.held.append(line)
            self._send_held()
        else:
            self.ready.append(line)

    def _first(self, line: Line) -> Turn | None:
        """Return the first request whose client has not gone."""
        while line.turns:
            turn = line.turns[0]
            if not turn.answer.done():
                return turn
            self._pop(line)
        return None

    def _pop(self, line: Line) -> Turn:
        self.waiting -= 1
        return line.turns.popleft()

    def _put_back(self, turn: Turn) -> None:
        turn.line.turns.appendleft(turn)
        self.waiting += 1

    def _begin(self, owner: object) -> Line:
        """Count a statement for one request, which may wait for rows."""
        self.under_way += 1
        line = self._line(owner)
        line.is_placed = self.room is not None
        if self.room is not None:
            self.room -= 1
        return line

    def _end(self, line: Line) -> None:
        self._return([line], waited=True)

    def _return(self, lines: Iterable[Line], *, waited: bool) -> None:
        self.under_way -= 1
        if self.room is not None:
            self.room += waited
            for line in lines:
                if line.turns:
                    self._place(line)
                else:
                    line.is_placed = False
            self._send_held()
        self._call()

    def _hand_over(self, turn: Turn) -> None:
        """Let a request go alone."""
        self._begin(turn.line.owner)
        turn.goes_alone = True
        turn.answer.set_result(None)

    def _send_held(self) -> None:
        while self.held and self.room:
            line = self.held.popleft()
            turn = self._first(line)
            if turn is None:
                self._place(line)
            elif turn.goes_alone:
                self._pop(line)
                self._hand_over(turn)
            else:
                self.ready.append(line)
                self._call()

    def _call(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        if not self.ready or self.is_calling:
            return
        self.is_calling = True
        self.under_way += 1
        call = asyncio.create_task(self._answer_together())
        self.calls.add(call)
        call.add_done_callback(self.calls.discard)

    async def _answer_together(self) -> None:
        group = Group([], "skip")
        began = monotonic()

        def choose() -> Group:
            nonlocal group
            if not group.turns:  # otherwise the connection broke, and the group is sent again
                takes_all = self.under_way > 1 or monotonic() - began > WAIT_SECONDS
                group = self._choose(MOST if takes_all else self._half())
            return group

        outcome: Answers | Exception | None
        try:
            outcome = await self.together(choose)
        except NoConnectionFree as error:
            outcome = error
            self.is_calling = self.is_calling and bool(group.turns)
        except Exception as error:
            outcome = error
            group = group if group.turns else self._choose(self.waiting)
        answers = self._answers(group, outcome)
        self.answered = len(group.turns)
        # First: the next statement is sent before these requests go on.
        self._return(dict.fromkeys(turn.line for turn in group.turns), waited=group.how == "wait")
        for turn, answer in answers:
            if turn.answer.done():  # the client has gone
                continue
            if isinstance(answer, Exception):
                turn.answer.set_exception(answer)
            else:
                turn.answer.set_result(answer)

    def _choose(self, most: int) -> Group:
        """Take requests for a shared statement, and prepare for the next."""
        self.is_calling = False
        turns: list[Turn] = []
        how: How = "skip"
        left_out = False
        if self.room and self.ready and (len(self.ready) == 1 or self.ready[0].left_out == "again"):
            line = self.ready.popleft()
            self._take(line, turns, most, waits=True)
            if turns:
                how = "wait"
                self.room -= 1
            else:
                self._place(line)
        for _ in range(0 if turns else len(self.ready)):
            if len(turns) == most:
                break
            line = self.ready.popleft()
            number = len(turns)
            left_out = left_out or line.left_out != ""
            if line.left_out != "again":
                self._take(line, turns, most, waits=False)
            if number == len(turns) or self.room is None:
                self._place(line)
        if left_out and any(turn.line.left_out and turn.creates for turn in turns):
            how = "add"
        self.is_busy = len(turns) >= (2 if self.is_busy else MANY)
        if len(turns) == MOST:
            self._call()
        elif self.ready and self.timer is None:
            self.timer = asyncio.get_running_loop().call_later(WAIT_SECONDS, self._call)
        return Group(turns, how)

    def _answers(
        self, group: Group, outcome: Answers | Exception | None
    ) -> list[tuple[Turn, bytes | Exception | None]]:
        """Return each request's answer, and put back the requests that have none yet."""
        answers: list[tuple[Turn, bytes | Exception | None]] = []
        left: list[Turn] = []
        reads, waits = self.room is None, group.how == "wait"
        answer: bytes | Exception | None
        for turn in group.turns:
            if isinstance(outcome, dict):
                rows = outcome.get(turn.key)
                answer = None if not rows else rows[0] if reads else rows.pop(0)
                is_left = answer is None and not (reads or waits)
                if is_left:
                    _leave_out(turn, group)
                elif not waits:
                    turn.line.left_out = ""
            elif outcome is None:  # PostgreSQL refused a value of one request
                is_left = turn.goes_alone = True
                answer = None
            else:
                is_left = turn.creates and isinstance(outcome, OutcomeUnknown)
                answer = outcome
            if is_left:
                left.append(turn)
            else:
                answers.append((turn, answer))
        for turn in reversed(left):
            if self.room is not None:
                self._put_back(turn)
            elif not turn.answer.done():
                self._hand_over(turn)
        return answers

    def _half(self) -> int:
        half = (self.waiting + self.answered + 1) // 2
        return min(max(half, MANY), MOST)

    def _take(self, line: Line, taken: list[Turn], most: int, *, waits: bool) -> None:
        """Take the first requests of one kind.

        If a row may change only once, stop before the row's second request.
        """
        turns = line.turns
        keys: set[Key] | None = None
        if self.room is not None and not waits and len(turns) > 1:
            keys = set()
        shared = taken[0].statement.shared if taken else None
        while turns and len(taken) < most:
            turn = turns[0]
            if turn.goes_alone or (shared is not None and turn.statement.shared is not shared):
                return
            if keys is not None:
                if turn.key in keys:
                    return
                keys.add(turn.key)
            self._pop(line)
            if not turn.answer.done():  # otherwise its client has gone
                taken.append(turn)
                shared = turn.statement.shared

    def _look(self) -> None:
        """Refuse requests that waited too long. Forget held owners and lines without requests."""
        now = monotonic()
        before = now - self.seconds
        for line in [*self.lines.values()]:
            while line.turns and line.turns[0].came < before:
                turn = self._pop(line)
                if not turn.answer.done():
                    turn.answer.set_exception(DatabaseUnavailable("no connection in time"))
            if line.left_out_at < now - HELD_SECONDS:
                line.left_out = ""
            if not line.is_placed and not line.left_out:
                del self.lines[line.owner]
        loop = asyncio.get_running_loop()
        self.looks = loop.call_later(LOOK_SECONDS, self._look) if self.lines else None


def _leave_out(turn: Turn, group: Group) -> None:
    line = turn.line
    if not (turn.creates and group.how == "skip"):
        line.left_out = "again"
    elif not line.left_out:
        line.left_out = "once"
    line.left_out_at = monotonic()
