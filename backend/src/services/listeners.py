"""Changes as they happen.

Every half second, one query asks which users with listeners have changes. The worker reads only the
feeds of these users. Each listener reads on from its position, whether it connects, reconnects, is
slow, or waited while the database was away. So no listener misses a change.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeAlias

from sqlalchemy.ext.asyncio import AsyncEngine

from src.framework.sql.exceptions import DatabaseUnavailable
from src.framework.turns import Turns
from src.schemas.changes import Position, position_text
from src.services import feed_service
from src.services.exceptions import TooManyListeners

POLL_SECONDS = 0.5

LISTENERS_PER_QUERY = 250
"""How many listeners one query is for; several queries are spread over POLL_SECONDS."""

SILENT_SECONDS = 12.0
"""After this time without an event, a stream gets a comment; some proxies allow 30 s of silence."""

MOST_CHANGES = 100
"""How many changes an event may have."""

REREAD_SECONDS = 30.0
"""A feed without changes is read this often: a restored database may not know the position."""

EVENT_BYTES = 128 * 1024
"""How long an event's data may be, unless the data is one task. The data waits for the client."""

READERS = 4
"""How many feeds are read at once, so that other requests find connections, too."""

AWAY_MILLISECONDS = 600_000
"""How long a client stays away after its stream was idle."""

logger = logging.getLogger(__name__)


class FeedPage(NamedTuple):
    data: bytes
    position: Position
    more: bool
    next_limit: int
    """How many changes to read for the next event, if changes stay as long as in this page."""


TurnToWrite: TypeAlias = Callable[[], AbstractAsyncContextManager[None]]
"""Waits until other users' streams have had their turns."""


class Stream(Protocol):
    """A stream of events, as in `framework/web/events.py`."""

    loop: asyncio.AbstractEventLoop
    spoke_at: float
    is_in_event: bool

    async def send_event(self, data: bytes, token: str, turn: TurnToWrite) -> None: ...

    async def send_comment(self) -> None: ...

    async def send_retry(self, milliseconds: int) -> None: ...

    async def fail(self, error: Exception) -> None: ...

    async def end(self) -> None: ...


@dataclass(slots=True, eq=False)
class Listener:
    """A client that has heard of all changes up to a position, or of none without a position."""

    user_id: str
    position: Position | None
    hear: Callable[[FeedPage], Awaitable[None]]
    fail: Callable[[Exception], Awaitable[None]]
    stream: Stream | None
    heard_at: float
    read_at: float
    is_waiting: bool = False
    """False until the stream has had its first page."""

    is_busy: bool = False

    is_leaving: bool = False
    """Whether the stream was idle, and tells its client to stay away."""

    limit: int = MOST_CHANGES
    """How many changes the next event may have: fewer while changes are long."""

    def is_behind(self, last: dict[str, int]) -> bool:
        if self.position is None or not self.is_waiting:
            return True
        return last.get(self.user_id, self.position.seq) != self.position.seq


