"""How much bodies may take: memory while they arrive, time to read them, and values of JSON."""

import asyncio
from weakref import WeakKeyDictionary

from starlette.exceptions import HTTPException
from starlette.types import Scope

from src.framework.turns import Turns

MIB = 1024 * 1024

MOST_OF_ALL = 48 * MIB
"""How many bytes all bodies that arrive in pieces may have together, in this process."""

MOST_OF_USER = 16 * MIB
"""How many of these bytes one user's bodies may have."""

COUNTED_FROM = 64 * 1024
"""A body that arrives at once and has at most this many bytes does not count."""

MOST_VALUES = 10_000
"""How many values a body's JSON may have: a batch of 100 large rows has 4,000."""

REST = 3
"""After a large body, the next large body waits this many times as long as the first took."""

MANY_ERRORS = 50
"""To describe more errors than this takes as long as to read a large body."""

LATER = "Too many large bodies are arriving; try again in a moment"
RETRY_AFTER = 5

held: dict[str | None, int] = {}
"""How many bytes are held for each user, and for all users together under None."""

_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, Turns] = WeakKeyDictionary()

_NO_MARKS = bytes(set(range(256)) - set(b'{[,"'))


def hold(scope: Scope, size: int) -> None:
    """Count this many more bytes for the request, until `release`.

    Raises HTTPException 429 if the user's bodies would take too much, and 503 if all bodies would.
    """
    user: str | None = scope.get("path_params", {}).get("user_id")
    for key, most in ((user, MOST_OF_USER), (None, MOST_OF_ALL)):
        if held.get(key, 0) + size > most:
            raise HTTPException(
                503 if key is None else 429, LATER, {"Retry-After": str(RETRY_AFTER)}
            )
    for key in {user, None}:
        held[key] = held.get(key, 0) + size
    scope["held_bytes"] = scope.get("held_bytes", 0) + size


def release(scope: Scope) -> None:
    """Give back what the request holds, if anything."""
    if (size := scope.pop("held_bytes", 0)) == 0:
        return
    user: str | None = scope.get("path_params", {}).get("user_id")
    for key in {user, None}:
        left = held[key] - size
        if left:
            held[key] = left
        else:
            del held[key]


async def turn_to_work(scope: Scope) -> None:
    """Wait until this request may do work of up to 40 ms. Users take turns, one at a time.

    After each turn, other requests get three times the time that the turn took.
    """
    turns = _turns.setdefault(asyncio.get_running_loop(), Turns(1))
    await turns.work(scope["path_params"].get("user_id"), REST)


def has_too_many_values(body: bytes) -> bool:
    """Whether this JSON has more than MOST_VALUES values. No parser reads the JSON.

    Every value but the first follows a comma, a bracket or a brace outside of a text.
    """
    if len(body) <= MOST_VALUES or _values(body) <= MOST_VALUES:
        return False
    if b"\\" in body:  # first: a text ends at a quotation mark that is not escaped
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    marks = body.translate(None, _NO_MARKS)
    if marks.count(b'"') > 4 * MOST_VALUES:  # a name and a value have two quotation marks each
        return True
    return _values(b"".join(marks.split(b'"')[::2])) > MOST_VALUES


def _values(text: bytes) -> int:
    return text.count(b",") + text.count(b"[") + text.count(b"{")
