"""Time-ordered ids: RFC 9562 §5.7, with sub-millisecond bits by §6.2 method 3."""

import os
import time
from array import array
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_last_tick = 0

MOST_BACK = 2 * 3600 * 1000 << 12
"""Two hours, in ticks."""


RANDOM_NUMBERS = 256
"""How many random numbers come from one call of the system, which takes longer than all else."""


def _random_numbers() -> Iterator[int]:
    """Yield random numbers of 64 bits from the system's source."""
    while True:
        yield from array("Q", os.urandom(8 * RANDOM_NUMBERS))


_numbers = _random_numbers()


def next_tick() -> int:
    """Return the time in 1/4096 ms since 1970, later than any earlier tick.

    A clock that is set back a little cannot break the order within this process. A clock that goes
    back by more than MOST_BACK had jumped ahead, so its new time counts.
    """
    global _last_tick  # noqa: PLW0603 - the one clock of the process
    now = time.time_ns() * 4096 // 1_000_000
    _last_tick = now if _last_tick - now > MOST_BACK else max(now, _last_tick + 1)
    return _last_tick


def uuid7(tick: int) -> UUID:
    """Build the UUID of a tick: 48 bits of ms, 12 bits of 1/4096 ms, 62 random bits."""
    milliseconds, fraction = tick >> 12, tick & 0xFFF
    random = next(_numbers) >> 2
    return UUID(int=milliseconds << 80 | 0x7 << 76 | fraction << 64 | 0b10 << 62 | random)


def instant(tick: int) -> datetime:
    """Return the tick's time in UTC, cut to the microsecond that PostgreSQL keeps."""
    return _EPOCH + timedelta(microseconds=tick * 1000 >> 12)