class Listeners:
    """The listeners of one worker, until it is `stopping`: at most `most` of each user.

    A stream that has had no change for `idle_seconds` ends.
    """

    def __init__(
        self, engine: AsyncEngine, stopping: asyncio.Event, idle_seconds: float, most: int
    ) -> None:
        self.engine = engine
        self.stopping = stopping
        self.idle_seconds = idle_seconds
        self.most = most
        self.of_user: Counter[str] = Counter()
        self.listeners: set[Listener] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        self.following: asyncio.Task[None] | None = None
        self.pages: dict[tuple[str, Position | None, int], asyncio.Task[FeedPage]] = {}
        self.reading = Turns(READERS)
        self.writing = Turns(1)
        self.is_database_away = False

    @contextmanager
    def stream(
        self, user_id: str, since: Position | None, stream: Stream
    ) -> Iterator[Callable[[], None]]:
        """Send a stream the changes since a position, and then each change as it happens.

        The stream begins when the caller calls the function that this yields.
        Raises TooManyListeners.
        """
        turn = partial(self.writing.turn, user_id)

        async def hear(page: FeedPage) -> None:
            await stream.send_event(page.data, position_text(page.position), turn)

        now = stream.loop.time()
        listener = Listener(user_id, since, hear, stream.fail, stream, heard_at=now, read_at=now)
        with self._listening(listener):
            yield lambda: self._start(self._serve(listener))

    async def wait(
        self,
        user_id: str,
        since: Position,
        seconds: float,
        is_gone: Awaitable[None],
        is_refused: Awaitable[None],
    ) -> None:
        """Wait for a change after this position, or for the client to leave.

        Raises TooManyListeners, and what `is_refused` raises.
        """
        loop = asyncio.get_running_loop()
        changed = asyncio.Event()

        async def hear(_: object) -> None:
            changed.set()

        now = loop.time()
        listener = Listener(
            user_id, since, hear, hear, None, heard_at=now, read_at=now, is_waiting=True
        )
        ends = [
            asyncio.ensure_future(end)
            for end in (is_refused, changed.wait(), self.stopping.wait(), is_gone)
        ]
        try:
            with self._listening(listener):
                await asyncio.wait(ends, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if ends[0].done():
                ends[0].result()
        finally:
            for end in ends:
                end.cancel()

    @contextmanager
    def _listening(self, listener: Listener) -> Iterator[None]:
        if self.of_user[listener.user_id] >= self.most:
            raise TooManyListeners
        self.of_user[listener.user_id] += 1
        self.listeners.add(listener)
        if self.following is None or self.following.done():
            self.following = asyncio.create_task(self._follow())
        try:
            yield
        finally:
            self.listeners.discard(listener)
            self.of_user[listener.user_id] -= 1
            if not self.of_user[listener.user_id]:
                del self.of_user[listener.user_id]
            if not self.listeners and self.following is not None:
                self.following.cancel()
                self.following = None

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _follow(self) -> None:
        """Serve listeners that are behind; when the worker stops, end all streams."""
        stopping = asyncio.create_task(self.stopping.wait())
        look: asyncio.Task[None] | None = None
        try:
            while self.listeners and not stopping.done():
                listeners = list(self.listeners)
                starts = range(0, len(listeners), LISTENERS_PER_QUERY)
                for start in starts:
                    some = listeners[start : start + LISTENERS_PER_QUERY]
                    look = asyncio.create_task(self._look(some))
                    await asyncio.wait({stopping, look}, return_when=asyncio.FIRST_COMPLETED)
                    look.cancel()
                    await asyncio.wait({stopping}, timeout=POLL_SECONDS / len(starts))
        finally:
            stopping.cancel()
            if look is not None:
                look.cancel()
        for listener in self.listeners:
            if listener.stream is not None:
                self._start(listener.stream.end())

    async def _look(self, listeners: list[Listener]) -> None:
        """Ask once for these listeners, and serve the listeners that are behind."""
        free = [listener for listener in listeners if not listener.is_busy]
        known = [listener for listener in free if listener.position is not None]
        self._keep_open(listeners)
        try:
            last = await feed_service.moved(
                self.engine,
                [listener.user_id for listener in known],
                [listener.position.seq for listener in known if listener.position is not None],
            )
        except DatabaseUnavailable as error:
            if not self.is_database_away:
                logger.warning("Streams wait for the database: %s", error)
            self.is_database_away = True
            return
        except Exception:
            logger.exception("Streams cannot be served")
            return
        self.is_database_away = False
        unread_since = asyncio.get_running_loop().time() - REREAD_SECONDS
        for listener in free:
            is_due = listener.is_behind(last) or listener.read_at < unread_since
            if not listener.is_busy and is_due:
                self._start(self._serve(listener))

    def _keep_open(self, listeners: list[Listener]) -> None:
        """Say something on silent streams, and end idle streams."""
        now = asyncio.get_running_loop().time()
        for listener in listeners:
            stream = listener.stream
            if stream is None or stream.is_in_event or listener.is_leaving:
                continue
            if now - listener.heard_at > self.idle_seconds:
                listener.is_leaving = True
                self._start(_send_away(stream))
            elif now - stream.spoke_at > SILENT_SECONDS:
                self._start(stream.send_comment())

    async def _serve(self, listener: Listener) -> None:
        """Send a listener all changes since its position."""
        listener.is_busy = True
        try:
            more = True
            while more and listener in self.listeners:
                page = await self._page(listener.user_id, listener.position, listener.limit)
                listener.read_at = asyncio.get_running_loop().time()
                if not listener.is_waiting or page.position != listener.position:
                    await listener.hear(page)
                    listener.heard_at = asyncio.get_running_loop().time()
                listener.position, more = page.position, page.more
                listener.limit = page.next_limit
                listener.is_waiting = True
        except DatabaseUnavailable:
            pass  # the listener is still behind
        except Exception as error:
            await listener.fail(error)
        finally:
            listener.is_busy = False

    async def _page(self, user_id: str, since: Position | None, limit: int) -> FeedPage:
        """Read a page once for all listeners at the same position."""
        key = (user_id, since, limit)
        reading = self.pages.get(key)
        if reading is None:
            reading = self.pages[key] = asyncio.create_task(self._read(user_id, since, limit))
            reading.add_done_callback(lambda _: self.pages.pop(key))
        return await reading

    async def _read(self, user_id: str, since: Position | None, limit: int) -> FeedPage:
        """Read as many changes as an event may have, or fewer if their text is too long."""
        while True:
            async with self.reading.turn(user_id):
                found = await feed_service.changes(self.engine, user_id, since, limit)
            with closing(found.content):
                fitting = found.number * EVENT_BYTES // found.content.length
                if fitting < found.number > 1:
                    limit = max(1, fitting)
                    continue
                next_limit = max(1, min(MOST_CHANGES, 2 * limit, fitting or limit))
                return FeedPage(
                    b"".join(found.content.pieces()), found.position, found.more, next_limit
                )


async def _send_away(stream: Stream) -> None:
    await stream.send_retry(AWAY_MILLISECONDS)
    await stream.end()
