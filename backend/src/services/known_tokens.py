"""What one worker knows about personal tokens. After 30 s, the worker asks PostgreSQL again.

If this worker ends a token, it refuses the token at once. The database's clock says when a token
expires. A monotonic clock measures ages, so no expired token works again when somebody sets this
machine's clock back.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from math import inf
from time import monotonic
from typing import NamedTuple, TypeVar
from uuid import UUID

from pydantic_core import from_json
from sqlalchemy.ext.asyncio import AsyncEngine

from src.framework.sql.exceptions import DatabaseUnavailable
from src.framework.turns import Turns
from src.schemas.fields import LONGEST_USER_ID
from src.schemas.personal_token import Scope
from src.services.exceptions import TokenRefused
from src.services.personal_token_service import look_up, note_use
from src.services.token_text import hash_of, is_whole

REMEMBERED_SECONDS = 30.0

MOST_REMEMBERED = 4096
"""How many known tokens are remembered, and how many unknown tokens."""

LOOK_UPS = 2
"""How many look-ups run at once, so that wrong tokens leave connections to others."""

TURN_SECONDS = 4.0
"""How long a look-up waits for its turn."""

NOTED_SECONDS = 3600.0
"""How long to wait before the use of a token is written down again."""

AWAY_SECONDS = 1.0
"""How long a stream waits before its token is looked up again, while the database is away."""

UNKNOWN = "The token is unknown, was ended, or belongs to another user"
CLOSE_SECONDS = 1.0

EXPIRED_ON = "The token expired on {}; make a new token"
MISTYPED = "The token is incomplete or mistyped; copy the whole token"

T = TypeVar("T")


class TokenKey(NamedTuple):
    user_id: str
    hash: bytes


@dataclass(slots=True, eq=False)
class KnownToken:
    """A token as it was at `seen_at`. All moments are monotonic."""

    key: TokenKey
    id: UUID
    scope: Scope
    seen_at: float
    expires_at: float
    last_day: str
    noted_at: float
    ended: asyncio.Future[None]


class KnownTokens:
    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        self.known: dict[TokenKey, KnownToken] = {}
        self.unknown: dict[TokenKey, float] = {}
        self.looking: dict[TokenKey, asyncio.Task[KnownToken | None]] = {}
        self.noting: set[asyncio.Task[None]] = set()
        self.turns = Turns(LOOK_UPS)

    async def close(self) -> None:
        """Let the statements that are under way end."""
        if under_way := [*self.noting, *self.looking.values()]:
            await asyncio.wait(under_way, timeout=CLOSE_SECONDS)

    async def find(self, user_id: str, token: bytes) -> KnownToken:
        """Raises TokenRefused, and DatabaseUnavailable when PostgreSQL cannot be asked."""
        key = TokenKey(user_id, hash_of(token))
        if key not in self.known and not is_whole(token):
            raise TokenRefused(MISTYPED)
        return await self._current(key)

    async def until_refused(self, known: KnownToken) -> None:
        """Wait until the token is no longer valid, and raise TokenRefused."""
        while True:
            seconds = min(known.seen_at + REMEMBERED_SECONDS, known.expires_at) - monotonic()
            await asyncio.wait([known.ended], timeout=max(seconds, 0))
            try:
                known = await self._current(known.key)
            except DatabaseUnavailable:  # streams wait for the database, too
                await asyncio.sleep(AWAY_SECONDS)

    def forget(self, user_id: str, token_id: UUID) -> None:
        """Refuse a token that has ended, from now on."""
        for key in [key for key in self.looking if key.user_id == user_id]:
            del self.looking[key]  # a look-up that runs may still find the token
        for key, known in [*self.known.items()]:
            if known.id == token_id and key.user_id == user_id:
                del self.known[key]
                known.ended.set_result(None)

    async def _current(self, key: TokenKey) -> KnownToken:
        found = self.known.get(key)
        if found is None or found.seen_at + REMEMBERED_SECONDS <= monotonic():
            found = await self._looked_up(key)
        if found is None:
            raise TokenRefused(UNKNOWN)
        if found.expires_at <= monotonic():
            raise TokenRefused(EXPIRED_ON.format(found.last_day))
        return found

    async def _looked_up(self, key: TokenKey) -> KnownToken | None:
        """Look a token up once for all requests that wait. Remember an unknown token, too."""
        # PostgreSQL cannot hold NUL, and Citus refuses to look for an id that is too long.
        is_nobody = "\0" in key.user_id or len(key.user_id) > LONGEST_USER_ID
        if is_nobody or self.unknown.get(key, -inf) + REMEMBERED_SECONDS > monotonic():
            return None
        looking = self.looking.get(key)
        if looking is None:
            looking = self.looking[key] = asyncio.create_task(self._look_up(key))
            looking.add_done_callback(partial(self._end_look_up, key))
        return await asyncio.shield(looking)

    def _end_look_up(self, key: TokenKey, task: asyncio.Task[KnownToken | None]) -> None:
        if self.looking.get(key) is task:
            del self.looking[key]
        if not task.cancelled():
            task.exception()  # whoever waited for it may have left

    async def _look_up(self, key: TokenKey) -> KnownToken | None:
        try:
            async with asyncio.timeout(TURN_SECONDS) as timer, self.turns.turn(key.user_id):
                timer.reschedule(None)
                seen_at = monotonic()
                row = await look_up(self.engine, key.user_id, key.hash)
        except TimeoutError as error:
            raise DatabaseUnavailable("too many tokens wait to be looked up") from error
        found = None if row is None else self._read(key, row, seen_at)
        if self.looking.get(key) is asyncio.current_task():
            if found is None:
                self.known.pop(key, None)
                _remember(self.unknown, key, seen_at)
            else:
                _remember(self.known, key, found)
        return found

    def _read(self, key: TokenKey, row: bytes, seen_at: float) -> KnownToken:
        """Read a row, and write down the use of its token if that is due."""
        columns = from_json(row)
        token_id, seconds_left = UUID(columns["id"]), columns["seconds_left"]
        earlier = self.known.get(key)
        noted_at = -inf if earlier is None else earlier.noted_at
        is_due = columns["is_unnoted"] and noted_at + NOTED_SECONDS <= seen_at
        if is_due and seconds_left > 0:
            noted_at = seen_at
            noting = asyncio.create_task(self._note(key.user_id, token_id))
            self.noting.add(noting)
            noting.add_done_callback(self.noting.discard)
        return KnownToken(
            key,
            token_id,
            columns["scope"],
            seen_at,
            seen_at + seconds_left,
            columns["expires_at"][:10],
            noted_at,
            asyncio.get_running_loop().create_future(),
        )

    async def _note(self, user_id: str, token_id: UUID) -> None:
        with suppress(DatabaseUnavailable):  # as on a standby, which writes nothing
            await note_use(self.engine, user_id, token_id)


def _remember(memory: dict[TokenKey, T], key: TokenKey, value: T) -> None:
    """Store a value as the newest, and forget the oldest beyond MOST_REMEMBERED."""
    memory.pop(key, None)
    if len(memory) >= MOST_REMEMBERED:
        del memory[next(iter(memory))]
    memory[key] = value
